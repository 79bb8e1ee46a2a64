import pytest

from rindle.objectstore.types import (
    NO_ATTRIBUTES,
    Attributes,
    ByteRange,
    MultipartRef,
    PutOptions,
    SuffixRange,
    UpdateVersion,
)


def test_a_multipart_handle_survives_as_text() -> None:
    ref = MultipartRef("é/key", "id")
    assert MultipartRef.from_json(ref.to_json()) == ref


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"key": 1, "multipart_id": "x"}', '{"key": "x"}'])
def test_other_text_is_no_multipart_handle(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        MultipartRef.from_json(text)


def test_options_keep_what_they_were_given_when_the_giver_changes_it() -> None:
    metadata, tags = {"a": "1"}, {"b": "2"}
    options = PutOptions(attributes=Attributes(metadata=metadata), tags=tags)
    metadata["a"] = tags["b"] = "changed"
    assert (options.attributes.metadata, options.tags) == ({"a": "1"}, {"b": "2"})


def test_attributes_are_true_when_there_are_any() -> None:
    assert not NO_ATTRIBUTES
    assert not Attributes(metadata={})
    assert Attributes(metadata={"a": ""})
    assert Attributes(content_type="text/plain")


def test_impossible_values_are_refused_when_they_are_made() -> None:
    for start, end in ((-1, None), (3, 3), (3, 2)):
        with pytest.raises(ValueError, match="not a byte range"):
            ByteRange(start, end)
    with pytest.raises(ValueError, match="not a suffix length"):
        SuffixRange(0)
    with pytest.raises(ValueError, match="needs an e_tag or a version"):
        UpdateVersion()
