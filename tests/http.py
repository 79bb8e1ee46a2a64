"""HTTP by hand: what is sent is exactly what the test says, and a connection can be cut anywhere."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

TUS = ("Tus-Resumable", "1.0.0")
OCTETS = ("Content-Type", "application/offset+octet-stream")
CHUNKED = ("Transfer-Encoding", "chunked")

HeaderList = Iterable[tuple[str, str]]


@dataclass(frozen=True)
class Response:
    status: int
    headers: Mapping[str, str]
    raw_headers: list[tuple[str, str]]
    body: bytes

    @property
    def offset(self) -> int:
        return int(self.headers["upload-offset"])

    @property
    def code(self) -> str:
        return self.headers.get("rindle-error", "")

    @property
    def location(self) -> str:
        return self.headers["location"]

    def all(self, name: str) -> list[str]:
        """Every value of a header: there should be one."""
        return [value for given, value in self.raw_headers if given == name.lower()]


class Connection:
    """One TCP connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def send_head(self, method: str, target: str, headers: HeaderList) -> None:
        await self.send(encode_head(method, target, headers))

    async def begin_patch(self, location: str, offset: int, *headers: tuple[str, str], length: int | None) -> None:
        """The head of a PATCH whose body follows by hand; ``length`` None: chunked."""
        size = CHUNKED if length is None else ("Content-Length", str(length))
        await self.send_head("PATCH", location, [TUS, OCTETS, ("Upload-Offset", str(offset)), size, *headers])

    def cut(self) -> None:
        """Reset the connection: what is on its way is lost."""
        self._writer.transport.abort()

    async def finish(self) -> None:
        """Close the sending side."""
        self._writer.write_eof()

    async def read_response(self, *, method: str = "GET") -> Response:
        """The next response that is not 100 Continue."""
        while True:
            response = await self._read_one(method)
            if response.status != 100:
                return response

    async def read_interim(self) -> Response:
        """The next response, whatever it is."""
        return await self._read_one("GET")

    async def read_to_end(self) -> bytes:
        """What still comes before the server closes or resets the connection."""
        try:
            return await self._reader.read()
        except ConnectionError:
            return b""

    async def _read_one(self, method: str) -> Response:
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status_line, *lines = head.split("\r\n")
        raw = [
            (name.strip().lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines if line)
        ]
        headers = dict(raw)
        status = int(status_line.split(" ")[1])
        body = b""
        if method != "HEAD" and status >= 200 and status != 204:
            body = await self._reader.readexactly(int(headers.get("content-length", "0")))
        return Response(status, headers, raw, body)


class Client:
    """Sends requests to one server, each on a connection of its own."""

    def __init__(self, host: str, port: int, path: str = "/files") -> None:
        self.host = host
        self.port = port
        self.path = path

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Connection]:
        reader, writer = await asyncio.open_connection(self.host, self.port)
        try:
            yield Connection(reader, writer)
        finally:
            writer.transport.abort()

    async def request(
        self, method: str, target: str, headers: HeaderList = (), body: bytes | None = None, *, tus: bool = True
    ) -> Response:
        """One exchange. ``Tus-Resumable`` goes with it unless ``tus`` is false; the body gives its Content-Length."""
        sent = [*([TUS] if tus else []), *headers]
        if body is not None:
            sent.append(("Content-Length", str(len(body))))
        async with self.connect() as connection:
            await connection.send_head(method, target, sent)
            if body:
                writing = asyncio.create_task(_send_quietly(connection, body))
                try:
                    return await connection.read_response(method=method)
                finally:
                    writing.cancel()
                    await asyncio.gather(writing, return_exceptions=True)
            return await connection.read_response(method=method)

    async def request_chunked(self, method: str, target: str, headers: HeaderList, chunks: Iterable[bytes]) -> Response:
        async with self.connect() as connection:
            await connection.send_head(method, target, [TUS, *headers, CHUNKED])
            for chunk in chunks:
                await connection.send(encode_chunk(chunk))
            await connection.send(b"0\r\n\r\n")
            return await connection.read_response(method=method)

    # tus

    async def create(self, length: int | None, *headers: tuple[str, str], body: bytes | None = None) -> str:
        """A new upload; its URL's path."""
        size = ("Upload-Defer-Length", "1") if length is None else ("Upload-Length", str(length))
        extra = [OCTETS] if body is not None else []
        response = await self.request("POST", self.path, [size, *extra, *headers], body)
        assert response.status == 201, response
        return response.location

    async def post(self, *headers: tuple[str, str], body: bytes | None = None) -> Response:
        return await self.request("POST", self.path, headers, body)

    async def head(self, location: str) -> Response:
        return await self.request("HEAD", location)

    async def patch(self, location: str, offset: int, body: bytes, *headers: tuple[str, str]) -> Response:
        return await self.request("PATCH", location, [OCTETS, ("Upload-Offset", str(offset)), *headers], body)

    async def patch_chunked(
        self, location: str, offset: int, chunks: Iterable[bytes], *headers: tuple[str, str]
    ) -> Response:
        sent = [OCTETS, ("Upload-Offset", str(offset)), *headers]
        return await self.request_chunked("PATCH", location, sent, chunks)

    async def delete(self, location: str) -> Response:
        return await self.request("DELETE", location)


def encode_head(method: str, target: str, headers: HeaderList) -> bytes:
    given = [*headers]
    host = [] if any(name == "Host" for name, _ in given) else [("Host", "test.example")]
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in [*host, *given])]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def encode_chunk(chunk: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(chunk), chunk)


def id_of(location: str) -> str:
    return location.rsplit("/", 1)[-1]


def files_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


async def _send_quietly(connection: Connection, body: bytes) -> None:
    # A server that refuses reads no further; what it answers is what the test looks at.
    try:
        await connection.send(body)
    except OSError:
        return
