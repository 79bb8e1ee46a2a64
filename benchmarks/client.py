"""The client that drives all servers: HTTP/1.1 on one connection, with no more work for a request than it takes."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlsplit

import httptools
from typing_extensions import override

_WINDOW = 1 << 20  # bytes that may wait for the socket


@dataclass(slots=True)
class Answer:
    """One response; the names of its headers are in lower case."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


class UnexpectedAnswerError(Exception):
    """A server did not do what every server does that follows the protocol."""


class Connection(asyncio.Protocol):
    """One request after another. ConnectionError, from whatever waits, when the server closes it."""

    def __init__(self) -> None:
        self.host = ""
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._method = ""
        self._answer = Answer()
        self._answered: asyncio.Future[Answer] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._lost = False

    # A request

    def begin(self, method: str, target: str, headers: dict[str, str]) -> None:
        """Send a head; then :meth:`send` the body, and ask for the :meth:`answer`."""
        if self._lost:
            raise ConnectionResetError
        assert self._transport is not None
        lines = [f"{method} {target} HTTP/1.1", f"Host: {self.host}", *(f"{key}: {headers[key]}" for key in headers)]
        self._method = method
        self._answered = asyncio.get_running_loop().create_future()
        self._transport.write("\r\n".join([*lines, "", ""]).encode())

    async def send(self, chunks: Iterable[memoryview | bytes]) -> None:
        """Send bytes of the body, up to the answer, should it come before its time."""
        assert self._transport is not None
        assert self._answered is not None
        for chunk in chunks:
            if self._answered.done():
                return
            self._transport.write(chunk)
            if not self._writable.is_set():
                await self._writable.wait()

    async def answer(self, *statuses: int) -> Answer:
        """What the server said. UnexpectedAnswerError if it is none of these statuses."""
        assert self._answered is not None
        answer = await self._answered
        if answer.status not in statuses:
            said = answer.body[:200].decode(errors="replace").strip()
            msg = f"{self._method}: {answer.status} {said}"
            raise UnexpectedAnswerError(msg)
        return answer

    def close(self) -> None:
        """Hang up."""
        if self._answered is not None:
            self._answered.cancel()
        if self._transport is not None:
            self._transport.abort()

    # What asyncio calls

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=_WINDOW)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._writable.set()
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(ConnectionResetError("the server hung up"))

    @override
    def pause_writing(self) -> None:
        self._writable.clear()

    @override
    def resume_writing(self) -> None:
        self._writable.set()

    @override
    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    # What httptools calls

    def on_message_begin(self) -> None:
        self._answer = Answer()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._answer.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self._answer.status = self._parser.get_status_code()
        if self._method == "HEAD":
            # Its length is that of a body which does not come, and the parser cannot be told: the next one begins anew.
            self._parser = httptools.HttpResponseParser(self)
            self._finish()

    def on_body(self, body: bytes) -> None:
        self._answer.body += body

    def on_message_complete(self) -> None:
        if self._answer.status >= 200:  # noqa: PLR2004 - 100 Continue, and what else is no answer yet
            self._finish()

    def _finish(self) -> None:
        if self._answered is not None and not self._answered.done():
            self._answered.set_result(self._answer)


@asynccontextmanager
async def connect(url: str, *, trust: str | None = None) -> AsyncIterator[Connection]:
    """A connection to the server of this URL. ``trust``: the file with the certificate of one that speaks TLS."""
    parts = urlsplit(url)
    context = ssl.create_default_context(cafile=trust) if parts.scheme == "https" else None
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(Connection, str(parts.hostname), parts.port or 80, ssl=context)
    connection.host = parts.netloc
    try:
        yield connection
    finally:
        connection.close()


class TusClient:
    """The few requests of tus that uploads are made of, on one connection."""

    def __init__(self, connection: Connection, collection: str) -> None:
        self._connection = connection
        self._collection = collection

    async def create(self, length: int, chunks: Iterable[memoryview] | None = None) -> str:
        """A new upload, with all its bytes if there are any; its path."""
        headers = {"Tus-Resumable": "1.0.0", "Upload-Length": str(length)}
        if chunks is None:
            headers["Content-Length"] = "0"
        else:
            headers |= {"Content-Length": str(length), "Content-Type": "application/offset+octet-stream"}
        self._connection.begin("POST", self._collection, headers)
        await self._connection.send(chunks or ())
        answer = await self._connection.answer(201)
        if chunks is not None:
            _check_offset(answer, length)
        return urlsplit(answer.headers["location"]).path

    def begin_append(self, path: str, offset: int, size: int) -> None:
        """Send the head of a PATCH with ``size`` bytes."""
        headers = {
            "Tus-Resumable": "1.0.0",
            "Upload-Offset": str(offset),
            "Content-Length": str(size),
            "Content-Type": "application/offset+octet-stream",
        }
        self._connection.begin("PATCH", path, headers)

    async def send(self, chunks: Iterable[memoryview]) -> None:
        """Send bytes of what was begun."""
        await self._connection.send(chunks)

    async def end_append(self, offset: int) -> None:
        """Have it said that all bytes up to ``offset`` are there."""
        _check_offset(await self._connection.answer(204), offset)

    async def append(self, path: str, offset: int, size: int, chunks: Iterable[memoryview]) -> None:
        """One PATCH from its head to its answer."""
        self.begin_append(path, offset, size)
        await self.send(chunks)
        await self.end_append(offset + size)

    async def look(self, path: str, offset: int) -> None:
        """One HEAD, which has to say this offset."""
        self._connection.begin("HEAD", path, {"Tus-Resumable": "1.0.0"})
        _check_offset(await self._connection.answer(200, 204), offset)


def _check_offset(answer: Answer, offset: int) -> None:
    said = answer.headers.get("upload-offset")
    if said != str(offset):
        msg = f"the offset should be {offset}, and the server says {said}"
        raise UnexpectedAnswerError(msg)
