"""What can be done with an upload, in which order. Protocols call this; it calls the ports."""

import asyncio
import contextlib
import logging
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from rindle.errors import RindleError
from rindle.objectstore.base import MultipartStore
from rindle.objectstore.errors import ObjectStoreError
from rindle.uploads import completion, concatenation
from rindle.uploads.body import BodyPace, BodyReader
from rindle.uploads.budget import MemoryBudget
from rindle.uploads.commands import AppendBytes, ConcatenateUploads, CreateUpload, TerminateUpload
from rindle.uploads.errors import (
    ClientDisconnectedError,
    ConcatenationError,
    DrainingError,
    LeaseLostError,
    LengthExceededError,
    LengthMismatchError,
    MaxSizeExceededError,
    OffsetMismatchError,
    StaleUploadError,
    TailMissingError,
    UploadBusyError,
    UploadCompleteError,
    UploadFinalizingError,
    UploadGoneError,
    UploadIsFinalError,
    UploadNotFoundError,
    UploadTerminatedError,
)
from rindle.uploads.ids import is_upload_id, new_token, new_upload_id
from rindle.uploads.ingest import Ingest, Storage, overrun_error
from rindle.uploads.keys import upload_prefix
from rindle.uploads.leases import Handover, LeaseOptions, Leases
from rindle.uploads.model import EventType, Part, Upload, UploadState
from rindle.uploads.planner import MIB, plan_part_size
from rindle.uploads.ports import Claim, NewUpload, UploadRepository
from rindle.uploads.tail import Tails
from rindle.uploads.tasks import Tasks

logger = logging.getLogger("rindle.uploads")

TIB = 1 << 40
_ATTEMPTS = 20  # at a compare-and-set that others keep winning


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """How the engine works. Sizes are bytes.

    ``max_size``: of one upload. ``part_size``: the least, it grows with the length. ``deferred_size``: what an upload
    whose length comes later is planned for. ``memory_budget``: bytes of all bodies of this process that may lie in
    memory. ``completion_timeout``: how long a request waits for its object to be assembled. ``shutdown_grace``: how
    long a shutdown waits for running requests to keep what they have. ``terminate_complete``: whether a client may
    remove an upload that is complete.
    """

    max_size: int = 5 * TIB
    part_size: int = 5 * MIB
    deferred_size: int = 625 * 1024 * MIB
    parts_in_flight: int = 3
    memory_budget: int = 256 * MIB
    max_sources: int = 1000
    key_root: str = "uploads"
    completion_timeout: timedelta = timedelta(seconds=25)
    inspection_timeout: timedelta = timedelta(seconds=2)
    shutdown_grace: timedelta = timedelta(seconds=20)
    terminate_complete: bool = False
    pace: BodyPace = field(default_factory=BodyPace)
    leases: LeaseOptions = field(default_factory=LeaseOptions)


DEFAULT_OPTIONS = EngineOptions()


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
    ) -> None:
        """Store, repository and tails stay the caller's to close, after :meth:`aclose`."""
        self.options = options
        self._repository = repository
        self._node = tails.node
        self._storage = Storage(
            store=store,
            repository=repository,
            tails=tails,
            budget=MemoryBudget(options.memory_budget),
            key_root=options.key_root,
            parts_in_flight=options.parts_in_flight,
        )
        self._leases = Leases(repository, tails.node, options.leases)
        self._tasks = Tasks()
        self._works: dict[str, asyncio.Task[Upload]] = {}
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
        new = NewUpload(
            id=new_upload_id(),
            owner=command.owner,
            state=UploadState.ACTIVE,
            length=command.length,
            part_size=self._plan_part_size(command.length),
            metadata=command.metadata,
            partial=command.partial,
            concat=command.concat,
        )
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
        new = NewUpload(
            id=new_upload_id(),
            owner=command.owner,
            state=UploadState.CONCATENATING,
            length=length,
            part_size=self._plan_part_size(length),
            metadata=command.metadata,
            concat=command.concat,
            sources=command.sources,
        )
        try:
            upload = await self._repository.add(new, events=[EventType.CREATED])
        except StaleUploadError as error:
            raise ConcatenationError(None, "A partial upload is not there any more. Upload it again.") from error
        with contextlib.suppress(UploadFinalizingError, ObjectStoreError):
            return await self._work_on(upload, within=self.options.completion_timeout)
        return upload

    # The life of one upload

    async def inspect(self, upload_id: str, owner: str) -> Upload:
        """The upload as it is: one read, no call to the store, no lease.

        When all bytes are in, this drives the completion and waits for it a moment; UploadFinalizingError if it takes
        longer. UploadNotFoundError, UploadGoneError; TailMissingError when acknowledged bytes are known to be lost.
        """
        upload = await self._get(upload_id, owner)
        if upload.state is UploadState.FINALIZING:
            return await self._work_on(upload, within=self.options.inspection_timeout)
        if upload.state is UploadState.CONCATENATING:
            self._start_work(upload)
        if upload.state is UploadState.ACTIVE:
            await self._check_tail(upload)
        return upload

    async def append(self, command: AppendBytes, body: BodyReader) -> Upload:
        """Take a body at the upload's offset; the upload that is returned says the new one.

        Whatever is wrong with the request is raised before the first byte is read, and changes nothing. A body that
        ends early, or is ended, leaves what came: then its :class:`BodyError` (or DrainingError) is raised. A body
        that goes past the length leaves what fits (the upload may be complete then) and raises LengthExceededError.
        With a checksum all of the body counts, or nothing of it (ChecksumMismatchError).
        """
        self._refuse_when_draining()
        return await self._see_through(self._append(command, body), body)

    async def terminate(self, command: TerminateUpload) -> None:
        """Drop the upload; when this returns, it is gone for every process, and its bytes will go.

        UploadCompleteError for a complete one, unless the options allow it.
        """
        for _ in range(_ATTEMPTS):
            upload = await self._get(command.upload_id, command.owner)
            self._check_termination(upload)
            aborting = replace(upload, state=UploadState.ABORTING, lease=None)
            try:
                upload = await self._repository.commit(upload, aborting, events=[EventType.TERMINATED])
            except StaleUploadError:
                continue
            await self._leases.evict(upload.id, UploadTerminatedError())
            with contextlib.suppress(RindleError):  # the reaper goes on where this stops
                await self._see_through(self._clean_up(upload))
            return
        raise UploadBusyError(command.upload_id)

    # What goes on without a client

    async def expire(self, upload: Upload) -> bool:
        """Drop an upload that is past its time; False if somebody came for it meanwhile."""
        expiring = replace(upload, state=UploadState.ABORTING, reason="expired", lease=None)
        try:
            upload = await self._repository.commit(upload, expiring, events=[EventType.EXPIRED])
        except StaleUploadError:
            return False
        await self._see_through(self._clean_up(upload))
        return True

    async def recover(self, upload: Upload) -> Upload:
        """Bring to its end what some process left FINALIZING, CONCATENATING, ABORTING, or COMPLETE and untidy."""
        if upload.state is UploadState.ABORTING:
            return await self._see_through(self._clean_up(upload))
        if upload.state is UploadState.COMPLETE:
            return await self._see_through(self._tidy(upload))
        return await self._work_on(upload, within=None)

    def drain(self) -> None:
        """Take no more bytes: bodies end at once, what arrived is kept, new ones are refused. Reading goes on."""
        self._draining = True
        self._leases.stop_all(DrainingError(None))

    async def aclose(self) -> None:
        """Drain, wait for running work within the grace, and stop."""
        self.drain()
        late = await self._tasks.join(self.options.shutdown_grace)
        if late:
            logger.error("%d requests were cut off at shutdown; what they acknowledged is kept", late)
        await self._leases.aclose()

    # Appending

    async def _append(self, command: AppendBytes, body: BodyReader) -> Upload:
        token = new_token()
        async with self._leases.hold(command.upload_id, token, body):
            claimed = await self._claim(command, token)
            if isinstance(claimed, Upload):
                return await self._take_nothing(claimed, body)
            if self._draining:
                body.stop(DrainingError(command.upload_id))
            return await self._fill(claimed, command, body)

    async def _fill(self, claimed: "_Claimed", command: AppendBytes, body: BodyReader) -> Upload:
        upload = claimed.upload
        length = upload.length if command.length is None else command.length
        most = self._most(upload) if length is None else length
        ingest = Ingest(
            self._storage,
            upload,
            body,
            length=length,
            most=most,
            checksum=command.checksum,
            clean=claimed.clean,
        )
        upload = await self._ingest(ingest)
        if upload.state is UploadState.FINALIZING:
            upload = await self._work_on(upload, within=self.options.completion_timeout, parts=ingest.parts)
        upload = await self._tidied(upload)
        if body.overrun:
            raise overrun_error(upload.id, length=length, most=most)
        if body.ended is not None and upload.state is not UploadState.COMPLETE:
            raise body.ended
        return upload

    async def _ingest(self, ingest: Ingest) -> Upload:
        try:
            return await ingest.run()
        except TailMissingError as error:
            await self._fail(ingest.row, error)
            raise
        except LeaseLostError:
            await self._get(ingest.row.id, ingest.row.owner)  # raises, when the upload was terminated meanwhile
            raise

    async def _claim(self, command: AppendBytes, token: str) -> "_Claimed | Upload":
        """The claimed upload, or the complete one that this request cannot change but may repeat the end of."""
        if command.length is not None:
            await self._check_declared(command)
        most = self.options.max_size
        if command.offset + (command.body_length or 0) > most:
            raise MaxSizeExceededError(command.upload_id, max_size=most)
        take_over: str | None = None
        for _ in range(_ATTEMPTS):
            upload = await self._repository.claim(self._make_claim(command, token, take_over))
            if upload is not None:
                return _Claimed(upload, clean=take_over is None)
            upload = await self._get(command.upload_id, command.owner)
            if upload.is_final:
                raise UploadIsFinalError(upload.id)
            if upload.state is UploadState.FINALIZING and upload.offset == command.offset:
                upload = await self._work_on(upload, within=self.options.completion_timeout)
            if upload.state is UploadState.COMPLETE and upload.offset == command.offset:
                _check_length(upload, command)
                return upload
            await self._check_append(upload, command)
            take_over = await self._wait_for_lease(upload)
        raise UploadBusyError(command.upload_id)

    def _make_claim(self, command: AppendBytes, token: str, take_over: str | None) -> Claim:
        return Claim(
            upload_id=command.upload_id,
            owner=command.owner,
            offset=command.offset,
            body_length=command.body_length,
            length=command.length,
            token=token,
            holder=self._node.holder,
            node=self._node.id,
            take_over=take_over,
        )

    async def _wait_for_lease(self, upload: Upload) -> str | None:
        match await self._leases.wait_for(upload):
            case Handover.FREE:
                return None
            case Handover.DEAD:
                return upload.lease.token if upload.lease else None
            case Handover.BUSY:
                raise UploadBusyError(upload.id)

    async def _check_declared(self, command: AppendBytes) -> None:
        length = command.length or 0
        if length > self.options.max_size:
            raise MaxSizeExceededError(command.upload_id, max_size=self.options.max_size)
        if length < command.offset:
            raise LengthMismatchError(command.upload_id, "Upload-Length is below the offset. Declare the final length.")
        if length < command.offset + (command.body_length or 0):
            raise LengthExceededError(command.upload_id, length=length)
        upload = await self._get(command.upload_id, command.owner)
        if upload.length is None and length > self._most(upload):
            raise MaxSizeExceededError(upload.id, max_size=self._most(upload))

    async def _check_append(self, upload: Upload, command: AppendBytes) -> None:
        """Raise what stands in the way of this append, the lease aside."""
        if upload.offset != command.offset:
            raise OffsetMismatchError(upload.id, expected=upload.offset, given=command.offset)
        _check_length(upload, command)
        await self._check_tail(upload)

    async def _check_tail(self, upload: Upload) -> None:
        """TailMissingError if the tail lies on another node; final once an operator has given that node up."""
        tail = upload.tail
        if tail is None or tail.node == self._node.id:
            return
        node = await self._repository.find_node(tail.node)
        retired = node is not None and node.retired_at is not None
        raise TailMissingError(upload.id, reason="elsewhere", node=tail.node, final=retired)

    async def _take_nothing(self, upload: Upload, body: BodyReader) -> Upload:
        """A complete upload: an empty body at its end repeats what was said before, one more byte is too much."""
        body.limit(0)
        await body.drain(1)
        if body.overrun:
            raise LengthExceededError(upload.id, length=upload.offset)
        return upload

    # Completion and joining

    async def _work_on(self, upload: Upload, *, within: timedelta | None, parts: list[Part] | None = None) -> Upload:
        """Have the upload finished by this process; UploadFinalizingError when the time is up, the work goes on.

        ``parts``, known to a caller that holds the lease already, save claiming it and reading them.
        """
        task = self._start_work(upload, parts)
        try:
            async with asyncio.timeout(None if within is None else within.total_seconds()):
                return await asyncio.shield(task)
        except TimeoutError:
            raise UploadFinalizingError(upload.id) from None

    def _start_work(self, upload: Upload, parts: list[Part] | None = None) -> asyncio.Task[Upload]:
        task = self._works.get(upload.id)
        # Whoever brings the parts holds the lease: work that was begun without it can only find it taken.
        if task is None or parts is not None:
            task = self._works[upload.id] = self._tasks.spawn(self._work(upload, parts))
            task.add_done_callback(lambda done: self._end_work(upload.id, done))
        return task

    def _end_work(self, upload_id: str, done: asyncio.Task[Upload]) -> None:
        if self._works.get(upload_id) is done:
            del self._works[upload_id]

    async def _work(self, upload: Upload, parts: list[Part] | None) -> Upload:
        lease = None if parts is None else upload.lease
        token = new_token() if lease is None else lease.token
        async with self._leases.hold(upload.id, token):
            claimed = await self._claim_work(upload, token) if lease is None else upload
            if claimed is None:
                return await self._await_other(upload)
            if claimed.state is UploadState.CONCATENATING:
                claimed = await concatenation.join(self._storage, claimed)
            if claimed.state is UploadState.FINALIZING:
                claimed = await completion.finish(self._storage, claimed, parts)
        return await self._tidied(claimed)

    async def _claim_work(self, upload: Upload, token: str) -> Upload | None:
        lease = upload.lease
        if lease is not None and not self._leases.is_dead(lease):
            return None
        return await self._repository.claim_work(
            upload.id,
            upload.state,
            token=token,
            holder=self._node.holder,
            take_over=None if lease is None else lease.token,
        )

    async def _await_other(self, upload: Upload) -> Upload:
        """Another process is at it: look what came of it."""
        now = await self._get(upload.id, upload.owner)
        if now.state in (UploadState.FINALIZING, UploadState.CONCATENATING):
            raise UploadFinalizingError(upload.id)
        return now

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
        upload = await self._get(upload_id, owner)
        if not upload.partial:
            raise ConcatenationError(upload_id, "Only partial uploads can be joined (Upload-Concat: partial).")
        if upload.state is UploadState.FINALIZING:
            upload = await self._work_on(upload, within=self.options.completion_timeout)
        if upload.state is not UploadState.COMPLETE:
            raise ConcatenationError(upload_id, "A partial upload is not complete yet. Finish it first.")
        return upload.offset

    # Ending

    def _check_termination(self, upload: Upload) -> None:
        if upload.state is UploadState.FINALIZING or upload.state is UploadState.CONCATENATING:
            raise UploadFinalizingError(upload.id)
        if upload.pins:
            raise UploadBusyError(upload.id)
        if upload.state is UploadState.COMPLETE and not (upload.partial or self.options.terminate_complete):
            raise UploadCompleteError(upload.id)

    async def _clean_up(self, upload: Upload) -> Upload:
        """Remove all that an upload in ABORTING has left anywhere, then say so in the row."""
        await self._remove_multiparts(upload)
        await self._remove_objects(upload, keep=None)
        if upload.tail is not None and upload.tail.node == self._node.id:
            await self._storage.tails.discard(upload.tail.name)
        aborted = replace(upload, state=UploadState.ABORTED, multipart=None, key=None, tail=None)
        try:
            return await self._repository.commit(upload, aborted)
        except StaleUploadError as error:
            raise LeaseLostError(upload.id) from error

    async def _tidied(self, upload: Upload) -> Upload:
        """The upload, tidied if it is complete and needs it. If that fails, the reaper goes on."""
        if upload.state is UploadState.COMPLETE and upload.untidy:
            with contextlib.suppress(RindleError):
                return await self._tidy(upload)
        return upload

    async def _tidy(self, upload: Upload) -> Upload:
        """Remove what attempts that died, or never got an answer, left in the store beside the object."""
        await self._remove_multiparts(upload)
        await self._remove_objects(upload, keep=upload.key)
        return await self._repository.commit(upload, replace(upload, untidy=False))

    async def _remove_multiparts(self, upload: Upload) -> None:
        store = self._storage.store
        if store.capabilities.list_multiparts:
            async for multipart in store.list_multiparts(self._prefix(upload)):
                await store.abort_multipart(multipart.ref)
        elif upload.multipart is not None:
            await store.abort_multipart(upload.multipart)

    async def _remove_objects(self, upload: Upload, *, keep: str | None) -> None:
        store = self._storage.store
        async for meta in store.list(self._prefix(upload)):
            if meta.key != keep:
                await store.delete(meta.key)

    async def _fail(self, upload: Upload, error: TailMissingError) -> None:
        """Acknowledged bytes are lost for good: say so to everybody."""
        logger.error("%s; the upload cannot go on. Check the disk that holds this node's tails.", error)
        failed = replace(upload, state=UploadState.FAILED, reason=f"{error.code}:{error.reason}", lease=None)
        with contextlib.suppress(StaleUploadError):
            await self._repository.commit(upload, failed, events=[EventType.FAILED])

    # Shared

    async def _get(self, upload_id: str, owner: str) -> Upload:
        """The row, if the owner may know of it and it is not gone."""
        upload = await self._repository.find(upload_id) if is_upload_id(upload_id) else None
        if upload is None or upload.owner != owner:
            raise UploadNotFoundError(upload_id)
        if upload.gone:
            raise UploadGoneError(upload_id)
        return upload

    def _plan_part_size(self, length: int | None) -> int:
        limits = self._storage.store.part_limits
        expected = min(self.options.deferred_size, self.options.max_size) if length is None else length
        part_size = plan_part_size(expected, limits, self.options.part_size)
        if part_size is None:
            raise MaxSizeExceededError(None, max_size=min(limits.max_object_size, limits.max_size * limits.max_count))
        return part_size

    def _most(self, upload: Upload) -> int:
        """How long an upload may become whose length was not known when its parts were planned."""
        limits = self._storage.store.part_limits
        return min(self.options.max_size, limits.max_object_size, upload.part_size * limits.max_count)

    def _prefix(self, upload: Upload) -> str:
        return upload_prefix(self._storage.key_root, upload.id)

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


@dataclass(frozen=True, slots=True)
class _Claimed:
    upload: Upload
    clean: bool


def _check_length(upload: Upload, command: AppendBytes) -> None:
    """Raise if the length that is fixed is not the one declared, or the body goes past it."""
    if upload.length is None:
        return
    if command.length not in (None, upload.length):
        raise LengthMismatchError(upload.id, f"Upload-Length is fixed at {upload.length} and cannot change.")
    if command.offset + (command.body_length or 0) > upload.length:
        raise LengthExceededError(upload.id, length=upload.length)


async def _no_bytes() -> bytes | None:
    return None
