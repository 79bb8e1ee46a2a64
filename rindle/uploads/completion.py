"""From all bytes stored to one object at its place: FINALIZING to COMPLETE, by any process, as often as it takes.

The list of parts comes from the rows, never from the store, so that the store's own check of every part's ``e_tag``
is the last fence. A multipart that is gone proves nothing: only the object under the key does.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from rindle.objectstore.errors import (
    AlreadyExistsError,
    InvalidPartError,
    MultipartNotFoundError,
    ObjectStoreError,
    TransientStoreError,
)
from rindle.objectstore.types import PartMeta
from rindle.uploads.checksum import combine_crc64nvme
from rindle.uploads.errors import LeaseLostError, StaleUploadError, UploadGoneError
from rindle.uploads.keys import set_aside
from rindle.uploads.model import EventType, Part, Upload, UploadState
from rindle.uploads.publishing import publish
from rindle.uploads.storage import Storage

logger = logging.getLogger("rindle.uploads")

Result = TypeVar("Result")

_PAUSES = (0.1, 0.3, 1.0, 3.0)  # seconds between attempts; after them the reaper goes on


async def finish(storage: Storage, row: Upload, parts: Sequence[Part] | None = None) -> Upload:
    """Assemble and publish the object of an upload that is FINALIZING and whose lease the caller holds.

    The row returned is COMPLETE, its lease released. ObjectStoreError when the store does not do it, for whatever
    reason: the row stays FINALIZING, its lease released, for another attempt. UploadGoneError when the parts are
    lost: the row is ABORTING then. LeaseLostError when another process took over.
    """
    if parts is None or len(parts) != row.part_count:
        parts = await storage.repository.find_parts(row.id)
    try:
        done = replace(row, e_tag=await _assemble(storage, row, parts))
        if row.target is not None:
            try:
                done = await _patiently(row, lambda: publish(storage, row))
            except AlreadyExistsError:
                row = await _commit(storage, row, replace(row, target=set_aside(row.target, row.id)))
                done = await _patiently(row, lambda: publish(storage, row))
    except (MultipartNotFoundError, InvalidPartError) as error:
        await _commit(storage, row, row.ending(error.code), events=[EventType.FAILED])
        logger.error("upload %s failed: its parts are not in the store any more: %s", row.id, error.log_message)  # noqa: TRY400 - a traceback repeats keys
        raise UploadGoneError(row.id) from error
    except ObjectStoreError:
        await _commit(storage, row, replace(row, lease=None))
        raise
    crc = combine_crc64nvme((part.crc64nvme, part.size) for part in parts) if row.crc64nvme is None else row.crc64nvme
    done = replace(done, state=UploadState.COMPLETE, crc64nvme=crc, lease=None)
    return await _commit(storage, row, done, events=done.finish_events)


async def _assemble(storage: Storage, row: Upload, parts: Sequence[Part]) -> str | None:
    multipart = row.multipart
    if multipart is None:  # one put made the object
        return row.e_tag
    listed = [
        PartMeta(part_number=part.part_number, size=part.size, e_tag=part.e_tag, crc64nvme=part.crc64nvme)
        for part in parts
    ]
    try:
        return (await _patiently(row, lambda: storage.store.complete_multipart(multipart, listed))).e_tag
    except MultipartNotFoundError:
        # Perhaps an earlier call did it and its answer was lost.
        found = await _patiently(row, lambda: storage.find_object(row, multipart.key))
        if found is None:
            raise
        return found.e_tag


async def _patiently(row: Upload, work: Callable[[], Awaitable[Result]]) -> Result:
    for pause in _PAUSES:
        try:
            return await work()
        except TransientStoreError as error:
            logger.warning("upload %s is not finished yet: %s", row.id, error.log_message)
            await asyncio.sleep(pause)
    return await work()


async def _commit(storage: Storage, before: Upload, after: Upload, *, events: Sequence[EventType] = ()) -> Upload:
    try:
        return await storage.repository.commit(before, after, events=events)
    except StaleUploadError as error:
        raise LeaseLostError(before.id) from error
