"""The body of one request: it ends cleanly, whatever ends it, and remembers why.

A store never sees a read error. It sees the end of the bytes and keeps what came; the engine asks
:attr:`BodyReader.ended` afterwards.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

from rindle.errors import RindleError
from rindle.uploads.errors import ClientDisconnectedError, ReadTimeoutError

ReadChunk = Callable[[], Awaitable[bytes | None]]
"""The next bytes of the body, None at its end; raises ClientDisconnectedError when the connection ends first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyPace:
    """How slow a body may be before it is ended. Time in which the server does not read does not count.

    ``idle_timeout``: nothing at all for so long. ``min_rate``: fewer bytes a second than this over ``rate_window``.
    """

    idle_timeout: timedelta = timedelta(seconds=30)
    min_rate: int = 1024
    rate_window: timedelta = timedelta(seconds=60)


class BodyReader:
    """Reads a body chunk by chunk, within a limit, at a minimum pace, until it ends or somebody stops it."""

    def __init__(self, read_chunk: ReadChunk, *, declared: int | None, pace: BodyPace) -> None:
        """``declared`` is the Content-Length, None when the body is chunked: fewer bytes than that are no end."""
        self.received = 0
        self.overrun = False
        self.ended: RindleError | None = None
        self._read_chunk = read_chunk
        self._declared = declared
        self._pace = pace
        self._limit: int | None = None
        self._at_end = False
        self._stop_reason: RindleError | None = None
        self._reader: asyncio.Task[object] | None = None
        self._watchdog: asyncio.TimerHandle | None = None
        self._waiting_since: float | None = None
        self._waited = 0.0
        self._window_waited = 0.0
        self._window_received = 0

    @property
    def complete(self) -> bool:
        """Whether the body came to its own end."""
        return self._at_end and self.ended is None

    def limit(self, size: int) -> None:
        """Take no more than ``size`` bytes; one more makes :attr:`overrun` true and ends the body."""
        self._limit = size

    def stop(self, reason: RindleError) -> None:
        """End the body at the next chunk, or now if none is coming. The first reason counts."""
        if self._stop_reason is None and not self._at_end:
            self._stop_reason = reason
            if self._reader is not None:
                self._reader.cancel()

    def idle_for(self) -> float:
        """Seconds for which the client has been awaited in vain."""
        if self._waiting_since is None:
            return 0.0
        return asyncio.get_running_loop().time() - self._waiting_since

    async def read(self) -> bytes | None:
        """The next bytes; None when the body has ended, for whatever reason."""
        if self._at_end:
            return None
        if self._stop_reason is not None:
            self._end(self._stop_reason)
            return None
        try:
            chunk = await self._await_chunk()
        except ClientDisconnectedError as error:
            self._end(error)
            return None
        if chunk is None:
            self._end_of_bytes()
            return None
        self.received += len(chunk)
        if self._limit is not None and self.received > self._limit:
            return self._overrun(chunk)
        return chunk

    async def drain(self, size: int) -> None:
        """Read on and throw away at most ``size`` bytes, so that a client that only writes comes to read."""
        while size > 0 and (chunk := await self.read()) is not None:
            size -= len(chunk)

    def close(self) -> None:
        """Stop watching the pace."""
        if self._watchdog is not None:
            self._watchdog.cancel()
            self._watchdog = None

    def _overrun(self, chunk: bytes) -> bytes | None:
        excess = self.received - (self._limit or 0)
        self.overrun = True
        self.received -= excess
        self._end(None)
        return chunk[:-excess] or None

    def _end_of_bytes(self) -> None:
        # Called too when the body was stopped, and has its end already.
        if not self._at_end:
            short = self._declared is not None and self.received < self._declared
            self._end(ClientDisconnectedError() if short else None)

    def _end(self, reason: RindleError | None) -> None:
        self._at_end = True
        self.ended = reason
        self.close()

    async def _await_chunk(self) -> bytes | None:
        loop = asyncio.get_running_loop()
        if self._watchdog is None:
            self._watch(loop)
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine runs in a task
        others = task.cancelling()
        self._reader = task
        self._waiting_since = loop.time()
        try:
            return await self._read_chunk()
        except asyncio.CancelledError:
            # Ours if stop() asked for it and nobody else wants this task to end (see asyncio.timeout).
            if self._stop_reason is None or task.uncancel() > others:
                raise
            self._end(self._stop_reason)
            return None
        finally:
            self._reader = None
            self._waited += loop.time() - self._waiting_since
            self._waiting_since = None

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        # One timer a few times per timeout instead of one per chunk.
        period = min(self._pace.idle_timeout, self._pace.rate_window).total_seconds() / 4
        self._watchdog = loop.call_later(period, self._check_pace, loop)

    def _check_pace(self, loop: asyncio.AbstractEventLoop) -> None:
        if self.idle_for() >= self._pace.idle_timeout.total_seconds() or self._too_slow():
            self.stop(ReadTimeoutError())
        else:
            self._watch(loop)

    def _too_slow(self) -> bool:
        waited = self._waited + self.idle_for()
        window = waited - self._window_waited
        if window < self._pace.rate_window.total_seconds():
            return False
        came = self.received - self._window_received
        self._window_waited, self._window_received = waited, self.received
        return came < self._pace.min_rate * window
