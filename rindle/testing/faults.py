"""A store that fails or waits where a test wants it to, and is otherwise the one inside it."""

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

from typing_extensions import override

from rindle.objectstore.base import GetResult, MultipartStore, SignedMethod
from rindle.objectstore.payload import Payload
from rindle.objectstore.types import (
    ByteRange,
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

Hook = Callable[[str, str], Awaitable[None]]


class FaultyStore(MultipartStore):
    """Asks ``before(operation, key)`` ahead of every call of ``inner``, and ``after`` when it has gone well.

    A hook that raises makes the call fail: ``before``, and nothing was done; ``after``, and it was, but its answer is
    lost. A hook that waits holds the call. Operations are named as the methods of the store. The key is the target's
    of a copy, the prefix of a listing, and empty for ``delete_many``; ``list`` asks once per page, as ``list_page``.

    ``calls`` counts the calls by operation, also those that fail. Both hooks can be changed at any time. Closing this
    store closes the one inside.
    """

    def __init__(self, inner: MultipartStore, *, before: Hook | None = None, after: Hook | None = None) -> None:
        self.inner = inner
        self.before = before
        self.after = after
        self.calls: Counter[str] = Counter()
        self.name = inner.name
        self.capabilities = inner.capabilities

    @override
    async def prepare(self) -> None:
        async with self._call("prepare", ""):
            await self.inner.prepare()
        self.capabilities = self.inner.capabilities

    @override
    async def sweep(self) -> int:
        async with self._call("sweep", ""):
            return await self.inner.sweep()

    @override
    async def aclose(self) -> None:
        await self.inner.aclose()

    @asynccontextmanager
    async def _call(self, operation: str, key: str) -> AsyncIterator[None]:
        self.calls[operation] += 1
        if self.before is not None:
            await self.before(operation, key)
        yield
        if self.after is not None:
            await self.after(operation, key)

    @override
    async def _put(self, key: str, payload: Payload, options: PutOptions) -> PutResult:
        async with self._call("put", key):
            return await self.inner.put(key, payload, options)

    @override
    async def _get(self, key: str, options: GetOptions) -> GetResult:
        async with self._call("get", key):
            return await self.inner.get(key, options)

    @override
    async def _head(self, key: str, options: GetOptions) -> ObjectMeta:
        async with self._call("head", key):
            return await self.inner.head(key, options)

    @override
    async def _delete(self, key: str) -> None:
        async with self._call("delete", key):
            await self.inner.delete(key)

    @override
    async def _delete_many(self, keys: Sequence[str]) -> Sequence[DeleteResult]:
        async with self._call("delete_many", ""):
            return await self.inner.delete_many(keys)

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
        async with self._call("list_page", prefix):
            return await self.inner.list_page(
                prefix,
                delimiter=delimiter,
                start_after=start_after,
                token=token,
                limit=limit,
                consistent=consistent,
            )

    @override
    async def _copy(self, source: str, target: str, *, mode: CopyMode) -> PutResult:
        async with self._call("copy", target):
            return await self.inner.copy(source, target, mode=mode)

    @override
    async def _get_tags(self, key: str) -> Mapping[str, str]:
        async with self._call("get_tags", key):
            return await self.inner.get_tags(key)

    @override
    async def _put_tags(self, key: str, tags: Mapping[str, str]) -> None:
        async with self._call("put_tags", key):
            await self.inner.put_tags(key, tags)

    @override
    async def _sign_url(self, method: SignedMethod, key: str, expires_in: timedelta) -> str:
        async with self._call("sign_url", key):
            return await self.inner.sign_url(method, key, expires_in)

    @override
    async def _create_multipart(self, key: str, options: MultipartOptions) -> MultipartRef:
        async with self._call("create_multipart", key):
            return await self.inner.create_multipart(key, options)

    @override
    async def _put_part(self, ref: MultipartRef, part_number: int, payload: Payload) -> PartMeta:
        async with self._call("put_part", ref.key):
            return await self.inner.put_part(ref, part_number, payload)

    @override
    async def _copy_part(
        self, ref: MultipartRef, part_number: int, source: str, byte_range: ByteRange | None
    ) -> PartMeta:
        async with self._call("copy_part", ref.key):
            return await self.inner.copy_part(ref, part_number, source, byte_range)

    @override
    async def _list_parts(self, ref: MultipartRef) -> AsyncIterator[PartMeta]:
        async with self._call("list_parts", ref.key):
            async for part in self.inner.list_parts(ref):
                yield part

    @override
    async def _complete_multipart(self, ref: MultipartRef, parts: Sequence[PartMeta], *, mode: CopyMode) -> PutResult:
        async with self._call("complete_multipart", ref.key):
            return await self.inner.complete_multipart(ref, parts, mode=mode)

    @override
    async def _abort_multipart(self, ref: MultipartRef) -> None:
        async with self._call("abort_multipart", ref.key):
            await self.inner.abort_multipart(ref)

    @override
    async def _list_multiparts(self, prefix: str) -> AsyncIterator[MultipartMeta]:
        async with self._call("list_multiparts", prefix):
            async for multipart in self.inner.list_multiparts(prefix):
                yield multipart
