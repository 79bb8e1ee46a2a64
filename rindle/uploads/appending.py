"""Who may append to an upload, and what becomes of it: claim, ingest, finish."""

import contextlib
import logging
from dataclasses import dataclass, replace

from rindle.errors import RindleError
from rindle.objectstore.errors import MultipartNotFoundError
from rindle.uploads.admission import Admission
from rindle.uploads.body import BodyReader
from rindle.uploads.cleaning import tidy_if_needed
from rindle.uploads.commands import AppendBytes
from rindle.uploads.errors import (
    LeaseLostError,
    LengthExceededError,
    LengthMismatchError,
    MaxSizeExceededError,
    OffsetMismatchError,
    StaleUploadError,
    TailMissingError,
    UploadBusyError,
    UploadGoneError,
    UploadIsFinalError,
)
from rindle.uploads.finishing import Finisher
from rindle.uploads.ids import new_token
from rindle.uploads.ingest import Ingest, overrun_error
from rindle.uploads.leases import Handover, Leases
from rindle.uploads.model import EventType, Upload, UploadState
from rindle.uploads.options import EngineOptions
from rindle.uploads.ports import Claim
from rindle.uploads.storage import Storage

logger = logging.getLogger("rindle.uploads")

_ATTEMPTS = 20  # at a lease that others keep winning


@dataclass(frozen=True, slots=True)
class _Claimed:
    """``clean``: the last holder let go of its lease by itself."""

    upload: Upload
    clean: bool


class Appender:
    """Takes bodies into uploads, each under its lease."""

    def __init__(self, storage: Storage, leases: Leases, finisher: Finisher, options: EngineOptions) -> None:
        self._storage = storage
        self._leases = leases
        self._finisher = finisher
        self._options = options
        self._admission = Admission(
            storage.tails, storage.budget, most=options.max_appends, least_free=options.least_free
        )

    async def append(self, command: AppendBytes, body: BodyReader) -> Upload:
        """See :meth:`rindle.uploads.engine.UploadEngine.append`."""
        token = new_token()
        with self._storage.observer.appending():
            async with self._admission.enter(command.upload_id), self._leases.hold(command.upload_id, token, body):
                claimed = await self._claim(command, token)
                if isinstance(claimed, Upload):
                    return await _take_nothing(claimed, body)
                return await self._fill(claimed, command, body)

    async def check_tail(self, upload: Upload) -> Upload:
        """The upload, if its tail can be had here; rewound, if it can be had nowhere and the options allow that.

        Else TailMissingError: final once an operator has given the node up on whose disk it lies.
        """
        tail = upload.tail
        if tail is None or tail.in_store or tail.node == self._storage.tails.node.id:
            return upload
        self._storage.observer.tail_missing("elsewhere")
        node = await self._storage.repository.find_node(tail.node)
        retired = node is not None and node.retired_at is not None
        error = TailMissingError(upload.id, reason="elsewhere", node=tail.node, final=retired)
        if retired and self._options.rewind and (upload.lease is None or self._leases.is_dead(upload.lease)):
            return await self._rewind(upload, error)
        raise error

    # The body

    async def _fill(self, claimed: _Claimed, command: AppendBytes, body: BodyReader) -> Upload:
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
            upload = await self._finisher.finish(upload, within=self._options.completion_timeout, parts=ingest.parts)
        upload = await tidy_if_needed(self._storage, upload)
        if body.overrun:
            raise overrun_error(upload.id, length=length, most=most)
        if body.ended is not None and upload.state is not UploadState.COMPLETE:
            raise body.ended
        return upload

    async def _ingest(self, ingest: Ingest) -> Upload:
        try:
            return await ingest.run()
        except TailMissingError as error:
            self._storage.observer.tail_missing(error.reason)
            if not self._options.rewind:
                await self._fail(ingest.row, error, f"{error.code}:{error.reason}")
                raise
            rewound = await self._rewind(ingest.row, error)
            raise OffsetMismatchError(rewound.id, expected=rewound.offset, given=ingest.row.offset) from error
        except MultipartNotFoundError as error:
            await self._lose_parts(ingest.row, error)
            raise
        except LeaseLostError:
            # If the upload was terminated meanwhile, this says so.
            await self._storage.load(ingest.row.id, ingest.row.owner)
            raise

    async def _lose_parts(self, row: Upload, error: MultipartNotFoundError) -> None:
        """The multipart is gone, and what was acknowledged of it: UploadGoneError. Return if that was nothing."""
        if not row.part_count:
            with contextlib.suppress(StaleUploadError):
                await self._storage.repository.commit(row, replace(row, multipart=None, key=None))
        # The records may have fallen back behind an object that stands.
        elif row.key is None or await self._storage.find_object(row, row.key) is None:
            await self._fail(row, error, error.code)
            raise UploadGoneError(row.id) from error

    async def _rewind(self, upload: Upload, error: TailMissingError) -> Upload:
        """Go back to the last committed part. Only what the tail held has to be sent again, if the client can."""
        try:
            untidy = upload.untidy or upload.lease is not None
            rewound = replace(upload, offset=upload.parts_end, tail=None, lease=None, untidy=untidy)
            rewound = await self._storage.repository.commit(upload, rewound)
        except StaleUploadError:
            raise error from None
        self._storage.observer.upload_rewound()
        logger.warning("%s; the upload was rewound from %d to %d", error, upload.offset, rewound.offset)
        return rewound

    async def _fail(self, upload: Upload, error: RindleError, reason: str) -> None:
        """Acknowledged bytes are lost for good: say so to everybody. The reaper removes what is left of the upload."""
        logger.error("upload %s cannot go on: %s", upload.id, error)
        try:
            await self._storage.repository.commit(upload, upload.ending(reason), events=[EventType.FAILED])
        except StaleUploadError:
            logger.info("upload %s was ended by another request meanwhile", upload.id)

    # The claim, and what stands in its way

    async def _claim(self, command: AppendBytes, token: str) -> _Claimed | Upload:
        """The claimed upload, or the complete one that this request cannot change but may repeat the end of."""
        if command.length is not None:
            await self._check_declared(command, command.length)
        most = self._options.max_size
        if command.offset + (command.body_length or 0) > most:
            raise MaxSizeExceededError(command.upload_id, max_size=most)
        take_over: str | None = None
        for _ in range(_ATTEMPTS):
            upload = await self._storage.repository.claim(self._make_claim(command, token, take_over))
            if upload is not None:
                return _Claimed(upload, clean=take_over is None)
            upload = await self._storage.load(command.upload_id, command.owner)
            if upload.is_final:
                raise UploadIsFinalError(upload.id)
            if upload.state is UploadState.FINALIZING and upload.offset == command.offset:
                upload = await self._finisher.finish(upload, within=self._options.completion_timeout)
            if upload.state is UploadState.COMPLETE and upload.offset == command.offset:
                _check_length(upload, command)
                return upload
            await self._check(upload, command)
            take_over = await self._wait_for_lease(upload)
        raise UploadBusyError(command.upload_id)

    def _make_claim(self, command: AppendBytes, token: str, take_over: str | None) -> Claim:
        node = self._storage.tails.node
        return Claim(
            upload_id=command.upload_id,
            owner=command.owner,
            offset=command.offset,
            body_length=command.body_length,
            length=command.length,
            token=token,
            holder=node.holder,
            node=node.id,
            take_over=take_over,
        )

    async def _wait_for_lease(self, upload: Upload) -> str | None:
        if upload.lease is None:
            return None
        with self._storage.observer.waiting_for_lock():
            handover = await self._leases.wait_for(upload)
        match handover:
            case Handover.FREE:
                return None
            case Handover.DEAD:
                return upload.lease.token
            case Handover.BUSY:
                raise UploadBusyError(upload.id)

    async def _check_declared(self, command: AppendBytes, length: int) -> None:
        if length > self._options.max_size:
            raise MaxSizeExceededError(command.upload_id, max_size=self._options.max_size)
        if length < command.offset:
            raise LengthMismatchError(command.upload_id, "Upload-Length is below the offset. Declare the final length.")
        if length < command.offset + (command.body_length or 0):
            raise LengthExceededError(command.upload_id, length=length)
        upload = await self._storage.load(command.upload_id, command.owner)
        if upload.length is None and length > self._most(upload):
            raise MaxSizeExceededError(upload.id, max_size=self._most(upload))

    async def _check(self, upload: Upload, command: AppendBytes) -> None:
        """Raise what stands in the way of this append, the lease aside."""
        if upload.offset == command.offset:
            _check_length(upload, command)
            upload = await self.check_tail(upload)
        if upload.offset != command.offset:
            raise OffsetMismatchError(upload.id, expected=upload.offset, given=command.offset)

    def _most(self, upload: Upload) -> int:
        """How long an upload may become whose length was not known when its parts were planned."""
        limits = self._storage.store.part_limits
        return min(self._options.max_size, limits.max_object_size, upload.part_size * limits.max_count)


def _check_length(upload: Upload, command: AppendBytes) -> None:
    """Raise if the length that is fixed is not the one declared, or the body goes past it."""
    if upload.length is None:
        return
    if command.length not in (None, upload.length):
        raise LengthMismatchError(upload.id, f"Upload-Length is fixed at {upload.length} and cannot change.")
    if command.offset + (command.body_length or 0) > upload.length:
        raise LengthExceededError(upload.id, length=upload.length)


async def _take_nothing(upload: Upload, body: BodyReader) -> Upload:
    """A complete upload: an empty body at its end repeats what was said before, one more byte is too much."""
    body.limit(0)
    await body.drain(1)
    if body.overrun:
        raise LengthExceededError(upload.id, length=upload.offset)
    return upload
