"""What goes on without a client, in rounds: expiry, recovery, sweeping; and the heartbeat of this node."""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from rindle.errors import RindleError
from rindle.objectstore.base import ObjectStore
from rindle.uploads.engine import UploadEngine
from rindle.uploads.model import Upload
from rindle.uploads.ports import UploadRepository
from rindle.uploads.tail import Tails

logger = logging.getLogger("rindle.reaper")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaperOptions:
    """``interval``: between rounds. ``batch``: rows, or tails, per round and kind. ``beat``: between heartbeats."""

    interval: timedelta = timedelta(seconds=60)
    batch: int = 500
    beat: timedelta = timedelta(seconds=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What one round did. ``failed``: items that are left for the next round."""

    expired: int
    recovered: int
    spilled: int
    files_removed: int
    failed: int


class Reaper:
    """Brings to an end what no client will. Any number may run at once: every step is a compare-and-set."""

    def __init__(
        self,
        *,
        engine: UploadEngine,
        store: ObjectStore,
        repository: UploadRepository,
        tails: Tails,
        options: ReaperOptions,
    ) -> None:
        self._engine = engine
        self._store = store
        self._repository = repository
        self._tails = tails
        self._options = options

    async def run_once(self) -> Round:
        """Finish what was left unfinished, drop what is past its time, spill idle tails, remove files of the dead.

        An item that fails is logged and left for the next round; it does not stop the others.
        """
        batch = self._options.batch
        unfinished = [
            *await self._repository.find_unfinished(limit=batch),
            *await self._repository.find_untidy(limit=batch),
        ]
        recovered = await self._try_each(unfinished, self._engine.recover)
        overdue = await self._repository.find_expired(limit=batch)
        expired = await self._try_each(overdue, self._engine.expire)
        spilled = await self._engine.spill(limit=batch)
        removed = await self._tails.sweep(self._repository) + await self._store.sweep()
        failed = len(unfinished) - recovered + len(overdue) - expired
        return Round(expired=expired, recovered=recovered, spilled=spilled, files_removed=removed, failed=failed)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Work in the background while the block runs, from now on."""
        tasks = [
            asyncio.create_task(_repeat(self._beat, self._options.beat)),
            asyncio.create_task(_repeat(self.run_once, self._options.interval)),
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _beat(self) -> None:
        await self._repository.beat(self._tails.node.id, self._tails.node.name)

    async def _try_each(self, uploads: Sequence[Upload], work: Callable[[Upload], Awaitable[object]]) -> int:
        done = 0
        for upload in uploads:
            try:
                await work(upload)
                done += 1
            except RindleError as error:
                logger.warning("upload %s in %s is left for the next round: %s", upload.id, upload.state, error)
        return done


async def _repeat(work: Callable[[], Awaitable[object]], interval: timedelta) -> None:
    while True:
        try:
            await work()
        except RindleError as error:
            logger.warning("a round of the reaper failed: %s", error)
        except Exception:
            logger.exception("a round of the reaper failed in a way that nobody foresaw")
        # Spread, so that many nodes started together do not work in step.
        await asyncio.sleep(interval.total_seconds() * random.uniform(0.8, 1.2))  # noqa: S311
