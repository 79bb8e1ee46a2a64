"""The lock of a stack. It has no end of its own: a run that died halfway is for people to look at before the next."""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from rindle.objectstore.base import ObjectStore
from rindle.objectstore.errors import ObjectStoreError
from rindle.objectstore.marker import Holder, Marker, this_process
from rindle.objectstore.tasks import settle
from rindle.snapshots.errors import StackLockedError, StackLockLostError

_POLL = 0.5  # seconds
_PATIENCE = 60.0  # for giving it back, which nothing else does


class StackLock:
    """The lock of a stack: among all processes one holds it at a time. UnsupportedOperationError if the store cannot.

    ``who`` names the holder to people; by default user, host and process.
    """

    def __init__(self, store: ObjectStore, key: str, stack: str) -> None:
        self._stack = stack
        self._marker = Marker(store, key)

    @asynccontextmanager
    async def hold(self, *, timeout: timedelta | None = None, who: str | None = None) -> AsyncIterator[Holder]:  # noqa: ASYNC109 - as acquire
        """Hold the lock while the block runs; as :meth:`acquire`, and :meth:`release` in the end.

        StackLockLostError, after a block that has raised nothing itself, if the lock was taken away meanwhile.
        """
        holder = await self.acquire(timeout=timeout, who=who)
        try:
            yield holder
        except BaseException as error:
            try:
                await settle(self.release(holder), patience=_PATIENCE)
            except (ObjectStoreError, StackLockLostError, TimeoutError) as failure:
                error.add_note(f"and the lock of {self._stack} was not given back: {failure}")
            raise
        await settle(self.release(holder), patience=_PATIENCE)

    async def acquire(self, *, timeout: timedelta | None = None, who: str | None = None) -> Holder:  # noqa: ASYNC109 - StackLockedError says by whom
        """Wait for the lock, and hold it until it is released, be it by another process.

        StackLockedError, which names the holder, if it is still held by somebody else after ``timeout``; with 0 at
        once, without one never. If the waiting is cancelled, the CancelledError has a note that names the holder, and
        the lock is not held.
        """
        clock = asyncio.get_running_loop().time
        give_up_at = math.inf if timeout is None else clock() + timeout.total_seconds()
        other: Holder | None = None
        try:
            while True:
                sight = await self._marker.look()
                other = sight.holder
                if other is None:
                    holder = await self._marker.take(sight, who=who or this_process())
                    if holder is not None:
                        return holder
                elif clock() >= give_up_at:
                    raise StackLockedError(self._describe(other), other)
                else:
                    await asyncio.sleep(min(_POLL, max(0.0, give_up_at - clock())))
        except asyncio.CancelledError as error:
            if other is not None:
                error.add_note(self._describe(other))
            raise

    async def release(self, holder: Holder) -> None:
        """Set the lock free; StackLockLostError, and it stays as it is, if it is no longer held by this one."""
        if not await self._marker.release(holder.id):
            raise self._lost(holder)

    async def find_holder(self) -> Holder | None:
        """Who holds it, by what the marker says; it may be a process that is gone."""
        return (await self._marker.look()).holder

    async def force_unlock(self, holder: Holder | None = None) -> Holder | None:
        """Take the lock away from whoever holds it; who that was, or None.

        With a ``holder``, of :meth:`find_holder` or a StackLockedError, only from that one: who has come since, stays.
        It is for holders that are gone: one that is still at work goes on, and is told only in the end.
        """
        return await self._marker.force(holder)

    def _lost(self, holder: Holder) -> StackLockLostError:
        return StackLockLostError(f"the lock of {self._stack} is no longer held by {holder}")

    def _describe(self, holder: Holder) -> str:
        return (
            f"{self._stack} is locked by {holder}; if that one is gone, take the lock away:"
            " force_unlock(), or `rindle state unlock --force`"
        )
