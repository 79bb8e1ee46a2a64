"""What goes on without a client: runs over all that is due, in the background or by a command."""

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from rindle.clock import utc_now
from rindle.errors import RindleError
from rindle.objectstore.base import MultipartStore
from rindle.objectstore.types import MultipartMeta
from rindle.observability.observer import NOBODY, Observer
from rindle.reaper.pace import Pace
from rindle.reaper.report import Chore, Report, Tally
from rindle.reaper.strays import find_strays
from rindle.uploads.engine import UploadEngine
from rindle.uploads.errors import LeaseLostError, RepositoryError, UploadFinalizingError
from rindle.uploads.keys import upload_of
from rindle.uploads.ports import Due, DueUpload, UploadRepository
from rindle.uploads.tail import Tails

logger = logging.getLogger("rindle.reaper")

Item = TypeVar("Item")

ALL = tuple(Chore)
SELDOM = (Chore.MULTIPARTS, Chore.RECORDS)
OFTEN = tuple(chore for chore in Chore if chore not in SELDOM)

_DUES = {Chore.UNFINISHED: Due.UNFINISHED, Chore.UNTIDY: Due.UNTIDY, Chore.EXPIRED: Due.EXPIRED}
_TAKEN_ELSEWHERE = (LeaseLostError, UploadFinalizingError)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaperOptions:
    """How a reaper works.

    ``interval``: between runs in the background, which also bounds each of them; ``sweep_interval``: between those
    that look for stray multiparts and old records. ``beat``: between heartbeats of this node.

    ``batch``: rows that are taken at a time. ``hold``: how long nobody else is given them. ``at_once``: items that are
    worked on side by side. ``retry_after``: how long an item that failed is left alone, twice as long each time, up to
    ``retry_most``. ``grace``: how old a multipart must be to be a stray.
    ``retention``: how long records are kept after their end; None: for ever.
    """

    interval: timedelta = timedelta(seconds=60)
    sweep_interval: timedelta = timedelta(hours=1)
    beat: timedelta = timedelta(seconds=10)
    batch: int = 100
    hold: timedelta = timedelta(minutes=2)
    at_once: int = 8
    retry_after: timedelta = timedelta(minutes=1)
    retry_most: timedelta = timedelta(hours=6)
    grace: timedelta = timedelta(days=1)
    retention: timedelta | None = timedelta(days=30)


class Reaper:
    """Brings to an end what no client will. Any number may run at once, beside live uploads and each other.

    Rows are handed out, so that several work on different ones; but what makes it safe is that every step is a
    compare-and-set. A run goes on where the one before stopped, for what is dealt with is not due any more.
    """

    def __init__(
        self,
        *,
        engine: UploadEngine,
        store: MultipartStore,
        repository: UploadRepository,
        tails: Tails,
        options: ReaperOptions,
        observer: Observer = NOBODY,
    ) -> None:
        self._engine = engine
        self._store = store
        self._repository = repository
        self._tails = tails
        self._options = options
        self._observer = observer

    async def run(
        self,
        chores: Collection[Chore] = ALL,
        *,
        lasts: timedelta | None = None,
        rate: float | None = None,
        report: Report | None = None,
    ) -> Report:
        """Do these chores until nothing is due, or for as long as ``lasts`` says, at most ``rate`` items a second.

        The report is filled while this runs, for those who want to watch.

        An item that fails is counted and put off with its reason; it does not stop the others. RepositoryError when
        the database does not answer: what was done stays done.
        """
        pace = Pace(rate=rate, lasts=lasts)
        report = Report() if report is None else report
        for chore in Chore:
            if chore in chores:
                try:
                    await self._do(chore, report[chore], pace)
                finally:
                    self._tell(chore, report[chore])
        report.cut_short = pace.over
        if not report.cut_short and set(OFTEN) <= set(chores):
            await self._repository.note_reaped()
            self._observer.reaper_succeeded(utc_now())
        if not report.cut_short and Chore.MULTIPARTS in chores:
            self._observer.stray_multiparts(report[Chore.MULTIPARTS].failed)
        return report

    def _tell(self, chore: Chore, tally: Tally) -> None:
        self._observer.reaped(chore.value, "done", tally.done)
        self._observer.reaped(chore.value, "failed", tally.failed)
        self._observer.reaped(chore.value, "skipped", tally.skipped)

    async def survey(self, chores: Collection[Chore] = ALL) -> Report:
        """What :meth:`run` would do, but for spills and files of the store's own; nothing is changed."""
        report = Report()
        for chore in Chore:
            count = await self._count(chore) if chore in chores else None
            if count is not None:
                report[chore].done = count
        return report

    async def _count(self, chore: Chore) -> int | None:
        if chore in _DUES:
            return await self._repository.count_due(_DUES[chore])
        if chore is Chore.MULTIPARTS:
            return sum([1 async for _ in self._find_strays()])
        if chore is Chore.FILES:
            return await self._tails.sweep(self._repository, dry_run=True)
        if chore is Chore.RECORDS and self._options.retention is not None:
            return await self._repository.count_purgeable(self._options.retention)
        return None

    async def _do(self, chore: Chore, tally: Tally, pace: Pace) -> None:
        match chore:
            case Chore.SPILLS:
                tally.done = await self._engine.spill(limit=self._options.batch)
            case Chore.FILES:
                tally.done = await self._tails.sweep(self._repository) + await self._store.sweep()
            case Chore.MULTIPARTS:
                await self._each(self._find_strays(), self._abort, tally, pace)
            case Chore.RECORDS:
                await self._purge(tally, pace)
            case _:
                await self._each(self._take(_DUES[chore], pace), self._settle, tally, pace)

    # Uploads that are due

    async def _take(self, due: Due, pace: Pace) -> AsyncGenerator[tuple[Due, DueUpload], None]:
        while not pace.over:
            taken = await self._repository.take_due(due, limit=self._options.batch, hold=self._options.hold)
            for one in taken:
                yield due, one
            if len(taken) < self._options.batch:
                return

    async def _settle(self, item: tuple[Due, DueUpload], tally: Tally) -> None:
        due, taken = item
        upload = taken.upload
        try:
            if due is Due.EXPIRED and not await self._engine.expire(upload):
                tally.skipped += 1
                return
            if due is not Due.EXPIRED:
                await self._engine.recover(upload)
            tally.done += 1
        except _TAKEN_ELSEWHERE:
            tally.skipped += 1
        except RepositoryError:
            raise
        except RindleError as error:
            tally.failed += 1
            by = min(self._options.retry_after * 2 ** min(taken.failures, 20), self._options.retry_most)
            logger.warning("upload %s (%s) is put off for %s: %s", upload.id, due, by, error.log_message)
            await self._repository.put_off(upload.id, by=by, reason=f"{error.code}: {error}")

    # Multiparts

    def _find_strays(self) -> AsyncGenerator[MultipartMeta, None]:
        return find_strays(self._store, self._repository, self._engine.options.key_root, grace=self._options.grace)

    async def _abort(self, multipart: MultipartMeta, tally: Tally) -> None:
        try:
            await self._store.abort_multipart(multipart.ref)
            tally.done += 1
        except RindleError as error:
            tally.failed += 1
            owner = upload_of(self._engine.options.key_root, multipart.ref.key)
            logger.warning("a multipart of upload %s is left for the next run: %s", owner, error.log_message)

    # Records

    async def _purge(self, tally: Tally, pace: Pace) -> None:
        retention = self._options.retention
        while retention is not None and not pace.over:
            gone = await self._repository.purge(retention, limit=self._options.batch)
            tally.done += gone
            if not gone:
                return

    async def _each(
        self,
        items: AsyncGenerator[Item, None],
        work: Callable[[Item, Tally], Awaitable[None]],
        tally: Tally,
        pace: Pace,
    ) -> None:
        """Work on items side by side, at most ``at_once``; none is asked for before there is room for it."""
        room = asyncio.Semaphore(self._options.at_once)

        async def one(item: Item) -> None:
            try:
                await work(item, tally)
            finally:
                room.release()

        try:
            async with aclosing(items), asyncio.TaskGroup() as group:
                async for item in items:
                    if not await pace.step():
                        return
                    await room.acquire()
                    group.create_task(one(item))
        except BaseExceptionGroup as several:
            raise several.exceptions[0] from several

    # In the background

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Work in the background while the block runs, from now on."""
        options = self._options
        tasks = [
            asyncio.create_task(_repeat(self._beat, options.beat)),
            asyncio.create_task(_repeat(lambda: self.run(OFTEN, lasts=options.interval), options.interval)),
            asyncio.create_task(_repeat(lambda: self.run(SELDOM, lasts=options.interval), options.sweep_interval)),
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _beat(self) -> None:
        await self._repository.beat(self._tails.node.id, self._tails.node.name)


async def _repeat(work: Callable[[], Awaitable[object]], interval: timedelta) -> None:
    while True:
        try:
            await work()
        except RindleError as error:
            logger.warning("a run of the reaper failed: %s", error.log_message)
        except Exception:
            logger.exception("a run of the reaper failed in a way that nobody foresaw")
        # Spread, so that many nodes started together do not work in step.
        await asyncio.sleep(interval.total_seconds() * random.uniform(0.8, 1.2))  # noqa: S311
