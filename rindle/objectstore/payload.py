"""Bodies of writes: a known size, and readable from the start as often as a retry needs it."""

import asyncio
import os
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import aiofiles
from aiofiles.threadpool.binary import AsyncFileIO
from awscrt import checksums
from typing_extensions import override

from rindle.objectstore.errors import IntegrityError
from rindle.objectstore.tasks import outlast

BATCH_SIZE = 4 << 20

# As large as the chunks that come from a network, so that memory which these have left can be used again; and two at
# a time, because a thread is asked for them.
_CHUNK = 1 << 18
_CHUNKS = 2


class Payload(ABC):
    """Bytes to write, of a size that is known before the first one is sent.

    Each iteration starts at the first byte, so that a write can be tried again. ``crc64nvme`` is the
    CRC-64/NVME of all bytes where the caller knows it: a store that can checks the bytes against it
    (IntegrityError) instead of trusting the way they took.
    """

    def __init__(self, size: int, crc64nvme: int | None = None) -> None:
        self.size = size
        self.crc64nvme = crc64nvme

    @abstractmethod
    def __aiter__(self) -> AsyncIterator[bytes]:
        """The bytes from the start, in chunks of any size."""


class BytesPayload(Payload):
    """Chunks in memory; they are neither joined nor copied."""

    def __init__(self, *chunks: bytes, crc64nvme: int | None = None) -> None:
        super().__init__(sum(map(len, chunks)), crc64nvme)
        self.chunks: Sequence[bytes] = chunks

    @override
    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self.chunks:
            yield chunk


class FilePayload(Payload):
    """``size`` bytes of a file from ``offset`` on. The file must not change until the write is done."""

    def __init__(self, path: Path, *, offset: int = 0, size: int, crc64nvme: int | None = None) -> None:
        super().__init__(size, crc64nvme)
        self.path = path
        self.offset = offset

    @classmethod
    async def of(cls, path: Path) -> "FilePayload":
        """A whole file, as large as it is now."""
        status = await asyncio.to_thread(path.stat)
        return cls(path, size=status.st_size)

    def slices(self, size: int) -> "Iterator[FilePayload]":
        """The same bytes in payloads of ``size``, the last one shorter."""
        for start in range(0, self.size, size):
            yield FilePayload(self.path, offset=self.offset + start, size=min(size, self.size - start))

    @override
    async def __aiter__(self) -> AsyncIterator[bytes]:
        position, end = self.offset, self.offset + self.size
        async with _opened(self.path) as file:
            while position < end:
                chunks = await asyncio.to_thread(_read, file.fileno(), position, end)
                if not chunks:
                    msg = f"{self.path} ended {end - position} bytes before the size it had"
                    raise OSError(msg)
                position += sum(map(len, chunks))
                for chunk in chunks:
                    yield chunk


def _read(file: int, position: int, end: int) -> list[bytes]:
    chunks: list[bytes] = []
    while position < end and len(chunks) < _CHUNKS and (chunk := os.pread(file, min(_CHUNK, end - position), position)):
        chunks.append(chunk)
        position += len(chunk)
    return chunks


@asynccontextmanager
async def _opened(path: Path) -> AsyncIterator[AsyncFileIO]:
    """A file to read, which is closed whenever its reader is cancelled."""
    opening = asyncio.ensure_future(aiofiles.open(path, "rb", buffering=0))
    try:
        yield await asyncio.shield(opening)
    finally:
        await outlast(opening)
        if opening.exception() is None:
            await asyncio.shield(opening.result().close())


class JoinedPayload(Payload):
    """Payloads one after another."""

    def __init__(self, parts: Iterable[Payload], crc64nvme: int | None = None) -> None:
        self.parts = tuple(parts)
        super().__init__(sum(part.size for part in self.parts), crc64nvme)

    @override
    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self.parts:
            async with _reading(part) as chunks:
                async for chunk in chunks:
                    yield chunk


async def batches(source: AsyncIterable[bytes], size: int = BATCH_SIZE) -> AsyncGenerator[Sequence[bytes], None]:
    """The chunks of a payload or stream in lists of about ``size`` bytes, each worth a thread's while; none is joined.

    Close it (``aclosing``) when it is left before the end, and the source's own file or stream is closed with it.
    """
    batch: list[bytes] = []
    filled = 0
    async with _reading(source) as chunks:
        async for chunk in chunks:
            batch.append(chunk)
            filled += len(chunk)
            if filled >= size:
                yield batch
                batch, filled = [], 0
    if batch:
        yield batch


@asynccontextmanager
async def _reading(source: AsyncIterable[bytes]) -> AsyncIterator[AsyncIterator[bytes]]:
    chunks = aiter(source)
    if isinstance(chunks, AsyncGenerator):
        async with aclosing(chunks):
            yield chunks
    else:
        yield chunks


def crc64nvme(data: bytes, previous: int = 0) -> int:
    """CRC-64/NVME of the bytes before (``previous``) and these; what a payload may say of itself."""
    value: int = checksums.crc64nvme(data, previous)
    return value


class PayloadCheck:
    """Looks at the bytes of a payload on their way and refuses those that are not the ones it named.

    IntegrityError from :meth:`update` as soon as there are too many, so that none of the surplus is written; from
    :meth:`finish` when there were too few or their digest is another. Without ``digest`` only the size counts: for a
    store that checks the digest itself.
    """

    def __init__(self, payload: Payload, *, store: str, key: str, digest: bool = True) -> None:
        self._payload = payload
        self._expected = payload.crc64nvme if digest else None
        self._store = store
        self._key = key
        self._size = 0
        self._crc64nvme = 0

    def update(self, chunks: Iterable[bytes]) -> None:
        """Take the next bytes; may be called in a thread."""
        for chunk in chunks:
            self._size += len(chunk)
            if self._expected is not None:
                self._crc64nvme = crc64nvme(chunk, self._crc64nvme)
        if self._size > self._payload.size:
            msg = f"the payload gave more than the {self._payload.size} bytes that it said"
            raise IntegrityError(msg, store=self._store, key=self._key)

    def finish(self) -> None:
        """There are no more bytes."""
        if self._size != self._payload.size:
            msg = f"the payload gave {self._size} bytes and had said {self._payload.size}"
            raise IntegrityError(msg, store=self._store, key=self._key)
        if self._expected not in {None, self._crc64nvme}:
            msg = f"the payload's CRC-64/NVME is {self._crc64nvme:016x} and had been said to be another"
            raise IntegrityError(msg, store=self._store, key=self._key)
