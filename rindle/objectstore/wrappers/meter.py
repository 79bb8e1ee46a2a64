"""A store whose calls are counted, for whoever exports metrics; no library for that is needed here."""

import logging
import time
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
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

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreCall:
    """One call that has ended.

    ``operation``: the store's method; a listing is one ``list_page`` for each page. ``seconds``: until the answer, of a
    read until its first byte could be read. ``sent`` and ``received``: bytes of objects, of a write if it succeeded, of
    a read as many as were read. ``error``: the name of the error's class, or None.
    """

    operation: Operation
    seconds: float
    sent: int = 0
    received: int = 0
    error: str | None = None


Meter = Callable[[StoreCall], None]
"""Is told of every call, on the event loop: it must be quick. What it raises is logged and harms nothing."""


@dataclass(slots=True)
class OperationStats:
    """All calls of one operation so far. ``errors``: how many ended in each class of error."""

    calls: int = 0
    seconds: float = 0
    sent: int = 0
    received: int = 0
    errors: Counter[str] = field(default_factory=Counter)


class StoreStats:
    """A meter that adds up. May be read at any time, in any thread."""

    def __init__(self) -> None:
        self._operations: defaultdict[str, OperationStats] = defaultdict(OperationStats)

    @property
    def operations(self) -> Mapping[str, OperationStats]:
        """By the name of the operation, those that there were."""
        return dict(self._operations)

    def __call__(self, call: StoreCall) -> None:
        """Add one call."""
        stats = self._operations[call.operation]
        stats.calls += 1
        stats.seconds += call.seconds
        stats.sent += call.sent
        stats.received += call.received
        if call.error is not None:
            stats.errors[call.error] += 1


@overload
def metered(store: MultipartStore, meter: Meter) -> MultipartStore: ...
@overload
def metered(store: ObjectStore, meter: Meter) -> ObjectStore: ...
def metered(store: ObjectStore, meter: Meter) -> ObjectStore:
    """The same store, whose calls ``meter`` is told of: a :class:`StoreStats`, or any function.

    A call is told of when it ends, well or not; a read when its bytes have ended or it is closed. What is refused
    before any I/O is no call.
    """
    kind = _MeteredMultiparts if isinstance(store, MultipartStore) else _Metered
    return kind(store, meter)


class _Metered(Wrapper):
    def __init__(self, inner: ObjectStore, meter: Meter) -> None:
        super().__init__(inner)
        self._meter = meter

    def _tell(self, call: StoreCall) -> None:
        try:
            self._meter(call)
        except Exception:
            logger.exception("a meter failed at %s", call)

    @override
    async def _call(self, operation: Operation, key: str, call: Call[Result], *, sent: int = 0) -> Result:
        begun = time.perf_counter()
        try:
            result = await call()
        except BaseException as error:
            self._tell(StoreCall(operation=operation, seconds=time.perf_counter() - begun, error=_name(error)))
            raise
        self._tell(StoreCall(operation=operation, seconds=time.perf_counter() - begun, sent=sent))
        return result

    @override
    async def _items(self, operation: Operation, key: str, begin: Begin[Item]) -> AsyncGenerator[Item, None]:
        begun = time.perf_counter()
        error: Exception | None = None
        try:
            async with aclosing(super()._items(operation, key, begin)) as items:
                async for item in items:
                    yield item
        except Exception as raised:
            error = raised
            raise
        finally:
            self._tell(StoreCall(operation=operation, seconds=time.perf_counter() - begun, error=_name(error)))

    @override
    async def _get(self, key: str, options: GetOptions) -> GetResult:
        begun = time.perf_counter()
        try:
            result = await self.inner.get(key, options)
        except BaseException as error:
            self._tell(StoreCall(operation="get", seconds=time.perf_counter() - begun, error=_name(error)))
            raise
        seconds = time.perf_counter() - begun

        def tell(received: int, error: Exception | None) -> None:
            self._tell(StoreCall(operation="get", seconds=seconds, received=received, error=_name(error)))

        return with_stream(result, WatchedStream(result, tell))


class _MeteredMultiparts(_Metered, MultipartWrapper):
    pass


def _name(error: BaseException | None) -> str | None:
    return None if error is None else type(error).__name__
