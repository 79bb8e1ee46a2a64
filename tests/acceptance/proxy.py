"""A network that fails where a test says so: a TCP proxy that counts the client's bytes."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import Self

_CHUNK = 64 * 1024


class Proxy:
    """Forwards connections to a port of this machine.

    :meth:`cut_after` and :meth:`hold_after` count the bytes that all clients together send from when the fault before
    it has struck. A cut ends the connection that brings the byte, both ways; what came before it is delivered.
    A connection on hold stays open, and none of its client's bytes go further.
    """

    def __init__(self, port: int) -> None:
        self.held = asyncio.Event()
        self.cuts = 0
        self._target = port
        self._faults: deque[tuple[int, Callable[[_Connection], None]]] = deque()
        self._carried = 0
        self._connections: set[_Connection] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        while self._connections:
            connection = self._connections.pop()
            connection.reset()
            await connection.ended.wait()
        await self._server.wait_closed()

    @property
    def port(self) -> int:
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def endpoint(self, path: str = "/files") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def cut_after(self, *sizes: int) -> None:
        """Cut at each of these numbers of bytes, one after the other."""
        self._faults.extend((size, self._cut) for size in sizes)

    def hold_after(self, size: int) -> None:
        """Let nothing more through after so many bytes, and set :attr:`held`."""
        self._faults.append((size, self._hold))

    def take(self, connection: "_Connection", size: int) -> int:
        """How many of ``size`` bytes that came may go on; strikes where a fault is due."""
        if not self._faults:
            return size
        after, strike = self._faults[0]
        allowed = min(size, after - self._carried)
        self._carried += allowed
        if self._carried == after:
            self._faults.popleft()
            self._carried = 0
            strike(connection)
        return allowed

    def _cut(self, connection: "_Connection") -> None:
        self.cuts += 1
        connection.ending = True

    def _hold(self, connection: "_Connection") -> None:
        connection.holding = True
        self.held.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(self, writer)
        self._connections.add(connection)
        try:
            await connection.run(reader, self._target)
        finally:
            self._connections.discard(connection)
            connection.ended.set()


class _Connection:
    """One client's connection and the one to the server that goes with it."""

    def __init__(self, proxy: Proxy, client: asyncio.StreamWriter) -> None:
        self.ended = asyncio.Event()
        self.ending = False
        self.holding = False
        self._proxy = proxy
        self._client = client
        self._server: asyncio.StreamWriter | None = None

    async def run(self, from_client: asyncio.StreamReader, port: int) -> None:
        try:
            from_server, self._server = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            self.reset()
            return
        answers = asyncio.create_task(self._forward_answers(from_server))
        try:
            async with _closing(self._server):
                await self._forward_requests(from_client, self._server)
        finally:
            answers.cancel()
            await asyncio.gather(answers, return_exceptions=True)
            self.reset()

    def reset(self) -> None:
        self._client.transport.abort()
        if self._server is not None:
            self._server.close()

    async def _forward_requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while not self.ending and (chunk := await reader.read(_CHUNK)):
                if not self.holding:
                    writer.write(chunk[: self._proxy.take(self, len(chunk))])
                    await writer.drain()
        except OSError:
            return

    async def _forward_answers(self, reader: asyncio.StreamReader) -> None:
        try:
            while chunk := await reader.read(_CHUNK):
                self._client.write(chunk)
                await self._client.drain()
        except OSError:
            pass
        finally:
            # The server has closed: the client learns it, and its reader ends.
            self._client.close()


@asynccontextmanager
async def _closing(writer: asyncio.StreamWriter) -> AsyncIterator[None]:
    """Deliver what was written, then close."""
    try:
        yield
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
