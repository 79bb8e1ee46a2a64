"""What may be given to a write, and what becomes of it: a payload where the size is known, else a stream of chunks."""

import asyncio
import inspect
import os
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable
from pathlib import Path
from typing import IO, Any

from rindle.objectstore.payload import BytesPayload, FilePayload, Payload
from rindle.objectstore.streams import asynchronous

Chunk = bytes | bytearray | memoryview
SizedBody = Payload | Chunk | os.PathLike[str]
Body = SizedBody | IO[bytes] | AsyncIterable[Chunk] | Iterable[Chunk]
"""Bytes, a path, a file opened in binary mode, or an iterable of chunks, asynchronous or not."""


_READ_SIZE = 1 << 20


async def open_body(body: Body) -> Payload | AsyncGenerator[bytes, None]:
    """The payload or the chunks that a body stands for. TypeError if it is none; OSError if its file is not there.

    What can change while it is written is copied (``bytearray``, ``memoryview``), but for files. A file that is open is
    read from where it stands, in a thread; a plain iterable where the caller is, on the event loop.
    """
    return await _find_payload(body) or _open_stream(body)


async def open_sized_body(body: SizedBody) -> Payload:
    """As :func:`open_body`, of what has a size. TypeError for what has none."""
    payload = await _find_payload(body)
    if payload is None:
        msg = f"the size of this body must be known: give bytes or a path, not {type(body).__name__}"
        raise TypeError(msg)
    return payload


async def _find_payload(body: object) -> Payload | None:
    match body:
        case Payload():
            return body
        case bytes():
            return BytesPayload(body)
        case bytearray() | memoryview():
            return BytesPayload(bytes(body))
        case os.PathLike():
            return await FilePayload.of(Path(body))
        case _:
            return None


def _open_stream(body: object) -> AsyncGenerator[bytes, None]:
    match body:
        case str():
            msg = "text is no body: encode it; or make it a Path, if it names a file"
            raise TypeError(msg)
        case _ if hasattr(body, "read") and hasattr(body, "readline"):
            return _read_file(body.read)
        case AsyncIterable():
            return _checked(body)
        case Iterable():
            return _checked(asynchronous(body))
        case _:
            msg = f"no body: {type(body).__name__}; give bytes, a path, an open file, or an iterable of bytes"
            raise TypeError(msg)


async def _read_file(read: Callable[[int], Any]) -> AsyncGenerator[bytes, None]:
    waits = inspect.iscoroutinefunction(read)
    while chunk := await (read(_READ_SIZE) if waits else asyncio.to_thread(read, _READ_SIZE)):
        yield as_bytes(chunk)


async def _checked(chunks: AsyncIterable[object]) -> AsyncGenerator[bytes, None]:
    async for chunk in chunks:
        yield as_bytes(chunk)


def as_bytes(chunk: object) -> bytes:
    """A chunk of a body; one that could change is copied. TypeError for what is none."""
    match chunk:
        case bytes():
            return chunk
        case bytearray() | memoryview():
            return bytes(chunk)
        case _:
            msg = f"a body is made of bytes, not of {type(chunk).__name__}"
            raise TypeError(msg)
