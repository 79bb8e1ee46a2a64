"""One append: a body becomes parts in the store, a tail on disk, and rows that say so.

The order of every step: act in the store or on the disk, then commit by compare-and-set, then remove what the commit
made garbage. Parts are stored side by side and committed one after another, so that the offset is always the end of a
contiguous run of stored bytes. What fails leaves the last commit standing.
"""

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal

from rindle.errors import RindleError
from rindle.objectstore.errors import NotFoundError, ObjectStoreError
from rindle.objectstore.types import MultipartRef
from rindle.observability.tracing import span
from rindle.uploads.body import BodyReader
from rindle.uploads.buffer import PartBuffer
from rindle.uploads.checksum import Checksum
from rindle.uploads.errors import (
    ChecksumMismatchError,
    DatabaseUnavailableError,
    LeaseLostError,
    LengthExceededError,
    MaxSizeExceededError,
    RepositoryError,
    StaleUploadError,
    TailMissingError,
    UploadError,
)
from rindle.uploads.model import EventType, Part, Tail, Upload, UploadState
from rindle.uploads.storage import Storage


class Ingest:
    """Takes one body into one claimed upload. ``row`` is always the last committed state."""

    def __init__(
        self,
        storage: Storage,
        upload: Upload,
        body: BodyReader,
        *,
        length: int | None,
        most: int,
        checksum: Checksum | None,
        clean: bool,
    ) -> None:
        """``length``: the upload's, or the one that this request declares; it is committed with the first bytes.

        ``most``: the offset that must not be passed. ``clean``: the last holder released its lease.
        """
        self.row = upload
        self.parts: list[Part] = []
        self._storage = storage
        self._body = body
        self._counted = 0
        self._length = length
        self._most = most
        self._clean = clean
        # With a checksum every byte is provisional until the last one: parts are stored, and committed all at once.
        self._verifier = checksum.verifier() if checksum else None
        self._held: list[Part] = []
        self._position = upload.offset
        self._next_number = upload.part_count + 1
        self._multipart = upload.multipart
        self._open: list[PartBuffer] = []
        self._buffer = self._new_buffer()
        self._slots = asyncio.Semaphore(storage.parts_in_flight)
        self._storing: list[asyncio.Task[None]] = []

    async def run(self) -> Upload:
        """Take the body to its end and commit what came.

        The row returned is ACTIVE with its lease released, COMPLETE likewise, or FINALIZING with the lease kept. When
        this raises, the lease is released where that is possible, and nothing since the last commit counts.
        """
        try:
            await self._begin()
            await self._receive()
            await self._settle()
            self._verify()
            await self._conclude()
        except BaseException as error:
            await self._give_up(error)
            raise
        finally:
            self._count_received()
        return self.row

    async def _begin(self) -> None:
        tail = self.row.tail
        if tail is not None and tail.in_store:
            await self._fetch(tail)
        elif tail is not None:
            file = await self._storage.tails.resume(self.row.id, tail, clean=self._clean)
            self._buffer.begin_with(file, tail.crc64nvme)
        self._body.limit(self._most - self.row.offset)

    async def _fetch(self, tail: Tail) -> None:
        try:
            found = await self._storage.store.get(tail.name)
        except NotFoundError as error:
            raise TailMissingError(self.row.id, reason="missing", node=tail.node, final=True) from error
        async with found:
            async for chunk in found:
                await self._buffer.add(chunk)
        if self._buffer.size != tail.length or self._buffer.crc64nvme != tail.crc64nvme:
            reason: Literal["short", "corrupt"] = "short" if self._buffer.size < tail.length else "corrupt"
            raise TailMissingError(self.row.id, reason=reason, node=tail.node, final=True)

    async def _receive(self) -> None:
        while (chunk := await self._body.read()) is not None:
            if self._verifier is not None:
                self._verifier.update(chunk)
            await self._take(chunk)

    async def _take(self, chunk: bytes) -> None:
        while chunk:
            room = self.row.part_size - self._buffer.size
            piece, chunk = chunk[:room], chunk[room:]
            self._position += len(piece)
            await self._buffer.add(piece)
            # The part that reaches the length is the last one: its commit decides how the upload ends.
            if len(piece) == room and self._position != self._length:
                await self._start_part()

    async def _start_part(self) -> None:
        self._count_received()
        await self._slots.acquire()
        multipart = await self._get_multipart()
        self._storing = [task for task in self._storing if not task.done() or task.exception()]
        before = self._storing[-1] if self._storing else None
        store = self._store_part(multipart, self._next_number, self._buffer, before)
        self._storing.append(asyncio.create_task(store))
        self._next_number += 1
        self._buffer = self._new_buffer()

    def _count_received(self) -> None:
        self._storage.observer.bytes_received(self._body.received - self._counted)
        self._counted = self._body.received

    async def _get_multipart(self) -> MultipartRef:
        # Its commit is the first part's. Until then it can be found by its key, which lies under the upload's prefix.
        if self._multipart is None:
            self._multipart = await self._storage.create_multipart(self.row, part_size=self.row.part_size)
        return self._multipart

    async def _store_part(
        self, multipart: MultipartRef, number: int, buffer: PartBuffer, before: asyncio.Task[None] | None
    ) -> None:
        try:
            part = await self._put_part(multipart, number, buffer)
            if before is not None:
                await before
            if self._verifier is None:
                await self._commit(self._with_parts([part]), parts=[part])
                await self._drop(buffer)
            else:
                self._held.append(part)
        except RindleError as error:
            self._body.stop(error)
            raise
        finally:
            self._slots.release()

    async def _put_part(self, multipart: MultipartRef, number: int, buffer: PartBuffer) -> Part:
        try:
            with self._storing_part(part_number=number, size=buffer.size), buffer.payload() as payload:
                meta = await self._storage.store.put_part(multipart, number, payload)
        finally:
            buffer.release()
        return Part(part_number=number, size=meta.size, e_tag=meta.e_tag, crc64nvme=buffer.crc64nvme)

    @contextlib.contextmanager
    def _storing_part(self, *, part_number: int, size: int) -> Iterator[None]:
        about = span("rindle.store_part", upload_id=self.row.id, part_number=part_number, size=size)
        with about, self._storage.observer.storing_part():
            yield

    async def _settle(self) -> None:
        for outcome in await asyncio.gather(*self._storing, return_exceptions=True):
            if outcome is not None:
                raise outcome
        self._storing = []

    def _verify(self) -> None:
        if self._verifier is None:
            return
        if self._body.ended is not None:
            raise self._body.ended
        if self._body.overrun:
            raise overrun_error(self.row.id, length=self._length, most=self._most)
        if not self._verifier.matches():
            raise ChecksumMismatchError(self.row.id)

    async def _conclude(self) -> None:
        if self._position != self._length:
            await self._keep_tail()
        elif self._multipart is None:
            await self._put_object()
        else:
            await self._put_last_part(self._multipart)

    async def _keep_tail(self) -> None:
        after = replace(self._with_parts(self._held), offset=self._position, lease=None)
        if not self._buffer.size:
            await self._commit(replace(after, tail=None), parts=self._held)
        elif after.tail is not None and after.tail.in_store and self._position == self.row.offset:
            await self._commit(after)
        elif self._storage.tails_in_store:
            await self._keep_tail_in_store(after)
        else:
            await self._keep_tail_on_disk(after)
        await self._drop(*self._open)

    async def _keep_tail_on_disk(self, after: Upload) -> None:
        file = await self._buffer.flush()
        await file.sync()
        tail = Tail(
            name=file.name,
            node=self._storage.tails.node.id,
            length=self._buffer.size,
            crc64nvme=self._buffer.crc64nvme,
        )
        await self._commit(replace(after, tail=tail), parts=self._held)
        self._open.remove(self._buffer)  # the row names its file: whatever fails from here on, it stays
        await file.settle()

    async def _keep_tail_in_store(self, after: Upload) -> None:
        tail = await self._storage.put_tail(self.row, self._buffer)
        try:
            # Untidy: if this process dies before it removes a tail that was replaced, the end of the upload does.
            await self._commit(replace(after, tail=tail, untidy=True), parts=self._held)
        except LeaseLostError:
            await self._storage.drop_tail(tail)
            raise

    async def _put_object(self) -> None:
        store = self._storage.store
        key = self._storage.new_key(self.row)
        with self._storing_part(part_number=1, size=self._buffer.size), self._buffer.payload() as payload:
            result = await store.put(key, payload, self._storage.put_options(self.row))
        after = replace(self._with_parts([]), offset=self._position, tail=None).with_object(
            key, result.e_tag, self._buffer.crc64nvme
        )
        try:
            await self._commit(after, events=after.finish_events)
        except LeaseLostError:
            with contextlib.suppress(ObjectStoreError):
                await store.delete(key)
            raise
        await self._drop(*self._open)

    async def _put_last_part(self, multipart: MultipartRef) -> None:
        if self._buffer.size:
            self._held.append(await self._put_part(multipart, self._next_number, self._buffer))
        after = replace(self._with_parts(self._held), state=UploadState.FINALIZING, offset=self._position, tail=None)
        await self._commit(after, parts=self._held)
        await self._drop(*self._open)

    def _with_parts(self, parts: Sequence[Part]) -> Upload:
        """The row once these parts are committed and nothing follows them."""
        row = self.row
        multipart = self._multipart
        return replace(
            row,
            length=self._length,
            offset=row.parts_end + sum(part.size for part in parts) if parts else row.offset,
            part_count=row.part_count + len(parts),
            multipart=multipart,
            key=row.key if multipart is None else multipart.key,
            tail=None if parts else row.tail,
        )

    async def _commit(self, after: Upload, *, parts: Sequence[Part] = (), events: Sequence[EventType] = ()) -> None:
        before = self.row.tail
        try:
            self.row = await self._storage.repository.commit(self.row, after, parts=parts, events=events)
        except StaleUploadError as error:
            raise LeaseLostError(self.row.id) from error
        self.parts += parts
        if before is not None and before.in_store and self.row.tail != before:
            await self._storage.drop_tail(before)

    def _new_buffer(self) -> PartBuffer:
        buffer = PartBuffer(self.row.id, self._storage.tails, self._storage.budget)
        self._open.append(buffer)
        return buffer

    async def _drop(self, *buffers: PartBuffer) -> None:
        """Forget buffers whose bytes are committed elsewhere, with their files."""
        for buffer in buffers:
            buffer.release()
            if buffer.file is not None:
                await buffer.file.remove()
            self._open.remove(buffer)

    async def _give_up(self, error: BaseException) -> None:
        if not isinstance(error, RindleError):
            for task in self._storing:
                task.cancel()
        await asyncio.gather(*self._storing, return_exceptions=True)
        unknown = isinstance(error, DatabaseUnavailableError) or not isinstance(error, RindleError)
        for buffer in self._open:
            buffer.release()
            if buffer.file is not None and unknown:
                buffer.file.close()  # the row may name it; the sweep will see
            elif buffer.file is not None:
                await buffer.file.abandon()
        with contextlib.suppress(RepositoryError, ObjectStoreError):
            if isinstance(error, LeaseLostError):
                await self._withdraw()
            else:
                await self._release(error)

    async def _withdraw(self) -> None:
        """Take back what no row will ever name."""
        if self._multipart is not None and self.row.multipart is None:
            await self._storage.store.abort_multipart(self._multipart)

    async def _release(self, error: BaseException) -> None:
        # Whatever the store or the database was told last may have been done, though its answer is lost.
        untidy = self.row.untidy or not isinstance(error, UploadError)
        after = replace(self._with_parts([]), length=self.row.length, lease=None, untidy=untidy)
        self.row = await self._storage.repository.commit(self.row, after)


def overrun_error(upload_id: str, *, length: int | None, most: int) -> LengthExceededError | MaxSizeExceededError:
    """What a body is told that went past the upload's length, or past all that a deferred one may become."""
    if length is None:
        return MaxSizeExceededError(upload_id, max_size=most)
    return LengthExceededError(upload_id, length=length)
