import pytest
from hypothesis import given
from hypothesis import strategies as st

from rindle.uploads.ids import is_upload_id, new_upload_id


@pytest.mark.invariant("I18")
def test_an_id_is_an_id_and_no_two_are_alike() -> None:
    made = {new_upload_id() for _ in range(1000)}
    assert len(made) == 1000
    assert all(is_upload_id(upload_id) for upload_id in made)


def test_ids_made_later_sort_later_by_the_second() -> None:
    first = new_upload_id()
    assert new_upload_id()[:6] >= first[:6]


@given(st.text(max_size=40))
def test_nothing_else_is_an_id(text: str) -> None:
    alphabet = set("0123456789abcdefghijklmnopqrstuv")
    assert is_upload_id(text) == (len(text) == 32 and set(text) <= alphabet)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".." * 16,
        "a" * 31,
        "a" * 33,
        "A" * 32,
        "w" * 32,
        "a" * 31 + "\n",
        "a" * 32 + "\n",
        "a" * 31 + "\0",
        "٣" * 32,
    ],
)
def test_near_misses_are_no_ids(text: str) -> None:
    assert not is_upload_id(text)
