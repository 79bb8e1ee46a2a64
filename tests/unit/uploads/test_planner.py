import pytest
from hypothesis import given
from hypothesis import strategies as st

from rindle.objectstore.types import PartLimits
from rindle.uploads.planner import COPY_SIZE, MIB, Segment, plan_joining, plan_part_size

S3 = PartLimits(min_size=5 * MIB, max_size=5 * 1024 * MIB, max_count=10_000, max_object_size=5 * 1024**4)
SMALL = PartLimits(min_size=5, max_size=100, max_count=10_000, max_object_size=2**63 - 1)
UNIFORM = PartLimits(min_size=5, max_size=100, max_count=10_000, max_object_size=2**63 - 1, uniform=True)


@given(st.integers(0, S3.max_object_size), st.integers(1, 64 * MIB))
def test_the_parts_of_any_length_that_s3_takes_fit_its_limits(length: int, preferred: int) -> None:
    size = plan_part_size(length, S3, preferred)
    assert size is not None
    assert S3.min_size <= size <= S3.max_size
    assert -(-length // size) <= S3.max_count


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (0, 5 * MIB),
        (5 * MIB * 10_000, 5 * MIB),
        (5 * MIB * 10_000 + 1, 6 * MIB),
        (5 * 1024**4, 525 * MIB),
    ],
)
def test_parts_grow_in_whole_mib_when_their_number_would_pass_the_limit(length: int, expected: int) -> None:
    assert plan_part_size(length, S3, 5 * MIB) == expected


def test_what_no_number_of_parts_can_hold_has_no_plan() -> None:
    assert plan_part_size(S3.max_object_size + 1, S3, 5 * MIB) is None
    few = PartLimits(min_size=1, max_size=10, max_count=3, max_object_size=1000)
    assert plan_part_size(31, few, 1) is None


sizes = st.lists(st.integers(0, 300), min_size=1, max_size=12)


def flatten(plan: list[list[Segment]]) -> list[tuple[int, int]]:
    return [(segment.source, byte) for part in plan for segment in part for byte in range(segment.start, segment.end)]


@given(sizes)
def test_a_joining_holds_every_byte_of_every_source_once_and_in_order(sizes: list[int]) -> None:
    expected = [(source, byte) for source, size in enumerate(sizes) for byte in range(size)]
    assert flatten(plan_joining(sizes, SMALL, 7)) == expected
    assert flatten(plan_joining(sizes, UNIFORM, 7)) == expected


@given(sizes)
def test_only_the_last_part_of_a_joining_is_below_the_minimum_and_none_above_the_maximum(sizes: list[int]) -> None:
    parts = [sum(segment.size for segment in part) for part in plan_joining(sizes, SMALL, 7)]
    assert all(SMALL.min_size <= size for size in parts[:-1])
    assert all(size <= SMALL.max_size for size in parts)


@given(sizes)
def test_a_uniform_joining_has_parts_of_one_size_but_for_the_last(sizes: list[int]) -> None:
    parts = [sum(segment.size for segment in part) for part in plan_joining(sizes, UNIFORM, 7)]
    assert all(size == 7 for size in parts[:-1])


def test_large_sources_are_copied_in_large_ranges_and_only_small_pieces_are_mixed() -> None:
    plan = plan_joining([COPY_SIZE + 10 * MIB, 3, 20 * MIB], S3, 5 * MIB)
    assert plan == [
        [Segment(0, 0, COPY_SIZE)],
        [Segment(0, COPY_SIZE, COPY_SIZE + 10 * MIB)],
        [Segment(1, 0, 3), Segment(2, 0, 5 * MIB - 3)],
        [Segment(2, 5 * MIB - 3, 20 * MIB)],
    ]


@given(st.lists(st.integers(0, 300), min_size=1, max_size=40), st.integers(1, 10))
def test_a_joining_takes_no_more_parts_than_the_store(sizes: list[int], max_count: int) -> None:
    limits = PartLimits(min_size=5, max_size=10_000, max_count=max_count, max_object_size=2**63 - 1)
    part_size = max(5, -(-sum(sizes) // max_count))
    plan = plan_joining(sizes, limits, part_size)
    assert len(plan) <= max_count
    assert flatten(plan) == [(source, byte) for source, size in enumerate(sizes) for byte in range(size)]
