"""Bytes to send: other ones for every upload, so that none can be taken for another's, and known by their digest."""

import random
from collections.abc import Iterator
from functools import cached_property

from rindle.objectstore.payload import crc64nvme

MIB = 1 << 20

_BLOCK = memoryview(random.Random(0).randbytes(16 * MIB))
_SLICE = 256 * 1024
_STRIDE = 1_000_003  # a prime: upload number n begins elsewhere in the block than any of the millions before it

Digest = tuple[int, int]
"""The size and the CRC-64/NVME of an object."""


class Pattern:
    """The bytes of upload ``number``: one block, over and over, begun somewhere in it."""

    def __init__(self, number: int, size: int) -> None:
        self.size = size
        self._shift = number * _STRIDE % len(_BLOCK)

    def chunks(self, start: int = 0, end: int | None = None) -> Iterator[memoryview]:
        """Slices of the block; nothing is copied."""
        end = self.size if end is None else end
        while start < end:
            at = (self._shift + start) % len(_BLOCK)
            chunk = _BLOCK[at : min(at + _SLICE, at + end - start)]
            start += len(chunk)
            yield chunk

    @cached_property
    def digest(self) -> Digest:
        """What the object has to be."""
        crc = 0
        for chunk in self.chunks():
            crc = crc64nvme(bytes(chunk), crc)
        return self.size, crc
