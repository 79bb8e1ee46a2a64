"""Removing what an upload has left in the store and on disk, by any process, as often as it takes."""

import contextlib
from dataclasses import replace

from rindle.errors import RindleError
from rindle.uploads.errors import LeaseLostError, StaleUploadError
from rindle.uploads.model import Upload, UploadState
from rindle.uploads.publishing import withdraw
from rindle.uploads.storage import Storage


async def clean_up(storage: Storage, upload: Upload) -> Upload:
    """Remove all that an upload in ABORTING has left anywhere, then say so in the row.

    A tail on another node is that node's to remove: no row names it any more. LeaseLostError: another process has
    done it. Errors of the store leave the row ABORTING, for another attempt.
    """
    await _remove_multiparts(storage, upload)
    await _remove_objects(storage, upload, keep=None)
    await withdraw(storage, upload)
    if upload.tail is not None and upload.tail.node == storage.tails.node.id:
        await storage.tails.discard(upload.tail.name)
    state = UploadState.FAILED if upload.failed else UploadState.ABORTED
    try:
        return await storage.repository.commit(
            upload, replace(upload, state=state, multipart=None, key=None, tail=None)
        )
    except StaleUploadError as error:
        raise LeaseLostError(upload.id) from error


async def tidy(storage: Storage, upload: Upload) -> Upload:
    """Remove what attempts that died, or never got an answer, left in the store beside the object of this upload."""
    await _remove_multiparts(storage, upload)
    await _remove_objects(storage, upload, keep=upload.key)
    return await storage.repository.commit(upload, replace(upload, untidy=False))


async def tidy_if_needed(storage: Storage, upload: Upload) -> Upload:
    """The upload, tidied if it is complete and needs it. If that fails, the reaper goes on."""
    if upload.state is UploadState.COMPLETE and upload.untidy:
        with contextlib.suppress(RindleError):
            return await tidy(storage, upload)
    return upload


async def _remove_multiparts(storage: Storage, upload: Upload) -> None:
    store = storage.store
    if store.capabilities.list_multiparts:
        async for multipart in store.list_multiparts(storage.object_prefix(upload)):
            await store.abort_multipart(multipart.ref)
    elif upload.multipart is not None:
        await store.abort_multipart(upload.multipart)


async def _remove_objects(storage: Storage, upload: Upload, *, keep: str | None) -> None:
    store = storage.store
    for prefix in (storage.object_prefix(upload), storage.tail_prefix(upload)):
        async for meta in store.list(prefix):
            if meta.key != keep:
                await store.delete(meta.key)
