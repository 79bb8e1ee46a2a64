"""The digest that a client gives with its bytes (Upload-Checksum), run over them as they are received."""

import hashlib
import hmac
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from awscrt import checksums


def combine_crc64nvme(pieces: Iterable[tuple[int | None, int]]) -> int | None:
    """The CRC-64/NVME of pieces in a row, each given by its own and its size; None if one of them is not known."""
    whole = 0
    for crc, size in pieces:
        if crc is None:
            return None
        whole = checksums.combine_crc64nvme(whole, crc, size)
    return whole


class _Digest(Protocol):
    def update(self, data: bytes, /) -> None: ...

    def digest(self) -> bytes: ...


class _Crc32:
    """A CRC of 32 bits with the interface of hashlib; the digest is big-endian, as S3 and tusd write it."""

    def __init__(self, function: Callable[[bytes, int], int]) -> None:
        self._function = function
        self._value = 0

    def update(self, data: bytes, /) -> None:
        self._value = self._function(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(4, "big")


# Not for security: they find bytes that were bent on the way (tus 1.0, "Checksum"; sha1 is the one a server must know).
_ALGORITHMS: dict[str, tuple[Callable[[], _Digest], int]] = {
    "sha1": (lambda: hashlib.sha1(usedforsecurity=False), 20),
    "sha256": (hashlib.sha256, 32),
    "sha512": (hashlib.sha512, 64),
    "md5": (lambda: hashlib.md5(usedforsecurity=False), 16),
    "crc32": (lambda: _Crc32(zlib.crc32), 4),
    "crc32c": (lambda: _Crc32(checksums.crc32c), 4),
}
CHECKSUM_ALGORITHMS = tuple(_ALGORITHMS)


@dataclass(frozen=True, slots=True)
class Checksum:
    """What the bytes of one request must digest to. ValueError for an unknown algorithm or a digest of a wrong size."""

    algorithm: str
    value: bytes

    def __post_init__(self) -> None:
        if self.algorithm not in _ALGORITHMS:
            msg = f"unknown checksum algorithm; known are {', '.join(CHECKSUM_ALGORITHMS)}"
            raise ValueError(msg)
        size = _ALGORITHMS[self.algorithm][1]
        if len(self.value) != size:
            msg = f"a {self.algorithm} checksum has {size} bytes, not {len(self.value)}"
            raise ValueError(msg)

    def verifier(self) -> "Verifier":
        """A running digest to compare in the end."""
        return Verifier(self)


class Verifier:
    """Digests the bytes of one request as they come."""

    def __init__(self, checksum: Checksum) -> None:
        self._expected = checksum.value
        self._digest = _ALGORITHMS[checksum.algorithm][0]()

    def update(self, data: bytes) -> None:
        """Take the next bytes."""
        self._digest.update(data)

    def matches(self) -> bool:
        """Whether the bytes so far are the ones that were meant."""
        return hmac.compare_digest(self._digest.digest(), self._expected)
