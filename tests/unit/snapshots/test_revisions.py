import pytest
from hypothesis import given
from hypothesis import strategies as st

from rindle.snapshots.revisions import is_revision, make_revision, sort_revisions

SECOND = 1_767_355_200_000_000_000  # 2026-01-02T12:00:00Z


def test_all_revisions_have_one_width() -> None:
    assert make_revision(SECOND) == "2026-01-02T12:00:00.000000000Z"
    assert make_revision(SECOND + 1) == "2026-01-02T12:00:00.000000001Z"
    assert make_revision(SECOND + 100_000_000) == "2026-01-02T12:00:00.100000000Z"
    assert make_revision(SECOND, 1) == "2026-01-02T12:00:00.000000000Z_01"
    assert make_revision(SECOND, 99) == "2026-01-02T12:00:00.000000000Z_99"


def test_older_ones_are_known_by_their_time_and_number() -> None:
    golden = [
        "2026-01-02T12:00:00Z",
        "2026-01-02T12:00:00Z_2",
        "2026-01-02T12:00:00Z_10",
        "2026-01-02T12:00:00.1Z",
        "2026-01-02T12:00:01Z",
        "invalid-a",
        "invalid-z",
    ]
    given_ = [golden[index] for index in (5, 2, 4, 0, 6, 3, 1)]
    before = list(given_)
    assert sort_revisions(given_) == golden
    assert given_ == before
    assert sort_revisions([]) == []


def test_older_ones_and_new_ones_are_sorted_together() -> None:
    mixed = [
        "2026-01-02T12:00:00Z",
        "2026-01-02T12:00:00.000000000Z_01",
        "2026-01-02T12:00:00.000000001Z",
        "2026-01-02T12:00:00.09Z",
        "2026-01-02T12:00:00.100000000Z",
    ]
    assert sort_revisions(reversed(mixed)) == mixed


@given(st.lists(st.tuples(st.integers(0, 2**62), st.integers(0, 99)), unique=True))
def test_sorted_by_text_they_are_sorted_by_time(moments: list[tuple[int, int]]) -> None:
    revisions = [make_revision(*moment) for moment in sorted(moments)]
    assert sorted(revisions) == revisions == sort_revisions(reversed(revisions))


@pytest.mark.parametrize("name", ["2026-01-02T12:00:00.1Z", "2026-01-02T12:00:00Z_2", make_revision(SECOND, 7)])
def test_what_is_a_revision(name: str) -> None:
    assert is_revision(name)


@pytest.mark.parametrize(
    "name", ["", "invalid", "2026-01-02", "2026-01-02T12:00:00", "2026-01-02T12:00:00Z_", "2026-01-02T12:00:00Z\n"]
)
def test_what_is_none(name: str) -> None:
    assert not is_revision(name)
