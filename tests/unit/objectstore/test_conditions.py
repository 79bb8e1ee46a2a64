from datetime import UTC, datetime, timedelta

import pytest

from rindle.objectstore.conditions import check_conditions, resolve_range
from rindle.objectstore.errors import InvalidRangeError, NotModifiedError, PreconditionFailedError
from rindle.objectstore.types import ByteRange, GetOptions, ObjectMeta, SuffixRange

MODIFIED = datetime(2026, 1, 2, 3, 4, 5, 678_900, UTC)
WHOLE = MODIFIED.replace(microsecond=0)
SECOND = timedelta(seconds=1)
META = ObjectMeta(key="key", size=10, last_modified=MODIFIED, e_tag="abc-1")


@pytest.mark.parametrize(
    "options",
    [
        GetOptions(),
        GetOptions(if_match="abc-1"),
        GetOptions(if_match='"abc-1"'),
        GetOptions(if_match=' "x" ,"abc-1" '),
        GetOptions(if_match='"a,b", "abc-1"'),
        GetOptions(if_match="x,abc-1"),
        GetOptions(if_match=" * "),
        GetOptions(if_unmodified_since=WHOLE),
        GetOptions(if_unmodified_since=WHOLE + SECOND),
        GetOptions(if_match="abc-1", if_unmodified_since=WHOLE - SECOND),
        GetOptions(if_none_match='"x", "y"'),
        GetOptions(if_none_match="abc"),
        GetOptions(if_none_match='"a,abc-1"'),
        GetOptions(if_modified_since=WHOLE - SECOND),
        GetOptions(if_none_match="x", if_modified_since=WHOLE),
    ],
)
def test_an_object_passes_conditions_that_hold(options: GetOptions) -> None:
    check_conditions(META, options, store="memory")


@pytest.mark.parametrize(
    "options",
    [
        GetOptions(if_match="x"),
        GetOptions(if_match=""),
        GetOptions(if_match='"abc"'),
        GetOptions(if_match='W/"abc-1"'),  # a weak one never matches strongly
        GetOptions(if_match='"*"'),
        GetOptions(if_unmodified_since=WHOLE - SECOND),
        GetOptions(if_match="x", if_unmodified_since=WHOLE),
        GetOptions(if_match="x", if_none_match="abc-1"),
        GetOptions(if_unmodified_since=WHOLE - SECOND, if_none_match="abc-1"),
    ],
)
def test_a_precondition_that_fails_is_said_first(options: GetOptions) -> None:
    with pytest.raises(PreconditionFailedError):
        check_conditions(META, options, store="memory")


@pytest.mark.parametrize(
    "options",
    [
        GetOptions(if_none_match="abc-1"),
        GetOptions(if_none_match='"abc-1"'),
        GetOptions(if_none_match='W/"abc-1"'),
        GetOptions(if_none_match='"x", W/"abc-1"'),
        GetOptions(if_none_match="*"),
        GetOptions(if_modified_since=WHOLE),
        GetOptions(if_modified_since=MODIFIED),
        GetOptions(if_modified_since=WHOLE + SECOND),
        GetOptions(if_none_match="abc-1", if_modified_since=WHOLE - SECOND),
        GetOptions(if_match="abc-1", if_none_match="abc-1"),
        GetOptions(if_unmodified_since=WHOLE, if_modified_since=WHOLE),
    ],
)
def test_an_object_that_the_caller_has_is_not_modified(options: GetOptions) -> None:
    with pytest.raises(NotModifiedError):
        check_conditions(META, options, store="memory")


def test_an_object_without_an_e_tag_matches_any_and_no_other() -> None:
    meta = ObjectMeta(key="key", size=1, last_modified=MODIFIED)
    check_conditions(meta, GetOptions(if_match="*", if_none_match="x"), store="memory")
    with pytest.raises(PreconditionFailedError):
        check_conditions(meta, GetOptions(if_match="None"), store="memory")


@pytest.mark.parametrize(
    ("requested", "size", "expected"),
    [
        (None, 10, (0, 10)),
        (None, 0, (0, 0)),
        (ByteRange(0), 10, (0, 10)),
        (ByteRange(9, 10), 10, (9, 10)),
        (ByteRange(3, 99), 10, (3, 10)),
        (SuffixRange(3), 10, (7, 10)),
        (SuffixRange(99), 10, (0, 10)),
    ],
)
def test_a_range_is_cut_to_the_object(
    requested: ByteRange | SuffixRange | None, size: int, expected: tuple[int, int]
) -> None:
    assert resolve_range(requested, size, store="memory", key="key") == expected


@pytest.mark.parametrize(
    ("requested", "size"), [(ByteRange(10), 10), (ByteRange(11, 12), 10), (ByteRange(0), 0), (SuffixRange(1), 0)]
)
def test_a_range_that_holds_no_byte_is_an_error(requested: ByteRange | SuffixRange, size: int) -> None:
    with pytest.raises(InvalidRangeError, match=f"has {size} bytes"):
        resolve_range(requested, size, store="memory", key="key")
