"""How bytes are cut into parts: pure functions of an upload's length and the store's limits."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rindle.objectstore.types import PartLimits

MIB = 1 << 20
# A server-side copy in ranges of this size: few enough calls, and each short enough to be answered in time.
COPY_SIZE = 1024 * MIB


def plan_part_size(expected: int, limits: PartLimits, preferred: int) -> int | None:
    """One size for all parts but the last, so that part n always covers the same bytes.

    ``expected`` is the upload's length, or the most it may become while that is deferred. At least ``preferred`` and
    the store's minimum, larger as the number of parts would pass the store's limit, in whole MiB. None: the store
    cannot hold an object of that size.
    """
    if expected > limits.max_object_size:
        return None
    size = max(preferred, limits.min_size)
    if size * limits.max_count < expected:
        size = -(-expected // limits.max_count)
        size = -(-size // MIB) * MIB
    return size if size <= limits.max_size else None


@dataclass(frozen=True, slots=True)
class Segment:
    """Bytes ``start`` up to ``end`` of source number ``source``."""

    source: int
    start: int
    end: int

    @property
    def size(self) -> int:
        """How many bytes."""
        return self.end - self.start


def plan_joining(sizes: Sequence[int], limits: PartLimits, part_size: int) -> list[list[Segment]]:
    """The parts of a concatenation, each as the segments it is made of; one segment can be copied inside the store.

    Where the store wants uniform parts, all have ``part_size``. Elsewhere sources are copied whole in large ranges,
    and only pieces below the store's minimum are joined with what follows them; unless that takes too many parts.
    """
    if not limits.uniform:
        parts = [list(part) for part in _large_parts(sizes, limits)]
        if len(parts) <= limits.max_count:
            return parts
    return [list(part) for part in _uniform_parts(sizes, part_size)]


def _uniform_parts(sizes: Sequence[int], part_size: int) -> Iterator[list[Segment]]:
    part: list[Segment] = []
    room = part_size
    for source, size in enumerate(sizes):
        start = 0
        while start < size:
            end = min(size, start + room)
            part.append(Segment(source, start, end))
            room -= end - start
            start = end
            if room == 0:
                yield part
                part, room = [], part_size
    if part:
        yield part


def _large_parts(sizes: Sequence[int], limits: PartLimits) -> Iterator[list[Segment]]:
    most = min(COPY_SIZE, limits.max_size)
    part: list[Segment] = []
    held = 0
    for source, size in enumerate(sizes):
        start = 0
        while start < size:
            # An unfinished part takes only what it lacks; a fresh one as much as one copy may.
            end = min(size, start + (limits.min_size - held if part else most))
            part.append(Segment(source, start, end))
            held += end - start
            start = end
            if held >= limits.min_size:
                yield part
                part, held = [], 0
    if part:
        yield part
