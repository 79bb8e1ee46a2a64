"""The leases that this process holds, and how they change hands.

A lease saves work: it keeps two requests from storing the same bytes. Safety does not rest on it, but on every
commit comparing the whole predecessor state.

A holder is asked to let go rather than robbed: it ends its body, keeps what came, commits, releases. It does so only
when its client has gone quiet, so that a second request at the same offset cannot cut a healthy one short.

Within a process both sides meet by events. Between processes they meet in the row, which both look at now and then;
where the repository can signal, a signal says when to look.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, auto

from typing_extensions import override

from rindle.errors import RindleError
from rindle.uploads.body import BodyReader
from rindle.uploads.errors import ReleaseRequestedError, UploadError
from rindle.uploads.model import Lease, Upload
from rindle.uploads.node import NodeIdentity
from rindle.uploads.ports import LeaseSignal, SignalReceiver, UploadRepository

logger = logging.getLogger("rindle.uploads")


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseOptions:
    """``ttl``: how long a lease lives without renewal; a holder renews it three times in that time.

    ``handover_timeout``: how long a request waits for the holder before it answers "busy" (or, if the holder does not
    react at all, takes over). ``quiet_after``: a client that has sent nothing for so long is quiet. ``poll_interval``:
    how often processes look into the database for each other's requests and answers. Holders that hear signals look
    less often: three times in the ``handover_timeout`` (or ``ttl``), so that they answer in time if one is lost.
    """

    ttl: timedelta = timedelta(seconds=30)
    handover_timeout: timedelta = timedelta(seconds=5)
    quiet_after: timedelta = timedelta(seconds=1)
    poll_interval: timedelta = timedelta(milliseconds=500)


class Handover(Enum):
    """How waiting for a lease ended."""

    FREE = auto()  # released: look at the row again
    BUSY = auto()  # the holder is at work
    DEAD = auto()  # nobody holds it any more, whatever the row says


class HeldLease:
    """One lease of this process: the body that is read under it, if there is one, and when it is over."""

    def __init__(self, upload_id: str, body: BodyReader | None) -> None:
        self.upload_id = upload_id
        self.released = asyncio.Event()
        self.blocks = 0
        self._body = body

    def stop(self, reason: UploadError) -> None:
        """End the body, whatever it is doing."""
        if self._body is not None:
            self._body.stop(reason)

    def ask(self, quiet_after: timedelta) -> bool:
        """End the body if its client is quiet; whether that was so."""
        if self._body is None or self._body.idle_for() < quiet_after.total_seconds():
            return False
        self._body.stop(ReleaseRequestedError())
        return True


class Leases(SignalReceiver):
    """Registers, renews and hands over the leases of this process."""

    def __init__(self, repository: UploadRepository, node: NodeIdentity, options: LeaseOptions) -> None:
        self.options = options
        self._repository = repository
        self._node = node
        self._held: dict[str, HeldLease] = {}
        self._keeper: asyncio.Task[None] | None = None
        self._ear: asyncio.Task[None] | None = None
        self._live = False
        self._requested = asyncio.Event()
        self._waiting: set[tuple[str, asyncio.Event]] = set()
        self._stopped_for: UploadError | None = None

    @asynccontextmanager
    async def hold(self, upload_id: str, token: str, body: BodyReader | None = None) -> AsyncIterator[None]:
        """Answer for this token while the block runs: it is about to be claimed with, or was, and is kept alive.

        Blocks of one token may overlap; the lease counts as let go of when the last one ends.
        """
        held = self._held.setdefault(token, HeldLease(upload_id, body))
        held.blocks += 1
        if self._stopped_for is not None:
            held.stop(self._stopped_for)
        if self._keeper is None or self._keeper.done():
            self._keeper = asyncio.create_task(self._keep())
        if self._ear is None:
            self._ear = asyncio.create_task(self._listen())
        try:
            yield
        finally:
            held.blocks -= 1
            if not held.blocks:
                del self._held[token]
                held.released.set()

    async def evict(self, upload_id: str, reason: UploadError) -> None:
        """End what this process does under leases of this upload, and wait for that, but not for ever."""
        for held in [held for held in self._held.values() if held.upload_id == upload_id]:
            held.stop(reason)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(held.released.wait(), self.options.handover_timeout.total_seconds())

    def stop_all(self, reason: UploadError) -> None:
        """End every body, and those that are yet to come at once."""
        self._stopped_for = reason
        for held in self._held.values():
            held.stop(reason)

    async def wait_for(self, upload: Upload) -> Handover:
        """Wait until the lease that ``upload`` was read with may be claimed, asking its holder to let go."""
        lease = upload.lease
        if lease is None:
            return Handover.FREE
        if self.is_dead(lease):
            return Handover.DEAD
        here = self._held.get(lease.token)
        return await (self._wait_elsewhere(upload.id, lease) if here is None else self._wait_here(here))

    def is_dead(self, lease: Lease) -> bool:
        """Whether nobody will let go of this lease any more, and it may be taken over at once."""
        if lease.token in self._held:
            return False
        ours = lease.holder == self._node.holder  # and nobody here answers for it: its release did not come through
        return ours or not lease.live or self._node.is_dead(lease.holder)

    async def aclose(self) -> None:
        """Stop renewing and listening. Leases still held run out by themselves."""
        for task in (self._keeper, self._ear):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    # What other processes signal

    @override
    def receive(self, signal: LeaseSignal, upload_id: str) -> None:
        if signal is LeaseSignal.RELEASED:
            for awaited, released in self._waiting:
                if awaited == upload_id:
                    released.set()
        elif any(held.upload_id == upload_id for held in self._held.values()):
            self._requested.set()

    @override
    def set_live(self, *, live: bool) -> None:
        self._live = live
        if live:
            self._requested.set()
            for _, released in self._waiting:
                released.set()

    async def _listen(self) -> None:
        try:
            await self._repository.listen(self)
        except Exception:
            logger.exception("listening to other processes ended in a way that nobody foresaw; they have to poll")

    @contextmanager
    def _release_of(self, upload_id: str) -> Iterator[asyncio.Event]:
        """Set, while the block runs, whenever the upload may have been released."""
        waiting = (upload_id, asyncio.Event())
        self._waiting.add(waiting)
        try:
            yield waiting[1]
        finally:
            self._waiting.remove(waiting)

    # Handing over

    async def _wait_here(self, held: HeldLease) -> Handover:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.options.handover_timeout.total_seconds()):
                while not held.released.is_set():
                    held.ask(self.options.quiet_after)
                    await _wait(held.released, self._poll_seconds)
        return Handover.FREE if held.released.is_set() else Handover.BUSY

    async def _wait_elsewhere(self, upload_id: str, lease: Lease) -> Handover:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.options.handover_timeout.total_seconds()
        answered = False
        with self._release_of(upload_id) as released:
            await self._repository.request_release(upload_id, lease.token)
            while loop.time() < deadline:
                await _wait(released, self._poll_seconds)
                released.clear()
                now = await self._repository.find(upload_id)
                if now is None or now.lease is None or now.lease.token != lease.token:
                    return Handover.FREE
                if not now.lease.live:
                    return Handover.DEAD
                if not now.lease.release_requested:
                    answered = True
                    await self._repository.request_release(upload_id, lease.token)
        # A holder that is alive answers, if only with no. One that is silent for so long is frozen or cut off.
        return Handover.BUSY if answered else Handover.DEAD

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        renew_every = self.options.ttl.total_seconds() / 3
        renewed_at = loop.time()
        while self._held:
            await _wait(self._requested, self._look_seconds)
            self._requested.clear()
            try:
                await self._answer_requests()
                if loop.time() - renewed_at >= renew_every:
                    renewed_at = loop.time()
                    await self._repository.renew(self._tokens())
            except RindleError as error:
                # The commits find out themselves; what matters here is to go on trying.
                logger.warning("leases could not be renewed: %s", error)

    async def _answer_requests(self) -> None:
        for token in await self._repository.find_release_requests(self._tokens()):
            held = self._held.get(token)
            if held is not None and not held.ask(self.options.quiet_after):
                await self._repository.refuse_release(held.upload_id, token)

    def _tokens(self) -> dict[str, str]:
        return {token: held.upload_id for token, held in self._held.items()}

    @property
    def _poll_seconds(self) -> float:
        return self.options.poll_interval.total_seconds()

    @property
    def _look_seconds(self) -> float:
        at_least = min(self.options.handover_timeout, self.options.ttl).total_seconds() / 3
        return max(self._poll_seconds, at_least) if self._live else self._poll_seconds


async def _wait(event: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
