"""A store that fails or waits where a test wants it to, and is otherwise the one inside it.

::

    async def lose_the_answer(operation: str, key: str) -> None:
        if operation == "put":
            raise StoreTimeoutError("no answer", store="memory", key=key)

    store = FaultyStore(MemoryStore(), after=lose_the_answer)
"""

from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import TypeVar

from typing_extensions import override

from rindle.objectstore.base import GetResult, MultipartStore, ObjectStore
from rindle.objectstore.types import GetOptions
from rindle.objectstore.wrappers.base import Begin, Call, Item, MultipartWrapper, Operation, Wrapper, with_stream

Hook = Callable[[str, str], Awaitable[None]]
Result = TypeVar("Result")


class FaultyObjectStore(Wrapper):
    """Asks ``before(operation, key)`` ahead of every call of ``inner``, and ``after`` when it has gone well.

    A hook that raises makes the call fail: ``before``, and nothing was done; ``after``, and it was, but its answer is
    lost. A hook that waits holds the call. Operations are named as the methods of the store. The key is the target's
    of a copy, the prefix of a listing, and empty for ``delete_many``; ``list`` asks once per page, as ``list_page``.
    ``reading("get", key)`` is asked ahead of every chunk of an object that is read, and of its end.

    ``calls`` counts the calls by operation, also those that fail. All hooks can be changed at any time. Closing this
    store closes the one inside.
    """

    def __init__(
        self, inner: ObjectStore, *, before: Hook | None = None, after: Hook | None = None, reading: Hook | None = None
    ) -> None:
        super().__init__(inner)
        self.before = before
        self.after = after
        self.reading = reading
        self.calls: Counter[str] = Counter()

    @override
    async def _call(self, operation: Operation, key: str, call: Call[Result], *, sent: int = 0) -> Result:
        await self._begin(operation, key)
        result = await call()
        await self._end(operation, key)
        return result

    @override
    async def _items(self, operation: Operation, key: str, begin: Begin[Item]) -> AsyncGenerator[Item, None]:
        await self._begin(operation, key)
        async with aclosing(super()._items(operation, key, begin)) as items:
            async for item in items:
                yield item
        await self._end(operation, key)

    async def _begin(self, operation: str, key: str) -> None:
        self.calls[operation] += 1
        if self.before is not None:
            await self.before(operation, key)

    async def _end(self, operation: str, key: str) -> None:
        if self.after is not None:
            await self.after(operation, key)

    @override
    async def _get(self, key: str, options: GetOptions) -> GetResult:
        result = await super()._get(key, options)
        return with_stream(result, _FaultyStream(self, key, result))


class FaultyStore(FaultyObjectStore, MultipartWrapper):
    """As :class:`FaultyObjectStore`, around a store that has multiparts."""

    def __init__(
        self,
        inner: MultipartStore,
        *,
        before: Hook | None = None,
        after: Hook | None = None,
        reading: Hook | None = None,
    ) -> None:
        super().__init__(inner, before=before, after=after, reading=reading)


class _FaultyStream(AsyncIterator[bytes]):
    def __init__(self, store: FaultyObjectStore, key: str, result: GetResult) -> None:
        self._store = store
        self._key = key
        self._result = result
        self._chunks = aiter(result)

    @override
    async def __anext__(self) -> bytes:
        if self._store.reading is not None:
            await self._store.reading("get", self._key)
        return await anext(self._chunks)

    async def aclose(self) -> None:
        await self._result.aclose()
