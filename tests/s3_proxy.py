"""What is between a store and its service: an HTTP proxy that notes every request and fails where a test says so."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Self, cast
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Request:
    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    def is_about(self, call: str) -> bool:
        """``"PUT"``, or ``"POST ?uploadId"`` with a word of the query."""
        method, _, word = call.partition(" ?")
        return self.method == method and word in self.target.partition("?")[2]


@dataclass(frozen=True)
class Fault:
    """What happens to the next request that is about ``call``.

    ``answer``: this status and body, with these ``headers``, and the service hears nothing. ``cut``: the connection is
    reset after so many bytes of the body, ``lose``: when the service has answered, ``cut_answer``: after so many bytes
    of the answer. ``hold``: nothing more happens, after the head, in the middle of the body, or when an answer is due.
    """

    call: str
    answer: tuple[int, bytes] | None = None
    headers: tuple[str, ...] = ()
    cut: int | None = None
    lose: bool = False
    cut_answer: int | None = None
    hold: Literal["head", "body", "answer"] | None = None


@dataclass
class S3Proxy:
    """``without``: headers that do not get through, as if the service did not know them. ``refused``: that it answers
    501 to, in calls about ``refused_call``.

    Requests about ``held`` wait for ``go_on``; ``after`` is told of each that the service has answered.
    """

    target: str
    port: int = 0
    without: frozenset[str] = frozenset()
    rewrite: Callable[[Request, bytes], bytes] = lambda _, answer: answer
    refused: frozenset[str] = frozenset()
    refused_call: str = "PUT"
    held: str | None = None
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    after: Callable[[Request], None] = lambda _: None
    faults: list[Fault] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    _server: asyncio.Server | None = None
    _closing: asyncio.Event = field(default_factory=asyncio.Event)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Literal[False]:
        assert self._server is not None
        self._server.close()
        self._closing.set()
        await self._server.wait_closed()
        return False

    @property
    def endpoint(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def fail(self, call: str, *answers: tuple[int, str]) -> None:
        """Let the next requests about a call get these answers: status and S3's code."""
        self.faults += [Fault(call, answer=(status, error_body(code))) for status, code in answers]

    def count(self, call: str) -> int:
        return len(self.seen(call))

    def seen(self, call: str) -> list[Request]:
        return [request for request in self.requests if request.is_about(call)]

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        line, *lines = head.rstrip().split("\r\n")
        method, target, _ = line.split(" ")
        headers = {name.lower(): value for name, _, value in (each.partition(": ") for each in lines)}
        fault = self._take(Request(method, target, headers, b""))
        if Request(method, target, headers, b"").is_about(self.refused_call) and self.refused & headers.keys():
            fault = Fault(self.refused_call, answer=(501, error_body("NotImplemented")))
        if fault is not None and fault.hold == "head":
            self.requests.append(Request(method, target, headers, b""))
            await self._hold(writer)
            return
        if "expect" in headers and (fault is None or fault.answer is None):
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        size = int(headers.get("content-length", 0))
        if fault is not None and fault.hold == "body":
            await self._hold(writer)
            return
        if fault is not None and fault.cut is not None:
            self.requests.append(Request(method, target, headers, await reader.readexactly(fault.cut)))
            writer.transport.abort()
            return
        body = b"" if "expect" in headers and fault is not None and fault.answer else await reader.readexactly(size)
        request = Request(method, target, headers, body)
        self.requests.append(request)
        if fault is not None and fault.hold:
            await self._hold(writer)
            return
        if fault is not None and fault.answer is not None:
            writer.write(_answer(*fault.answer, *fault.headers))
            await writer.drain()
            return
        if self.held is not None and request.is_about(self.held):
            await self.go_on.wait()
        answer = self.rewrite(request, await self._forward(request))
        self.after(request)
        if fault is not None and fault.lose:
            writer.transport.abort()
            return
        writer.write(answer if fault is None else answer[: fault.cut_answer])
        await writer.drain()

    async def _hold(self, writer: asyncio.StreamWriter) -> None:
        """Until nobody is there any more."""
        cast(asyncio.Transport, writer.transport).pause_reading()
        await self._closing.wait()

    def _take(self, request: Request) -> Fault | None:
        found = next((fault for fault in self.faults if request.is_about(fault.call)), None)
        if found is not None:
            self.faults.remove(found)
        return found

    async def _forward(self, request: Request) -> bytes:
        parts = urlsplit(self.target)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        left_out = {"expect", "connection", *self.without}
        lines = [f"{name}: {value}" for name, value in request.headers.items() if name not in left_out]
        head = [f"{request.method} {request.target} HTTP/1.1", *lines, "Connection: close", "", ""]
        writer.write("\r\n".join(head).encode() + request.body)
        answer = await reader.read()
        writer.close()
        return answer


def methods(proxy: S3Proxy) -> Counter[str]:
    """What was asked of the service, but for the reaper's listings."""
    return Counter(request.method for request in proxy.requests if not request.is_about("GET ?uploads"))


def error_body(code: str) -> bytes:
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>as the test wants it</Message></Error>".encode()


def _answer(status: int, body: bytes, *headers: str) -> bytes:
    lines = (f"HTTP/1.1 {status} Some", "Content-Type: application/xml", "Connection: close", *headers)
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body
