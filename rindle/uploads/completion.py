"""From all bytes stored to one object: FINALIZING to COMPLETE, by any process, as often as it takes.

The list of parts comes from the rows, never from the store, so that the store's own check of every part's ``e_tag``
is the last fence. A multipart that is gone proves nothing: only the object under the key does.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace

from rindle.objectstore.errors import (
    InvalidPartError,
    MultipartNotFoundError,
    NotFoundError,
    ObjectStoreError,
    TransientStoreError,
)
from rindle.objectstore.types import GetOptions, PartMeta
from rindle.uploads.errors import LeaseLostError, StaleUploadError, UploadGoneError
from rindle.uploads.model import EventType, Part, Upload, UploadState
from rindle.uploads.storage import MARKER, Storage

logger = logging.getLogger("rindle.uploads")

_PAUSES = (0.1, 0.3, 1.0, 3.0)  # seconds between attempts; after them the reaper goes on
_HEAD = GetOptions(head=True)


async def finish(storage: Storage, row: Upload, parts: Sequence[Part] | None = None) -> Upload:
    """Assemble the object of an upload that is FINALIZING and whose lease the caller holds.

    The row returned is COMPLETE, its lease released. ObjectStoreError when the store does not do it, for whatever
    reason: the row stays FINALIZING, its lease released, for another attempt. UploadGoneError when the parts are
    lost: the row is ABORTING then. LeaseLostError when another process took over.
    """
    if parts is None or len(parts) != row.part_count:
        parts = await storage.repository.find_parts(row.id)
    try:
        e_tag = await _assemble(storage, row, parts)
    except (MultipartNotFoundError, InvalidPartError) as error:
        await _commit(storage, row, row.ending(error.code), events=[EventType.FAILED])
        logger.exception("upload %s failed: its parts are not in the store any more", row.id)
        raise UploadGoneError(row.id) from error
    except ObjectStoreError:
        await _commit(storage, row, replace(row, lease=None))
        raise
    done = replace(row, state=UploadState.COMPLETE, e_tag=e_tag, lease=None)
    return await _commit(storage, row, done, events=done.finish_events)


async def _assemble(storage: Storage, row: Upload, parts: Sequence[Part]) -> str | None:
    assert row.multipart is not None  # noqa: S101 - an upload of one put is never FINALIZING
    listed = [
        PartMeta(part_number=part.part_number, size=part.size, e_tag=part.e_tag, crc64nvme=part.crc64nvme)
        for part in parts
    ]
    for pause in (*_PAUSES, None):
        try:
            return (await storage.store.complete_multipart(row.multipart, listed)).e_tag
        except MultipartNotFoundError:
            # Perhaps an earlier call did it and its answer was lost.
            return await _find_object(storage, row)
        except TransientStoreError as error:
            if pause is None:
                raise
            logger.warning("upload %s is not assembled yet: %s", row.id, error)
            await asyncio.sleep(pause)
    raise AssertionError


async def _find_object(storage: Storage, row: Upload) -> str | None:
    """The e_tag of the object, if it stands under the upload's key and is this upload's."""
    assert row.key is not None  # noqa: S101 - set with the multipart
    try:
        found = await storage.store.get(row.key, _HEAD)
    except NotFoundError as error:
        msg = "the multipart is gone and there is no object"
        raise MultipartNotFoundError(msg, store=storage.store.name, key=row.key) from error
    async with found:
        marked = found.attributes.metadata.get(MARKER, row.id) == row.id
        if not marked or found.meta.size != row.length:
            msg = "the multipart is gone and another object stands under its key"
            raise MultipartNotFoundError(msg, store=storage.store.name, key=row.key)
        return found.meta.e_tag


async def _commit(storage: Storage, before: Upload, after: Upload, *, events: Sequence[EventType] = ()) -> Upload:
    try:
        return await storage.repository.commit(before, after, events=events)
    except StaleUploadError as error:
        raise LeaseLostError(before.id) from error
