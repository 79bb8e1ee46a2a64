"""Bodies of writes: an object with what is to be known of it, and a part whose checksum is made on the way."""

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from awscrt import checksums
from typing_extensions import override

from rindle.objectstore.gcs.errors import STORE
from rindle.objectstore.payload import Payload, PayloadCheck, batches
from rindle.objectstore.transfer import RequestBody


class ObjectBody(RequestBody):
    """An object's resource and its bytes, as ``multipart/related`` with this boundary, which nobody could guess."""

    def __init__(
        self, resource: Mapping[str, Any], payload: Payload, *, boundary: str, key: str, patience: float
    ) -> None:
        super().__init__(payload, store=STORE, key=key, digest=False, patience=patience)
        said = json.dumps(dict(resource))
        of_json = f"--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{said}\r\n"
        of_bytes = f"--{boundary}\r\nContent-Type: {resource['contentType']}\r\n\r\n"
        self._head = (of_json + of_bytes).encode()
        self._end = f"\r\n--{boundary}--\r\n".encode()
        self._size = len(self._head) + payload.size + len(self._end)

    @override
    async def checked(self) -> AsyncGenerator[Sequence[bytes], None]:
        yield [self._head]
        async with aclosing(super().checked()) as steps:
            async for chunks in steps:
                yield chunks
        yield [self._end]


class PartBody(RequestBody):
    """A part. ``crc32c`` is that of the bytes that were sent, when they are."""

    def __init__(self, payload: Payload, *, key: str, patience: float) -> None:
        super().__init__(payload, store=STORE, key=key, digest=True, patience=patience)
        self.crc32c = 0

    @override
    async def checked(self) -> AsyncGenerator[Sequence[bytes], None]:
        self.crc32c = 0
        async with aclosing(super().checked()) as steps:
            async for chunks in steps:
                self.crc32c = _crc32c(chunks, self.crc32c)
                yield chunks


async def checksum(payload: Payload, *, key: str) -> int:
    """The CRC-32C of a payload, which is read for it, and checked against its own digest on the way."""
    check = PayloadCheck(payload, store=STORE, key=key)
    crc = 0
    async with aclosing(batches(payload)) as lists:
        async for chunks in lists:
            check.update(chunks)
            crc = _crc32c(chunks, crc)
    check.finish()
    return crc


def _crc32c(chunks: Sequence[bytes], previous: int) -> int:
    for chunk in chunks:
        previous = checksums.crc32c(chunk, previous)
    return previous
