"""One HTTP connection: uvicorn's, with bounds on what may come before a body does."""

import asyncio
from typing import Any

from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD = 64 * 1024
HEAD_TIMEOUT_S = 30.0

_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"rindle-error: header_too_large\r\n"
    b"content-type: text/plain; charset=utf-8\r\n"
    b"content-length: 65\r\n"
    b"connection: close\r\n"
    b"\r\n"
    b"header_too_large: The head of a request may have at most 64 KiB.\n"
)


class Connection(HttpToolsProtocol):
    """Ends a connection whose request head is larger than 64 KiB, or has not come after 30 seconds.

    uvicorn itself waits for the end of a head for ever and keeps all of it. Trailers are bounded alike. Once the head
    is there, the application minds the pace of the body.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - uvicorn's
        super().__init__(*args, **kwargs)
        self._in_head = True
        self._unparsed = 0  # bytes that came since the last one that was a head's end or a body's
        self._head_timer: asyncio.TimerHandle | None = None

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    @override
    def data_received(self, data: bytes) -> None:
        self._unparsed += len(data)
        super().data_received(data)
        if self._unparsed > MAX_HEAD and not self.transport.is_closing():
            if self._in_head:
                self.transport.write(_TOO_LARGE)
            self.transport.close()
        elif self._in_head and self._unparsed and self._head_timer is None:
            self._await_head()

    @override
    def on_headers_complete(self) -> None:
        self._in_head = False
        self._unparsed = 0
        self._stop_waiting()
        super().on_headers_complete()

    @override
    def on_body(self, body: bytes) -> None:
        self._unparsed = 0
        super().on_body(body)

    @override
    def on_message_complete(self) -> None:
        self._in_head = True
        self._unparsed = 0
        super().on_message_complete()

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_TIMEOUT_S, self._end)

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _end(self) -> None:
        self._head_timer = None
        if self.cycle is not None and not self.cycle.response_complete:  # type: ignore[redundant-expr]  # None at first
            self._await_head()  # it came ahead of its turn: first comes the answer to the request before
        else:
            self.transport.close()
