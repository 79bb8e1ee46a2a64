from pathlib import PurePosixPath

import pytest

from rindle.objectstore.errors import InvalidKeyError
from rindle.objectstore.keys import MAX_KEY_BYTES, validate_key, validate_prefix


def test_a_key_may_be_given_as_a_path() -> None:
    assert validate_key(PurePosixPath("a/b.txt"), store="memory") == "a/b.txt"


def test_the_longest_key_is_counted_in_bytes() -> None:
    assert validate_key("é" * (MAX_KEY_BYTES // 2), store="memory")
    with pytest.raises(InvalidKeyError, match="1025"):
        validate_key("é" * (MAX_KEY_BYTES // 2) + "x", store="memory")


@pytest.mark.parametrize("key", ["", "/a", "a/", "a//b", "..", "a/./b", "a\tb", "a\x7f", "\udcff"], ids=ascii)
def test_an_invalid_key_is_also_a_value_error_that_names_the_store(key: str) -> None:
    with pytest.raises(ValueError, match=r"^somewhere: a key must"):
        validate_key(key, store="somewhere")


@pytest.mark.parametrize("prefix", ["", "a", "a/", "a//", "../", "."])
def test_a_prefix_may_be_any_text(prefix: str) -> None:
    assert validate_prefix(prefix, store="memory") == prefix


@pytest.mark.parametrize("prefix", ["a\nb", "\ud800", "x" * 1025], ids=ascii)
def test_a_prefix_that_no_key_could_start_with_is_refused(prefix: str) -> None:
    with pytest.raises(InvalidKeyError):
        validate_prefix(prefix, store="memory")
