"""Moving tails from this node's disk into the store, so that every node can go on from them.

Two times: when nobody has touched a tail for a while, and when the process is about to end.
"""

import asyncio
import logging
from dataclasses import replace
from datetime import timedelta

from rindle.errors import RindleError
from rindle.uploads.buffer import PartBuffer
from rindle.uploads.errors import StaleUploadError, TailMissingError
from rindle.uploads.ids import new_token
from rindle.uploads.leases import Leases
from rindle.uploads.model import Tail, Upload, UploadState
from rindle.uploads.storage import Storage

logger = logging.getLogger("rindle.uploads")

_AT_ONCE = 8


async def spill_idle(storage: Storage, leases: Leases, idle_for: timedelta, *, limit: int | None = None) -> int:
    """Spill the tails of this node that nobody has touched for so long, or so many of them; how many that were.

    One that fails is logged, and stays where it is.
    """
    slots = asyncio.Semaphore(_AT_ONCE)

    async def spill_one(upload_id: str, name: str) -> bool:
        async with slots:
            try:
                upload = await storage.repository.find(upload_id)
                if upload is None or upload.tail is None or upload.tail.name != name:
                    return False
                return await spill(storage, leases, upload)
            except RindleError as error:
                logger.warning("the tail of upload %s was not spilled: %s", upload_id, error.log_message)
                return False

    idle = (await storage.tails.find_idle(idle_for))[:limit]
    return sum(await asyncio.gather(*(spill_one(upload_id, name) for upload_id, name in idle)))


async def spill(storage: Storage, leases: Leases, upload: Upload) -> bool:
    """Move the tail of an upload that nobody appends to into the store; False if there is nothing to move, or not now.

    Reserve, act, commit: the row says first that the store may hold more than it names, and is switched to the copy
    once that stands; the file goes last. Whoever appends meanwhile wins. From a holder that died its lease is taken
    over, as by an append.
    """
    tail, lease = upload.tail, upload.lease
    if tail is None or tail.node != storage.tails.node.id or upload.state is not UploadState.ACTIVE or upload.gone:
        return False
    if lease is None:
        return await _move(storage, upload, tail, clean=True)
    if not leases.is_dead(lease):
        return False
    token = new_token()
    async with leases.hold(upload.id, token):
        claimed = await storage.repository.claim_work(
            upload.id, upload.state, token=token, holder=storage.tails.node.holder, take_over=lease.token
        )
        return claimed is not None and await _move(storage, claimed, tail, clean=False)


async def _move(storage: Storage, upload: Upload, tail: Tail, *, clean: bool) -> bool:
    try:
        if not upload.untidy:
            upload = await storage.repository.commit(upload, replace(upload, untidy=True))
        file = await storage.tails.resume(upload.id, tail, clean=clean)
    except (StaleUploadError, TailMissingError):  # of a tail that is lost, the next append says so
        return False
    buffer = PartBuffer(upload.id, storage.tails, storage.budget)
    buffer.begin_with(file, tail.crc64nvme)
    try:
        spilled = await storage.put_tail(upload, buffer)
        try:
            await storage.repository.commit(upload, replace(upload, tail=spilled, lease=None))
        except StaleUploadError:
            await storage.drop_tail(spilled)
            await file.abandon()
            return False
    except FileNotFoundError:  # whoever appended meanwhile has removed the file while the store read it
        file.close()
        return False
    except BaseException:
        file.close()  # a commit without an answer may have been done: the sweep sees what the row names
        raise
    storage.observer.tail_spilled()
    await file.remove()
    return True
