"""Joining complete partial uploads into one object, inside the store wherever it can copy.

Every part is committed as it is stored, so that another process can go on where one died. The sources are pinned by
their rows until the upload leaves this state.
"""

import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

from typing_extensions import override

from rindle.objectstore.base import ObjectStore
from rindle.objectstore.errors import InvalidRangeError, MultipartNotFoundError, NotFoundError, ObjectStoreError
from rindle.objectstore.payload import JoinedPayload, Payload
from rindle.objectstore.types import ByteRange, GetOptions, PartMeta
from rindle.uploads.checksum import combine_crc64nvme
from rindle.uploads.errors import LeaseLostError, StaleUploadError, UploadGoneError
from rindle.uploads.model import EventType, Part, Upload, UploadState
from rindle.uploads.planner import Segment, plan_joining
from rindle.uploads.storage import Storage

logger = logging.getLogger("rindle.uploads")

_LOST = (NotFoundError, InvalidRangeError, MultipartNotFoundError)


class _Source(Payload):
    """A range of an object, read from the store each time it is sent."""

    def __init__(self, store: ObjectStore, key: str, segment: Segment) -> None:
        super().__init__(segment.size)
        self._store = store
        self._key = key
        self._range = ByteRange(segment.start, segment.end)

    @override
    async def __aiter__(self) -> AsyncIterator[bytes]:
        async with await self._store.get(self._key, GetOptions(range=self._range)) as found:
            async for chunk in found:
                yield chunk


async def join(storage: Storage, row: Upload) -> Upload:
    """Store the parts of a concatenation whose lease the caller holds.

    The row returned is FINALIZING with its lease kept, or COMPLETE with its lease released when one put was all.
    On an error the lease is released and what was stored stays committed, for another attempt. UploadGoneError when
    no attempt can succeed, because a source or what was stored is not there any more: the row is ABORTING then.
    """
    sources = await storage.repository.find_sources(row.id)
    try:
        if (row.length or 0) <= row.part_size:
            return await _put_whole(storage, row, sources)
        return await _put_parts(storage, row, sources)
    except StaleUploadError as error:
        raise LeaseLostError(row.id) from error


async def _put_whole(storage: Storage, row: Upload, sources: Sequence[Upload]) -> Upload:
    key = storage.new_key(row)
    whole = [Segment(number, 0, source.offset) for number, source in enumerate(sources) if source.offset]
    try:
        result = await storage.store.put(key, _payload(storage, sources, whole), storage.put_options(row))
    except ObjectStoreError as error:
        await _give_up(storage, row, error)
        raise
    done = replace(row, offset=row.length or 0).with_object(key, result.e_tag, _crc64nvme(sources))
    try:
        return await storage.repository.commit(row, done, events=done.finish_events)
    except StaleUploadError:
        with contextlib.suppress(ObjectStoreError):
            await storage.store.delete(key)
        raise


async def _put_parts(storage: Storage, row: Upload, sources: Sequence[Upload]) -> Upload:
    limits = storage.store.part_limits
    plan = plan_joining([source.offset for source in sources], limits, row.part_size)
    try:
        if row.multipart is None:
            multipart = await storage.create_multipart(row, part_size=row.part_size if limits.uniform else None)
            row = await storage.repository.commit(row, replace(row, multipart=multipart, key=multipart.key))
        for number, segments in enumerate(plan[row.part_count :], start=row.part_count + 1):
            meta = await _store_part(storage, row, number, sources, segments)
            part = Part(part_number=number, size=meta.size, e_tag=meta.e_tag)
            row = await storage.repository.commit(row, replace(row, part_count=number), parts=[part])
    except ObjectStoreError as error:
        await _give_up(storage, row, error)
        raise
    done = replace(row, state=UploadState.FINALIZING, offset=row.length or 0, crc64nvme=_crc64nvme(sources))
    return await storage.repository.commit(row, done)


async def _store_part(
    storage: Storage, row: Upload, number: int, sources: Sequence[Upload], segments: Sequence[Segment]
) -> PartMeta:
    assert row.multipart is not None  # noqa: S101 - made before the first part
    store = storage.store
    first = segments[0]
    if len(segments) == 1 and store.capabilities.copy_part:
        key = _key(sources[first.source])
        return await store.copy_part(row.multipart, number, key, ByteRange(first.start, first.end))
    return await store.put_part(row.multipart, number, _payload(storage, sources, segments))


def _payload(storage: Storage, sources: Sequence[Upload], segments: Sequence[Segment]) -> Payload:
    return JoinedPayload(_Source(storage.store, _key(sources[segment.source]), segment) for segment in segments)


def _crc64nvme(sources: Sequence[Upload]) -> int | None:
    return combine_crc64nvme((source.crc64nvme, source.offset) for source in sources)


def _key(source: Upload) -> str:
    assert source.key is not None  # noqa: S101 - a complete upload has an object
    return source.key


async def _give_up(storage: Storage, row: Upload, error: ObjectStoreError) -> None:
    if isinstance(error, _LOST):
        await storage.repository.commit(row, row.ending(error.code), events=[EventType.FAILED])
        logger.error("upload %s failed: what it joins is not in the store any more: %s", row.id, error.log_message)
        raise UploadGoneError(row.id) from error
    # What failed may have been done, though its answer is lost.
    with contextlib.suppress(StaleUploadError):
        await storage.repository.commit(row, replace(row, lease=None, untidy=True))
