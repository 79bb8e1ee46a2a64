"""Whether this process takes one more body now: told before its first byte is read."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from rindle.objectstore.errors import StoreFullError, StoreUnavailableError
from rindle.uploads.budget import MemoryBudget
from rindle.uploads.errors import ServerBusyError
from rindle.uploads.tail import Tails

_LOOK_EVERY_S = 1.0
_UNREAD = 320 * 1024  # of a body that has arrived and not been taken: uvicorn waits at 64 KiB, uvloop reads up to 256


class Admission:
    """Bounds the appends of one process, and keeps the disk of its tails from being filled to the last byte.

    Each append counts in the ``budget`` with what the server in front of it holds of its body.
    ``most``: appends at the same time. ``least_free``: bytes that must be free on the disk; it is looked at once a
    second at most.
    """

    def __init__(self, tails: Tails, budget: MemoryBudget, *, most: int, least_free: int) -> None:
        self._tails = tails
        self._budget = budget
        self._most = most
        self._least_free = least_free
        self._running = 0
        self._free = 0
        self._looked_at = float("-inf")

    @contextlib.asynccontextmanager
    async def enter(self, upload_id: str) -> AsyncIterator[None]:
        """One append. ServerBusyError, StoreFullError: not now, and nothing was changed."""
        if self._running >= self._most:
            raise ServerBusyError(upload_id)
        self._running += 1
        try:
            await self._require_room()
            with self._budget.holding(_UNREAD):
                yield
        finally:
            self._running -= 1

    async def _require_room(self) -> None:
        if not self._least_free:
            return
        now = asyncio.get_running_loop().time()
        if now - self._looked_at > _LOOK_EVERY_S:
            self._looked_at = now
            # A disk that cannot be asked is a fault of its own: whoever needs it meets it, others go on.
            with contextlib.suppress(StoreUnavailableError):
                self._free = self._least_free
                self._free = await self._tails.free()
        if self._free < self._least_free:
            msg = f"{self._free} bytes are free, less than the {self._least_free} that must be"
            raise StoreFullError(msg, store="tails")
