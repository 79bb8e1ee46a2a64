"""A lock that processes on any machines hold in turn.

Nobody's clock is compared with anybody else's. A holder shows that it lives by renewing its marker. Who waits looks at
the marker, and takes the lock over only when that has not changed for the whole lease, by the waiting process's own
monotonic clock. A holder counts its lease from before it asked for the renewal, so that it gives up before anybody
takes over, however long the answer took.

No lock can stop a process that was asleep while its lease ran out and does not know it yet. What it still does with
another system can be refused there by the token, which is larger for each new holder.
"""

import asyncio
import logging
import math
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta

from rindle.objectstore.base import ObjectStore
from rindle.objectstore.errors import ObjectStoreError
from rindle.objectstore.marker import Holder, Marker, Sight, this_process
from rindle.objectstore.tasks import settle, within
from rindle.recipes.errors import LockedError, LockLostError

LEASE = timedelta(seconds=30)
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 1.0
_RENEWALS = 3  # in a lease
_USED = 0.8  # of a lease; the rest is for the work to stop, and for clocks that do not run at one pace
_PATIENCE = 10.0

logger = logging.getLogger(__name__)


class Lock:
    """A lock by the name of its key: among all that are made with one store and key, one holds it at a time.

    ``who`` names the holder to people; by default user, host and process. ``lease``: how long a holder that is gone
    keeps others out. It is a promise of the holder, so processes with different leases may share a lock.

    The object under the key stays when the lock is free. UnsupportedOperationError if the store has no conditional
    writes; errors of the store are raised as they are.
    """

    def __init__(self, store: ObjectStore, key: str, *, who: str | None = None, lease: timedelta = LEASE) -> None:
        if lease <= timedelta(0):
            msg = f"a lease lasts longer than nothing, not {lease}"
            raise ValueError(msg)
        self.key = key
        self.who = who or this_process()
        self.lease = lease
        self._marker = Marker(store, key)

    @asynccontextmanager
    async def hold(self, *, timeout: timedelta | None = None) -> AsyncIterator[Holder]:  # noqa: ASYNC109 - as acquire
        """Hold the lock while the block runs, renewing it; as :meth:`acquire`, and :meth:`release` in the end.

        When the lock is lost, because somebody took it away or it could not be renewed in time, the block is cancelled
        and LockLostError is raised from it; also when the block has run to its end, but no longer held the lock then.
        If the store does not take the lock back, that is logged, and the lease ends it.
        """
        holder, since = await self._acquire(timeout)
        is_held = True
        try:
            async with self._kept(holder, since):
                yield holder
        finally:
            is_held = await self._give_back(holder)
        if not is_held:
            raise self._lost(holder)

    async def acquire(self, *, timeout: timedelta | None = None) -> Holder:  # noqa: ASYNC109 - LockedError says by whom
        """Wait for the lock and hold it. Nobody renews it but the caller (:meth:`renew`), before the lease is over.

        LockedError, which names the holder, when it is still held by somebody else after ``timeout``; with 0 at once,
        without one never. If the waiting is cancelled, the CancelledError has a note that names the holder, and the
        lock is not held. A lock whose holder is gone is taken over when its marker has not changed for one lease.
        """
        holder, _ = await self._acquire(timeout)
        return holder

    async def renew(self, holder: Holder) -> None:
        """Begin the lease again; LockLostError if the lock is no longer held by this one."""
        if not await self._marker.renew(holder.id):
            raise self._lost(holder)

    async def release(self, holder: Holder) -> None:
        """Set the lock free; LockLostError, and the lock stays as it is, if it is no longer held by this one."""
        if not await self._marker.release(holder.id):
            raise self._lost(holder)

    async def find_holder(self) -> Holder | None:
        """Who holds it, by what the marker says; it may be a process that is gone."""
        return (await self._marker.look()).holder

    async def force_unlock(self, holder: Holder | None = None) -> Holder | None:
        """Take the lock away from whoever holds it, who is told at the next renewal; who that was, or None.

        With a ``holder``, of :meth:`find_holder` or a LockedError, only from that one: who has come since, stays.
        """
        return await self._marker.force(holder)

    async def _acquire(self, timeout: timedelta | None) -> tuple[Holder, float]:  # noqa: ASYNC109 - as acquire
        """Who holds it now, and from when on the lease counts."""
        clock = asyncio.get_running_loop().time
        give_up_at = math.inf if timeout is None else clock() + timeout.total_seconds()
        watch, pauses = _Watch(clock), _pauses()
        other: Holder | None = None
        try:
            while True:
                sight = await self._marker.look()
                stale_in = watch.stale_in(sight)
                if stale_in > 0 and (other := sight.holder):
                    if clock() >= give_up_at:
                        raise LockedError(self._describe(other), other)
                    await asyncio.sleep(max(0.0, min(next(pauses), stale_in, give_up_at - clock())))
                    continue
                since = clock()
                holder = await self._marker.take(sight, who=self.who, lease=self.lease)
                if holder is not None:
                    if sight.holder is not None:
                        logger.warning("the lock %r was taken over from %s, who was silent", self.key, sight.holder)
                    return holder, since
        except asyncio.CancelledError as error:
            if other is not None:
                error.add_note(self._describe(other))
            raise

    @asynccontextmanager
    async def _kept(self, holder: Holder, since: float) -> AsyncIterator[None]:
        """Renew while the block runs, which is cancelled when the lock is lost: LockLostError."""
        scope = asyncio.timeout_at(self._end(since))
        try:
            async with scope:
                keeping = asyncio.create_task(self._keep(holder, since, scope))
                try:
                    yield
                finally:
                    keeping.cancel()
                    await asyncio.wait([keeping])
        except TimeoutError as error:
            if scope.expired():
                raise self._lost(holder) from error
            raise
        if scope.expired():  # and the block has made nothing of being cancelled
            raise self._lost(holder)

    async def _keep(self, holder: Holder, since: float, scope: asyncio.Timeout) -> None:
        clock = asyncio.get_running_loop().time
        pause = self.lease.total_seconds() / _RENEWALS
        while True:
            await asyncio.sleep(max(0.0, since + pause - clock()))
            since = clock()
            try:
                is_held = await within(pause, self._marker.renew(holder.id))
            except (ObjectStoreError, TimeoutError) as error:
                logger.warning("the lock %r could not be renewed: %s", self.key, error)
                continue
            if not scope.expired():
                scope.reschedule(self._end(since) if is_held else clock())
            if not is_held:
                return

    def _end(self, since: float) -> float:
        return since + self.lease.total_seconds() * _USED

    async def _give_back(self, holder: Holder) -> bool:
        """False if it was not held any more."""
        try:
            return await settle(self._marker.release(holder.id), patience=_PATIENCE)
        except (ObjectStoreError, TimeoutError) as error:
            logger.warning("the lock %r was not given back, and ends with its lease: %s", self.key, error)
            return True

    def _lost(self, holder: Holder) -> LockLostError:
        return LockLostError(f"the lock {self.key!r} is no longer held by {holder}")

    def _describe(self, holder: Holder) -> str:
        end = "" if holder.lease is None else f"{holder.lease.total_seconds():g} s after the holder's last renewal, or "
        return f"the lock {self.key!r} is held by {holder}; it ends {end}by force_unlock()"


class _Watch:
    """For how long a marker has not changed, by this process's own clock."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._e_tag: str | None = None
        self._since = 0.0

    def stale_in(self, sight: Sight) -> float:
        """Seconds until whoever holds it has been silent for the whole lease; none left, and it may be taken."""
        if sight.holder is None:
            return 0.0
        if self._e_tag != sight.e_tag:
            self._e_tag, self._since = sight.e_tag, self._clock()
        if sight.holder.lease is None:
            return math.inf
        return self._since + sight.holder.lease.total_seconds() - self._clock()


def _pauses() -> Iterator[float]:
    pause = _FIRST_PAUSE
    while True:
        yield pause * random.uniform(0.5, 1)  # noqa: S311 - not to come back all at once
        pause = min(pause * 2, _LONGEST_PAUSE)
