"""Files that exist only as a seed and a size: any range of them is made in no time, and no two MiB are alike."""

import hashlib
import random
from collections.abc import Iterator

_BLOCK = 1 << 20


class Pattern:
    """``size`` bytes that follow from ``seed``."""

    def __init__(self, seed: int, size: int) -> None:
        self.size = size
        self._noise = random.Random(seed).randbytes(2 * _BLOCK)

    def read(self, start: int) -> Iterator[bytes]:
        """All bytes from ``start``, in blocks."""
        while start < self.size:
            number, skipped = divmod(start, _BLOCK)
            block = self._make(number)[skipped : min(_BLOCK, skipped + self.size - start)]
            start += len(block)
            yield block

    def digest(self) -> str:
        """SHA-256 of the whole."""
        digest = hashlib.sha256()
        for block in self.read(0):
            digest.update(block)
        return digest.hexdigest()

    def _make(self, number: int) -> bytes:
        label = number.to_bytes(8, "big")
        shift = number * 7919 % _BLOCK
        return label + self._noise[shift : shift + _BLOCK - len(label)]
