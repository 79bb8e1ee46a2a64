"""The local store: each method is a few steps in threads, with nothing held between them but open files."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import TypeVar, TypeVarTuple

from typing_extensions import override

from rindle.objectstore.base import GetResult, MultipartStore, SignedMethod
from rindle.objectstore.conditions import check_conditions, resolve_range
from rindle.objectstore.disk import DiskExecutor, OpenFile
from rindle.objectstore.disk import sweep as sweep_directory
from rindle.objectstore.errors import ObjectStoreError, StoreUnavailableError, UnsupportedOperationError
from rindle.objectstore.listing import cut_page
from rindle.objectstore.local.errors import STORE, translated
from rindle.objectstore.local.layout import Layout
from rindle.objectstore.local.objects import Draft, Objects
from rindle.objectstore.local.part_writer import PartWriter
from rindle.objectstore.local.sidecar import Sidecar
from rindle.objectstore.local.staging import LIMITS, Staging
from rindle.objectstore.local.walk import Query, walk
from rindle.objectstore.payload import Payload, PayloadCheck, batches
from rindle.objectstore.types import (
    ByteRange,
    Capabilities,
    CopyMode,
    DeleteResult,
    GetOptions,
    ListPage,
    MultipartMeta,
    MultipartOptions,
    MultipartRef,
    ObjectMeta,
    PartMeta,
    PutOptions,
    PutResult,
)

_READ_SIZE = 1 << 20
_COPY_SIZE = 64 << 20  # what a cancelled copy still does before it stops
_DELETES_PER_STEP = 64
_ITEMS_PER_STEP = 256

Item = TypeVar("Item")
Result = TypeVar("Result")
Arguments = TypeVarTuple("Arguments")


class LocalStore(MultipartStore):
    """Objects as plain files ``<root>/<key>``; what else there is to keep lies in ``<root>/.rindle``.

    Several processes of one machine may share a root. The file system must have hard links, flock and time stamps in
    nanoseconds (ext4, xfs, btrfs, zfs, tmpfs, apfs). An object and a key that goes on from it with ``/`` cannot both
    be: the second write is an InvalidKeyError. A file put there by hand is an object without attributes; symlinks are
    none. Directories come and go with the objects in them.

    A page of a listing reads each directory on its way, so directories of millions of files are slow to list.
    """

    name = STORE

    def __init__(self, root: Path, *, threads: int = 8) -> None:
        self.capabilities = Capabilities(
            put_create=True,
            put_update=True,
            copy_create=True,
            complete_create=True,
            attributes=True,
            tags=True,
            copy_part=True,
            list_multiparts=True,
            part_limits=LIMITS,
        )
        self._layout = Layout(root.absolute())
        self._objects = Objects(self._layout)
        self._staging = Staging(self._layout, self._objects)
        self._disk = DiskExecutor("local-store", threads=threads)

    @override
    async def aclose(self) -> None:
        await self._disk.aclose()

    @override
    async def sweep(self) -> int:
        return await self._run(None, sweep_directory, self._layout.temporary) + await self._run(
            None, self._staging.sweep
        )

    async def _run(self, key: str | None, function: Callable[[*Arguments], Result], *args: *Arguments) -> Result:
        with translated(key):
            return await self._disk.run(function, *args)

    @override
    async def _put(self, key: str, payload: Payload, options: PutOptions) -> PutResult:
        draft = self._objects.draft(key, options.mode)
        try:
            await self._receive(key, payload, draft)
            sidecar = Sidecar(options.attributes, options.tags)
            return await self._run(key, self._objects.publish, draft, sidecar)
        except BaseException:
            await self._run(key, draft.discard)
            raise

    async def _receive(self, key: str, payload: Payload, target: Draft | PartWriter) -> None:
        check = PayloadCheck(payload, store=self.name, key=key)
        async with aclosing(batches(payload)) as lists:
            async for chunks in lists:
                await self._run(key, target.write, check, chunks)
        check.finish()

    @override
    async def _get(self, key: str, options: GetOptions) -> GetResult:
        found = await self._run(key, self._objects.open, key)
        try:
            check_conditions(found.meta, options, store=self.name)
            start, end = resolve_range(options.range, found.meta.size, store=self.name, key=key)
        except ObjectStoreError:
            found.file.close()
            raise
        stream = _ObjectStream(self._disk, found.file, start, start if options.head else end)
        return GetResult(meta=found.meta, attributes=found.sidecar.attributes, range=(start, end), stream=stream)

    @override
    async def _head(self, key: str, options: GetOptions) -> ObjectMeta:
        meta = await self._run(key, self._objects.head, key)
        check_conditions(meta, options, store=self.name)
        resolve_range(options.range, meta.size, store=self.name, key=key)
        return meta

    @override
    async def _delete(self, key: str) -> None:
        await self._run(key, self._objects.delete, key)

    @override
    async def _delete_many(self, keys: Sequence[str]) -> Sequence[DeleteResult]:
        results: list[DeleteResult] = []
        for start in range(0, len(keys), _DELETES_PER_STEP):
            results += await self._disk.run(self._delete_each, keys[start : start + _DELETES_PER_STEP])
        return results

    def _delete_each(self, keys: Sequence[str]) -> Sequence[DeleteResult]:
        return [self._delete_one(key) for key in keys]

    def _delete_one(self, key: str) -> DeleteResult:
        try:
            with translated(key):
                self._objects.delete(key)
        except ObjectStoreError as error:
            return DeleteResult(key, error)
        return DeleteResult(key)

    @override
    async def _list_page(
        self,
        prefix: str,
        *,
        delimiter: bool,
        start_after: str | None,
        token: str | None,
        limit: int,
        consistent: bool | None,
    ) -> ListPage:
        after = max(start_after or "", token or "")
        query = Query(prefix=prefix, after=after, folded=delimiter, done=token)
        return await self._run(prefix, cut_page, walk(self._layout, query), limit)

    @override
    async def _copy(self, source: str, target: str, *, mode: CopyMode) -> PutResult:
        found = await self._run(source, self._objects.open, source)
        draft = self._objects.draft(target, mode)
        with found.file as file:
            try:
                await self._copy_range(target, file, 0, found.meta.size, draft)
                return await self._run(target, self._objects.publish, draft, found.sidecar)
            except BaseException:
                await self._run(target, draft.discard)
                raise

    async def _copy_range(self, key: str, source: OpenFile, start: int, end: int, target: Draft | PartWriter) -> None:
        for offset in range(start, end, _COPY_SIZE):
            await self._run(key, target.copy, source, offset, min(_COPY_SIZE, end - offset))

    @override
    async def _get_tags(self, key: str) -> Mapping[str, str]:
        found = await self._run(key, self._objects.open, key)
        found.file.close()
        return found.sidecar.tags

    @override
    async def _put_tags(self, key: str, tags: Mapping[str, str]) -> None:
        await self._run(key, self._objects.put_tags, key, dict(tags))

    @override
    async def _sign_url(self, method: SignedMethod, key: str, expires_in: timedelta) -> str:
        msg = "files have no URLs"
        raise UnsupportedOperationError(msg, store=self.name, key=key)

    @override
    async def _create_multipart(self, key: str, options: MultipartOptions) -> MultipartRef:
        return await self._run(key, self._staging.create, key, options)

    @override
    async def _put_part(self, ref: MultipartRef, part_number: int, payload: Payload) -> PartMeta:
        writer = PartWriter(self._staging, self._layout, ref, part_number)
        try:
            await self._run(ref.key, writer.begin, payload.size)
            await self._receive(ref.key, payload, writer)
            return await self._run(ref.key, writer.commit)
        except BaseException:
            await self._run(ref.key, writer.release)
            raise

    @override
    async def _copy_part(
        self, ref: MultipartRef, part_number: int, source: str, byte_range: ByteRange | None
    ) -> PartMeta:
        writer = PartWriter(self._staging, self._layout, ref, part_number)
        found = await self._run(source, self._objects.open, source)
        with found.file as file:
            start, end = resolve_range(byte_range, found.meta.size, store=self.name, key=source)
            try:
                await self._run(ref.key, writer.begin, end - start)
                await self._copy_range(ref.key, file, start, end, writer)
                return await self._run(ref.key, writer.commit)
            except BaseException:
                await self._run(ref.key, writer.release)
                raise

    @override
    async def _list_parts(self, ref: MultipartRef) -> AsyncIterator[PartMeta]:
        await self._run(ref.key, self._staging.describe, ref)
        index = await self._run(ref.key, self._staging.open_index, ref)
        with index.file:
            parts = index.parts()
            while step := await self._run(ref.key, _take, parts):
                for part in step:
                    yield part

    @override
    async def _complete_multipart(self, ref: MultipartRef, parts: Sequence[PartMeta], *, mode: CopyMode) -> PutResult:
        with translated(ref.key):
            return await self._disk.run(lambda: self._staging.complete(ref, parts, mode=mode))

    @override
    async def _abort_multipart(self, ref: MultipartRef) -> None:
        await self._run(ref.key, self._staging.abort, ref)

    @override
    async def _list_multiparts(self, prefix: str) -> AsyncIterator[MultipartMeta]:
        multiparts = self._staging.unfinished(prefix)
        while step := await self._run(prefix, _take, multiparts):
            for multipart in step:
                yield multipart


class _ObjectStream(AsyncIterator[bytes]):
    """The bytes of an open file. Reading to the end closes it, and so does forgetting it."""

    def __init__(self, disk: DiskExecutor, file: OpenFile, start: int, end: int) -> None:
        self._disk = disk
        self._file = file
        self._position = start
        self._end = end
        self._turn = asyncio.Lock()  # so that the file is not closed while a thread reads it for somebody else

    @override
    async def __anext__(self) -> bytes:
        async with self._turn:
            size = min(_READ_SIZE, self._end - self._position)
            if size == 0:
                self._file.close()
                raise StopAsyncIteration
            with translated():
                block = await self._disk.run(self._file.read, size, self._position)
            if len(block) < size:
                msg = f"{self._file.path} was cut while it was read"
                raise StoreUnavailableError(msg, store=STORE)
            self._position += size
            return block

    async def aclose(self) -> None:
        async with self._turn:
            self._end = self._position
            self._file.close()


def _take(items: Iterator[Item]) -> Sequence[Item]:
    return list(islice(items, _ITEMS_PER_STEP))
