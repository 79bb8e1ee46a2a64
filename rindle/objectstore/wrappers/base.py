"""A store around another: everything is asked of the one inside, and each wrapper changes one thing about how.

A wrapper is two classes: one on :class:`Wrapper`, and that one once more on :class:`MultipartWrapper`; so what is
wrapped around a :class:`MultipartStore` is one, and around a plain store it is a plain one.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from datetime import timedelta
from typing import Literal, TypeVar

from typing_extensions import override

from rindle.objectstore.base import GetResult, MultipartStore, ObjectStore, SignedMethod
from rindle.objectstore.payload import Payload
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

Operation = Literal[
    "prepare",
    "sweep",
    "put",
    "get",
    "head",
    "delete",
    "delete_many",
    "list_page",
    "copy",
    "get_tags",
    "put_tags",
    "sign_url",
    "create_multipart",
    "put_part",
    "copy_part",
    "list_parts",
    "complete_multipart",
    "abort_multipart",
    "list_multiparts",
    "find_multipart_expiry",
]
"""The calls of a store, by the names of its methods; a listing is one for each page."""

Item = TypeVar("Item", PartMeta, MultipartMeta)
Result = TypeVar("Result")
Call = Callable[[], Awaitable[Result]]
Begin = Callable[[], AsyncIterator[Item]]


class Wrapper(ObjectStore):
    """Passes everything on. Closing it closes the store inside."""

    def __init__(self, inner: ObjectStore) -> None:
        self.inner = inner
        self.name = inner.name
        self.capabilities = self._declare(inner.capabilities)

    # What a wrapper changes: some of these.

    def _declare(self, capabilities: Capabilities) -> Capabilities:
        """What this store can do, if the one inside can do that."""
        return capabilities

    async def _call(self, operation: Operation, key: str, call: Call[Result], *, sent: int = 0) -> Result:  # noqa: ARG002 - for those who look at them
        """One call of the store inside: about ``key`` (a copy's target, a listing's prefix), sending so many bytes."""
        return await call()

    async def _items(self, operation: Operation, key: str, begin: Begin[Item]) -> AsyncGenerator[Item, None]:  # noqa: ARG002 - for those who look at them
        """The items of a listing that the store inside gives one by one."""
        items = begin()
        try:
            async for item in items:
                yield item
        finally:
            close = getattr(items, "aclose", None)
            if close is not None:
                await close()

    def _inward(self, key: str) -> str:
        """What the store inside calls a key."""
        return key

    def _outward(self, meta: ObjectMeta) -> ObjectMeta:
        """What an object of the store inside is here."""
        return meta

    def _outward_page(self, page: ListPage) -> ListPage:
        return page

    # The methods of a store

    @override
    async def prepare(self) -> None:
        await self._call("prepare", "", self.inner.prepare)
        self.capabilities = self._declare(self.inner.capabilities)

    @override
    async def sweep(self) -> int:
        return await self._call("sweep", "", self.inner.sweep)

    @override
    async def aclose(self) -> None:
        await self.inner.aclose()

    @override
    async def _put(self, key: str, payload: Payload, options: PutOptions) -> PutResult:
        return await self._call(
            "put", key, lambda: self.inner.put(self._inward(key), payload, options), sent=payload.size
        )

    @override
    async def _get(self, key: str, options: GetOptions) -> GetResult:
        result = await self._call("get", key, lambda: self.inner.get(self._inward(key), options))
        result.meta = self._outward(result.meta)
        return result

    @override
    async def _head(self, key: str, options: GetOptions) -> ObjectMeta:
        return self._outward(await self._call("head", key, lambda: self.inner.head(self._inward(key), options)))

    @override
    async def _delete(self, key: str) -> None:
        await self._call("delete", key, lambda: self.inner.delete(self._inward(key)))

    @override
    async def _delete_many(self, keys: Sequence[str]) -> Sequence[DeleteResult]:
        inner_keys = [self._inward(key) for key in keys]
        results = await self._call("delete_many", "", lambda: self.inner.delete_many(inner_keys))
        return [DeleteResult(key, result.error) for key, result in zip(keys, results, strict=True)]

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
        page = await self._call(
            "list_page",
            prefix,
            lambda: self.inner.list_page(
                self._inward(prefix),
                delimiter=delimiter,
                start_after=self._inward(start_after) if start_after else None,
                token=token,
                limit=limit,
                consistent=consistent,
            ),
        )
        return self._outward_page(page)

    @override
    async def _copy(self, source: str, target: str, *, mode: CopyMode) -> PutResult:
        return await self._call(
            "copy", target, lambda: self.inner.copy(self._inward(source), self._inward(target), mode=mode)
        )

    @override
    async def _get_tags(self, key: str) -> Mapping[str, str]:
        return await self._call("get_tags", key, lambda: self.inner.get_tags(self._inward(key)))

    @override
    async def _put_tags(self, key: str, tags: Mapping[str, str]) -> None:
        await self._call("put_tags", key, lambda: self.inner.put_tags(self._inward(key), tags))

    @override
    async def _sign_url(self, method: SignedMethod, key: str, expires_in: timedelta) -> str:
        return await self._call("sign_url", key, lambda: self.inner.sign_url(method, self._inward(key), expires_in))


class MultipartWrapper(Wrapper, MultipartStore):
    """As :class:`Wrapper`, around a store that has multiparts."""

    inner: MultipartStore

    def __init__(self, inner: MultipartStore) -> None:
        super().__init__(inner)

    def _inward_ref(self, ref: MultipartRef) -> MultipartRef:
        return MultipartRef(self._inward(ref.key), ref.multipart_id)

    def _outward_ref(self, ref: MultipartRef) -> MultipartRef:
        return ref

    @override
    async def _create_multipart(self, key: str, options: MultipartOptions) -> MultipartRef:
        ref = await self._call("create_multipart", key, lambda: self.inner.create_multipart(self._inward(key), options))
        return self._outward_ref(ref)

    @override
    async def _put_part(self, ref: MultipartRef, part_number: int, payload: Payload) -> PartMeta:
        inner_ref = self._inward_ref(ref)
        return await self._call(
            "put_part", ref.key, lambda: self.inner.put_part(inner_ref, part_number, payload), sent=payload.size
        )

    @override
    async def _copy_part(
        self, ref: MultipartRef, part_number: int, source: str, byte_range: ByteRange | None
    ) -> PartMeta:
        inner_ref = self._inward_ref(ref)
        return await self._call(
            "copy_part",
            ref.key,
            lambda: self.inner.copy_part(inner_ref, part_number, self._inward(source), byte_range),
        )

    @override
    async def _list_parts(self, ref: MultipartRef) -> AsyncIterator[PartMeta]:
        async with aclosing(
            self._items("list_parts", ref.key, lambda: self.inner.list_parts(self._inward_ref(ref)))
        ) as parts:
            async for part in parts:
                yield part

    @override
    async def _complete_multipart(self, ref: MultipartRef, parts: Sequence[PartMeta], *, mode: CopyMode) -> PutResult:
        inner_ref = self._inward_ref(ref)
        return await self._call(
            "complete_multipart", ref.key, lambda: self.inner.complete_multipart(inner_ref, parts, mode=mode)
        )

    @override
    async def _abort_multipart(self, ref: MultipartRef) -> None:
        await self._call("abort_multipart", ref.key, lambda: self.inner.abort_multipart(self._inward_ref(ref)))

    @override
    async def find_multipart_expiry(self) -> timedelta | None:
        return await self._call("find_multipart_expiry", "", self.inner.find_multipart_expiry)

    @override
    async def _list_multiparts(self, prefix: str) -> AsyncIterator[MultipartMeta]:
        async with aclosing(
            self._items("list_multiparts", prefix, lambda: self.inner.list_multiparts(self._inward(prefix)))
        ) as multiparts:
            async for multipart in multiparts:
                yield MultipartMeta(ref=self._outward_ref(multipart.ref), initiated_at=multipart.initiated_at)


class WatchedStream(AsyncIterator[bytes]):
    """The bytes of an object, on their way to a reader.

    ``on_end`` is told once, when they have ended, failed or been left: how many there were, and the error if any.
    """

    def __init__(self, result: GetResult, on_end: Callable[[int, Exception | None], None]) -> None:
        self._result = result
        self._chunks = aiter(result)
        self._on_end = on_end
        self._received = 0
        self._ended = False

    @override
    async def __anext__(self) -> bytes:
        try:
            chunk = await anext(self._chunks)
        except StopAsyncIteration:
            self._end(None)
            raise
        except Exception as error:
            self._end(error)
            raise
        self._received += len(chunk)
        return chunk

    async def aclose(self) -> None:
        """Close the stream."""
        try:
            await self._result.aclose()
        finally:
            self._end(None)

    def _end(self, error: Exception | None) -> None:
        if not self._ended:
            self._ended = True
            self._on_end(self._received, error)


def with_stream(result: GetResult, stream: AsyncIterator[bytes]) -> GetResult:
    """The same object, read by another stream."""
    return GetResult(meta=result.meta, attributes=result.attributes, range=result.range, stream=stream)
