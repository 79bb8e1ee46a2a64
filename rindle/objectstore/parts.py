"""Which parts make an object, under a store's part limits: one answer for the stores that assemble themselves."""

from collections.abc import Sequence
from itertools import pairwise

from rindle.objectstore.errors import InvalidPartError
from rindle.objectstore.types import MultipartRef, PartLimits, PartMeta


def check_part_fits(size: int, part_size: int | None, limits: PartLimits, *, store: str, ref: MultipartRef) -> None:
    """InvalidPartError for a part that could be neither the last nor another one of a uniform multipart."""
    if limits.uniform and part_size is not None and size > part_size:
        msg = f"the parts of this multipart hold {part_size} bytes, the last one perhaps fewer, not {size}"
        raise InvalidPartError(msg, store=store, key=ref.key)


def check_named(found: PartMeta | None, named: PartMeta, *, store: str, ref: MultipartRef) -> PartMeta:
    """What was found under a part's number, if it is the one that is named; else InvalidPartError."""
    if found is None or found.e_tag != named.e_tag:
        msg = f"part {named.part_number} is not there, or is another attempt's"
        raise InvalidPartError(msg, store=store, key=ref.key)
    return found


def check_assembly(
    parts: Sequence[PartMeta], part_size: int | None, limits: PartLimits, *, store: str, ref: MultipartRef
) -> None:
    """InvalidPartError when these parts, each of them there, are not an object together."""
    problem = _problem(parts, part_size, limits)
    if problem is not None:
        raise InvalidPartError(problem, store=store, key=ref.key)


def _problem(parts: Sequence[PartMeta], part_size: int | None, limits: PartLimits) -> str | None:
    *full, _ = parts
    if limits.consecutive and (parts[0].part_number != 1 or any(b - a != 1 for a, b in pairwise(_numbers(parts)))):
        return "part numbers must be 1, 2, 3 … without gaps"
    if any(part.size < limits.min_size for part in full):
        return f"every part but the last holds at least {limits.min_size} bytes"
    if limits.uniform and any(part.size != part_size for part in full):
        return f"every part but the last holds {part_size} bytes"
    if sum(part.size for part in parts) > limits.max_object_size:
        return f"an object holds at most {limits.max_object_size} bytes"
    return None


def _numbers(parts: Sequence[PartMeta]) -> Sequence[int]:
    return [part.part_number for part in parts]
