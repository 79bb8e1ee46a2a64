"""A store that is asked only so many things at once."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TypeVar, overload

from typing_extensions import override

from rindle.objectstore.base import GetResult, MultipartStore, ObjectStore
from rindle.objectstore.types import GetOptions
from rindle.objectstore.wrappers.base import (
    Begin,
    Call,
    Item,
    MultipartWrapper,
    Operation,
    WatchedStream,
    Wrapper,
    with_stream,
)

Result = TypeVar("Result")


@overload
def limited(store: MultipartStore, at_once: int) -> MultipartStore: ...
@overload
def limited(store: ObjectStore, at_once: int) -> ObjectStore: ...
def limited(store: ObjectStore, at_once: int) -> ObjectStore:
    """The same store, with at most ``at_once`` calls under way; others wait for their turn, in order.

    An object that is being read counts until its bytes have ended or it is closed: whoever opens as many objects as
    there is room for, and then wants something else before he has read them, waits for himself.
    """
    if at_once < 1:
        msg = f"there must be room for one call at least, not {at_once}"
        raise ValueError(msg)
    kind = _LimitedMultiparts if isinstance(store, MultipartStore) else _Limited
    return kind(store, asyncio.Semaphore(at_once))


class _Limited(Wrapper):
    def __init__(self, inner: ObjectStore, turns: asyncio.Semaphore) -> None:
        super().__init__(inner)
        self._turns = turns

    @override
    async def _call(self, operation: Operation, key: str, call: Call[Result], *, sent: int = 0) -> Result:
        async with self._turns:
            return await call()

    @override
    async def _items(self, operation: Operation, key: str, begin: Begin[Item]) -> AsyncGenerator[Item, None]:
        async with aclosing(super()._items(operation, key, begin)) as items:
            while True:
                # Not while somebody looks at an item, who may want to ask the store about it.
                async with self._turns:
                    item = await anext(items, None)
                if item is None:
                    return
                yield item

    @override
    async def _get(self, key: str, options: GetOptions) -> GetResult:
        await self._turns.acquire()
        try:
            result = await self.inner.get(key, options)
        except BaseException:
            self._turns.release()
            raise
        return with_stream(result, WatchedStream(result, lambda _received, _error: self._turns.release()))


class _LimitedMultiparts(_Limited, MultipartWrapper):
    pass
