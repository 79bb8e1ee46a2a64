"""What can be done with an upload. Protocols call this; it calls the ports.

The way of the data: a body is claimed a place (:mod:`~rindle.uploads.appending`), becomes parts, a tail and rows
(:mod:`~rindle.uploads.ingest`), then an object (:mod:`~rindle.uploads.finishing`); what is left over goes
(:mod:`~rindle.uploads.cleaning`).
"""

import asyncio
import contextlib
import logging
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any

from rindle.clock import utc_now
from rindle.errors import RindleError
from rindle.objectstore.base import MultipartStore
from rindle.objectstore.errors import ObjectStoreError
from rindle.observability.observer import NOBODY, Observer
from rindle.uploads.appending import Appender
from rindle.uploads.body import BodyReader
from rindle.uploads.budget import MemoryBudget
from rindle.uploads.cleaning import clean_up, tidy
from rindle.uploads.commands import AppendBytes, ConcatenateUploads, CreateUpload, TerminateUpload
from rindle.uploads.errors import (
    ClientDisconnectedError,
    ConcatenationError,
    DrainingError,
    LeaseLostError,
    LengthExceededError,
    MaxSizeExceededError,
    RepositoryError,
    StaleUploadError,
    UploadBusyError,
    UploadCompleteError,
    UploadFinalizingError,
    UploadTerminatedError,
)
from rindle.uploads.finishing import Finisher
from rindle.uploads.ids import new_upload_id
from rindle.uploads.leases import Leases
from rindle.uploads.model import EXPIRED, EventType, Upload, UploadState
from rindle.uploads.options import DEFAULT_OPTIONS, EngineOptions
from rindle.uploads.planner import plan_part_size
from rindle.uploads.ports import NewUpload, UploadRepository
from rindle.uploads.spilling import spill_idle
from rindle.uploads.storage import Storage
from rindle.uploads.tail import Tails
from rindle.uploads.tasks import Tasks
from rindle.uploads.verifying import Finding, repair, verify

logger = logging.getLogger("rindle.uploads")

_ATTEMPTS = 20  # at a compare-and-set that others keep winning


class UploadEngine:
    """Creates, fills, inspects, joins, ends uploads.

    Every method either does what it says or raises an error of :mod:`rindle.uploads.errors`, of the store or of the
    repository, with the upload as it was, or at the last offset that was committed. Methods may run in many tasks and
    many processes at once.
    """

    def __init__(
        self,
        *,
        store: MultipartStore,
        repository: UploadRepository,
        tails: Tails,
        options: EngineOptions = DEFAULT_OPTIONS,
        observer: Observer = NOBODY,
    ) -> None:
        """Store, repository and tails stay the caller's to close, after :meth:`aclose`.

        ``observer`` is told what goes on with bytes and tails; of what is committed, the repository tells.
        """
        self.options = options
        self._repository = repository
        self._storage = Storage(
            store=store,
            repository=repository,
            tails=tails,
            budget=MemoryBudget(options.memory_budget),
            key_root=options.key_root,
            parts_in_flight=options.parts_in_flight,
            tails_in_store=options.tails_in_store,
            overwrite=options.overwrite,
            observer=observer,
        )
        self._leases = Leases(repository, tails.node, options.leases)
        self._tasks = Tasks()
        self._finisher = Finisher(self._storage, self._leases, self._tasks)
        self._appender = Appender(self._storage, self._leases, self._finisher, options)
        self._draining = False

    @property
    def draining(self) -> bool:
        """Whether this process is on its way out and takes no new bytes."""
        return self._draining

    # Creation

    async def create(self, command: CreateUpload) -> Upload:
        """Make a new upload. Of length 0 it is complete when this returns, its empty object stored.

        MaxSizeExceededError, LengthExceededError (the body announced is longer than the upload): nothing was made.
        """
        self._refuse_when_draining()
        most = self.options.max_size
        wanted = max(command.length or 0, command.body_length or 0)
        if wanted > most:
            raise MaxSizeExceededError(None, max_size=most)
        if command.length is not None and (command.body_length or 0) > command.length:
            raise LengthExceededError(None, length=command.length)
        new = self._new_upload(command, command.length)
        upload = await self._repository.add(new, events=[EventType.CREATED])
        return await self._complete_empty(upload) if upload.length == 0 else upload

    async def _complete_empty(self, upload: Upload) -> Upload:
        body = BodyReader(_no_bytes, declared=0, pace=self.options.pace)
        try:
            return await self.append(AppendBytes(upload_id=upload.id, owner=upload.owner, offset=0), body)
        except RindleError:
            # Nobody knows of it yet, and an offset that equals the length must not be seen before the object stands.
            with contextlib.suppress(RindleError):
                await self.terminate(TerminateUpload(upload_id=upload.id, owner=upload.owner))
            raise

    async def concatenate(self, command: ConcatenateUploads) -> Upload:
        """Join complete partial uploads. COMPLETE when this returns, or CONCATENATING if it takes longer.

        ConcatenationError, MaxSizeExceededError: nothing was made. The partial uploads stay as they are.
        """
        self._refuse_when_draining()
        length = await self._measure_sources(command)
        new = self._new_upload(command, length)
        try:
            upload = await self._repository.add(new, events=[EventType.CREATED])
        except StaleUploadError as error:
            raise ConcatenationError(None, "A partial upload is not there any more. Upload it again.") from error
        # The row is there: whatever keeps this process from joining now, somebody will.
        with contextlib.suppress(UploadFinalizingError, ObjectStoreError, RepositoryError, LeaseLostError):
            return await self._finisher.finish(upload, within=self.options.completion_timeout)
        return upload

    # The life of one upload

    async def inspect(self, upload_id: str, owner: str) -> Upload:
        """The upload as it is: one read, no call to the store, no lease.

        When all bytes are in, this drives the completion and waits for it a moment; UploadFinalizingError if it takes
        longer. UploadNotFoundError, UploadGoneError; TailMissingError when acknowledged bytes are known to be lost.
        """
        upload = await self._storage.load(upload_id, owner)
        if upload.state is UploadState.FINALIZING:
            return await self._finisher.finish(upload, within=self.options.inspection_timeout)
        if upload.state is UploadState.CONCATENATING:
            self._finisher.start(upload)
        return await self._appender.check_tail(upload) if upload.state is UploadState.ACTIVE else upload

    async def append(self, command: AppendBytes, body: BodyReader) -> Upload:
        """Take a body at the upload's offset; the upload that is returned says the new one.

        Whatever is wrong with the request is raised before the first byte is read, and changes nothing. A body that
        ends early, or is ended, leaves what came: then its :class:`BodyError` (or DrainingError) is raised. A body
        that goes past the length leaves what fits (the upload may be complete then) and raises LengthExceededError.
        With a checksum all of the body counts, or nothing of it (ChecksumMismatchError).
        """
        self._refuse_when_draining()
        return await self._see_through(self._appender.append(command, body), body)

    async def terminate(self, command: TerminateUpload) -> None:
        """Drop the upload; when this returns, it is gone for every process, and its bytes will go.

        UploadCompleteError for a complete one, unless the options allow it.
        """
        for _ in range(_ATTEMPTS):
            upload = await self._storage.load(command.upload_id, command.owner)
            self._check_termination(upload)
            try:
                upload = await self._repository.commit(upload, upload.ending(), events=[EventType.TERMINATED])
            except StaleUploadError:
                continue
            await self._leases.evict(upload.id, UploadTerminatedError())
            with contextlib.suppress(RindleError):  # the reaper goes on where this stops
                await self._see_through(clean_up(self._storage, upload))
            return
        raise UploadBusyError(command.upload_id)

    # What goes on without a client

    async def expire(self, upload: Upload) -> bool:
        """Drop an upload that is past its time; False if somebody came for it meanwhile."""
        try:
            upload = await self._repository.commit(upload, upload.ending(EXPIRED), events=[EventType.EXPIRED])
        except StaleUploadError:
            return False
        await self._see_through(clean_up(self._storage, upload))
        return True

    async def recover(self, upload: Upload) -> Upload:
        """Bring to its end what some process left FINALIZING, CONCATENATING, ABORTING, or COMPLETE and untidy."""
        if upload.state is UploadState.ABORTING:
            return await self._see_through(clean_up(self._storage, upload))
        if upload.state is UploadState.COMPLETE:
            return await self._see_through(tidy(self._storage, upload))
        return await self._finisher.finish(upload, within=None)

    async def verify(self, upload: Upload, *, deep: bool = False) -> Finding | None:
        """What is wrong with the object of a COMPLETE upload; ``deep`` reads all of it. None if nothing is."""
        return await verify(self._storage, upload, deep=deep)

    async def repair(self, finding: Finding) -> Upload:
        """Make the record of an upload say what was found; the object is never touched.

        UploadBusyError, StaleUploadError: it is not as it was, or not the time; nothing was changed.
        """
        return await repair(self._storage, finding)

    async def spill(self, *, limit: int | None = None) -> int:
        """Move the tails that nobody has touched for a while from this node's disk into the store; how many."""
        idle_for = self.options.spill_after
        return 0 if idle_for is None else await spill_idle(self._storage, self._leases, idle_for, limit=limit)

    async def measure(self) -> None:
        """Tell the observer how much memory and disk uploads take now. StoreUnavailableError if the disk fails."""
        observer = self._storage.observer
        observer.memory_used(self._storage.budget.used)
        observer.tails_measured(*await self._storage.tails.measure())

    def drain(self) -> None:
        """Take no more bytes: bodies end at once, what arrived is kept, new ones are refused. Reading goes on."""
        self._draining = True
        self._leases.stop_all(DrainingError(None))

    async def aclose(self, *, spill: bool = True) -> None:
        """Drain, wait for running work within the grace, spill what tails lie on this node's disk, and stop.

        Without ``spill`` the tails stay where they are: whoever serves from this node goes on with them.
        """
        self.drain()
        deadline = asyncio.get_running_loop().time() + self.options.shutdown_grace.total_seconds()
        late = await self._tasks.join(self.options.shutdown_grace)
        if late:
            logger.error("%d requests were cut off at shutdown; what they acknowledged is kept", late)
        if spill and self.options.spill_after is not None:
            try:
                async with asyncio.timeout_at(deadline):
                    await spill_idle(self._storage, self._leases, timedelta(0))
            except (TimeoutError, RindleError) as error:
                reason = error.log_message if isinstance(error, RindleError) else "there was no time"
                logger.warning("not all tails were spilled at shutdown, the rest waits on this node's disk: %s", reason)
        await self._leases.aclose()

    def _new_upload(self, command: CreateUpload | ConcatenateUploads, length: int | None) -> NewUpload:
        sources = command.sources if isinstance(command, ConcatenateUploads) else ()
        partial = isinstance(command, CreateUpload) and command.partial
        upload_id = new_upload_id()
        template = None if partial else self.options.publish_to
        return NewUpload(
            id=upload_id,
            owner=command.owner,
            state=UploadState.CONCATENATING if sources else UploadState.ACTIVE,
            length=length,
            part_size=self._plan_part_size(length),
            metadata=command.metadata,
            partial=partial,
            concat=command.concat,
            sources=sources,
            usecase=self.options.usecase,
            content_type=command.content_type,
            target=None if template is None else template.render(upload_id, utc_now(), command.filename),
        )

    # Checks

    async def _measure_sources(self, command: ConcatenateUploads) -> int:
        if not command.sources:
            raise ConcatenationError(None, "A concatenation needs at least one partial upload.")
        if len(command.sources) > self.options.max_sources:
            raise ConcatenationError(None, f"A concatenation joins at most {self.options.max_sources} partial uploads.")
        lengths = {
            source: await self._measure_source(source, command.owner) for source in dict.fromkeys(command.sources)
        }
        length = sum(lengths[source] for source in command.sources)
        if length > self.options.max_size:
            raise MaxSizeExceededError(None, max_size=self.options.max_size)
        return length

    async def _measure_source(self, upload_id: str, owner: str) -> int:
        upload = await self._storage.load(upload_id, owner)
        if not upload.partial:
            raise ConcatenationError(upload_id, "Only partial uploads can be joined (Upload-Concat: partial).")
        if upload.state is UploadState.FINALIZING:
            upload = await self._finisher.finish(upload, within=self.options.completion_timeout)
        if upload.state is not UploadState.COMPLETE:
            raise ConcatenationError(upload_id, "A partial upload is not complete yet. Finish it first.")
        return upload.offset

    def _check_termination(self, upload: Upload) -> None:
        if upload.state is UploadState.FINALIZING or upload.state is UploadState.CONCATENATING:
            raise UploadFinalizingError(upload.id)
        if upload.pins:
            raise UploadBusyError(upload.id)
        if upload.state is UploadState.COMPLETE and not (upload.partial or self.options.terminate_complete):
            raise UploadCompleteError(upload.id)

    def _plan_part_size(self, length: int | None) -> int:
        limits = self._storage.store.part_limits
        expected = min(self.options.deferred_size, self.options.max_size) if length is None else length
        part_size = plan_part_size(expected, limits, self.options.part_size)
        if part_size is None:
            raise MaxSizeExceededError(None, max_size=min(limits.max_object_size, limits.max_size * limits.max_count))
        return part_size

    def _refuse_when_draining(self) -> None:
        if self._draining:
            raise DrainingError(None)

    async def _see_through(self, work: Coroutine[Any, Any, Upload], body: BodyReader | None = None) -> Upload:
        """Run work that goes on to its end although its request is cancelled; the body then ends first."""
        task = self._tasks.spawn(work)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if body is not None:
                body.stop(ClientDisconnectedError())
            raise


async def _no_bytes() -> bytes | None:
    return None
