"""Work that must come to its end although nobody waits for it any more."""

import asyncio
import logging
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any, TypeVar

from rindle.errors import RindleError

logger = logging.getLogger("rindle.uploads")
T = TypeVar("T")


class Tasks:
    """Keeps tasks alive, and a shutdown waiting for them."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start work that outlives its request."""
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._forget)
        return task

    async def join(self, grace: timedelta) -> int:
        """Wait for all work, cut off what the grace does not suffice for; how many that were."""
        if not self._running:
            return 0
        _, late = await asyncio.wait(self._running, timeout=grace.total_seconds())
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        return len(late)

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, RindleError):
            logger.error("a task failed", exc_info=error)
