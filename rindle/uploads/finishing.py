"""From all bytes stored to COMPLETE, by one task of this process for each upload, whoever waits for it."""

import asyncio
from datetime import timedelta

from rindle.observability.tracing import span
from rindle.uploads import completion, concatenation
from rindle.uploads.cleaning import tidy_if_needed
from rindle.uploads.errors import UploadFinalizingError
from rindle.uploads.ids import new_token
from rindle.uploads.leases import Leases
from rindle.uploads.model import Part, Upload, UploadState
from rindle.uploads.storage import Storage
from rindle.uploads.tasks import Tasks


class Finisher:
    """Finishes uploads that are FINALIZING or CONCATENATING, each under its lease."""

    def __init__(self, storage: Storage, leases: Leases, tasks: Tasks) -> None:
        self._storage = storage
        self._leases = leases
        self._tasks = tasks
        self._works: dict[str, asyncio.Task[Upload]] = {}

    async def finish(self, upload: Upload, *, within: timedelta | None, parts: list[Part] | None = None) -> Upload:
        """Have the upload finished by this process; UploadFinalizingError when the time is up, the work goes on.

        ``parts``, known to a caller that holds the lease already, save claiming it and reading them.
        """
        task = self.start(upload, parts)
        done, _ = await asyncio.wait([task], timeout=None if within is None else within.total_seconds())
        if not done:
            raise UploadFinalizingError(upload.id)
        return task.result()

    def start(self, upload: Upload, parts: list[Part] | None = None) -> asyncio.Task[Upload]:
        """Begin to finish the upload, or find who is at it here."""
        task = self._works.get(upload.id)
        # Whoever brings the parts holds the lease: work that was begun without it can only find it taken.
        if task is None or parts is not None:
            task = self._works[upload.id] = self._tasks.spawn(self._work(upload, parts))
            task.add_done_callback(lambda done: self._forget(upload.id, done))
        return task

    def _forget(self, upload_id: str, done: asyncio.Task[Upload]) -> None:
        if self._works.get(upload_id) is done:
            del self._works[upload_id]

    async def _work(self, upload: Upload, parts: list[Part] | None) -> Upload:
        lease = None if parts is None else upload.lease
        token = new_token() if lease is None else lease.token
        with span("rindle.finish", upload_id=upload.id):
            async with self._leases.hold(upload.id, token):
                claimed = await self._claim(upload, token) if lease is None else upload
                if claimed is None:
                    return await self._look_again(upload)
                if claimed.state is UploadState.CONCATENATING:
                    claimed = await concatenation.join(self._storage, claimed)
                if claimed.state is UploadState.FINALIZING:
                    claimed = await completion.finish(self._storage, claimed, parts)
        return await tidy_if_needed(self._storage, claimed)

    async def _claim(self, upload: Upload, token: str) -> Upload | None:
        lease = upload.lease
        if lease is not None and not self._leases.is_dead(lease):
            return None
        return await self._storage.repository.claim_work(
            upload.id,
            upload.state,
            token=token,
            holder=self._storage.tails.node.holder,
            take_over=None if lease is None else lease.token,
        )

    async def _look_again(self, upload: Upload) -> Upload:
        """Another process is at it: look what came of it."""
        now = await self._storage.load(upload.id, upload.owner)
        if now.state in (UploadState.FINALIZING, UploadState.CONCATENATING):
            raise UploadFinalizingError(upload.id)
        return now
