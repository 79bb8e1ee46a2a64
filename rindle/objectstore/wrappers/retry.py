"""A store that is asked again when it could not answer, as often as a budget that all calls share allows."""

import asyncio
import random
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TypeVar, overload

from typing_extensions import override

from rindle.objectstore.base import GetResult, MultipartStore, ObjectStore
from rindle.objectstore.errors import (
    AlreadyExistsError,
    NotFoundError,
    PreconditionFailedError,
    ThrottledError,
    TransientStoreError,
)
from rindle.objectstore.payload import Payload
from rindle.objectstore.types import (
    Attributes,
    ByteRange,
    CopyMode,
    DeleteResult,
    GetOptions,
    MultipartMeta,
    MultipartRef,
    PartMeta,
    PutOptions,
    PutResult,
)
from rindle.objectstore.wrappers.base import (
    Begin,
    Call,
    Item,
    MultipartWrapper,
    Operation,
    Wrapper,
    with_stream,
)

Result = TypeVar("Result")

MARK = "rindleattempt"
"""User metadata that says which call wrote an object; every store takes a name of such letters."""


class RetryBudget:
    """How many more calls may be repeated. Each repetition takes one; each call that goes well gives a part back.

    So a store that fails now and then is asked again each time, and one that is down is not asked several times as
    often as before. One budget may be shared by several stores.
    """

    def __init__(self, repetitions: int = 100, *, refund: float = 0.2) -> None:
        self._capacity = repetitions
        self._refund = refund
        self._left = float(repetitions)

    @property
    def left(self) -> float:
        """Repetitions that may still be made now."""
        return self._left

    def spend(self) -> bool:
        """Whether there is one more."""
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def earn(self) -> None:
        """A call went well."""
        self._left = min(self._capacity, self._left + self._refund)


@dataclass(frozen=True, slots=True)
class _Policy:
    budget: RetryBudget
    attempts: int
    first_pause: float
    longest_pause: float


@overload
def retrying(
    store: MultipartStore,
    *,
    attempts: int = ...,
    budget: RetryBudget | None = ...,
    first_pause: float = ...,
    longest_pause: float = ...,
) -> MultipartStore: ...
@overload
def retrying(
    store: ObjectStore,
    *,
    attempts: int = ...,
    budget: RetryBudget | None = ...,
    first_pause: float = ...,
    longest_pause: float = ...,
) -> ObjectStore: ...
def retrying(
    store: ObjectStore,
    *,
    attempts: int = 5,
    budget: RetryBudget | None = None,
    first_pause: float = 0.1,
    longest_pause: float = 20,
) -> ObjectStore:
    """The same store, whose calls are made again after a TransientStoreError: ``attempts`` times each at most.

    Between two attempts is a pause, at random between nothing and ``first_pause`` seconds, which doubles up to
    ``longest_pause``. When ``budget`` is used up the error is raised at once; without one the store gets its own.

    A read whose connection breaks goes on where it broke off, if the object is still the same. A conditional write
    whose answer was lost meets what it has done itself: its objects have a mark of their own among their user metadata,
    which is not given out here, and a refusal is believed only after a look at whose object stands there. Where that
    does not tell (the object has been replaced since, the store has no attributes, or it was a copy), the error is the
    TransientStoreError: the outcome is not known. A multipart whose handle was lost stays, to be found by
    :meth:`~MultipartStore.list_multiparts`.
    """
    if attempts < 1:
        msg = f"a call is made once at least, not {attempts} times"
        raise ValueError(msg)
    policy = _Policy(budget or RetryBudget(), attempts, first_pause, longest_pause)
    kind = _RetryingMultiparts if isinstance(store, MultipartStore) else _Retrying
    return kind(store, policy)


class _Attempts:
    """The attempts at one call. ``lost``: the error of one that may have been done all the same."""

    def __init__(self, policy: _Policy) -> None:
        self._policy = policy
        self._made = 0
        self.lost: TransientStoreError | None = None

    async def after(self, error: TransientStoreError) -> None:
        """Return when it is time for another attempt, or raise the error if there is none."""
        if not await self.another(error):
            raise error

    async def another(self, error: TransientStoreError) -> bool:
        """Whether there is another attempt; then it is time for it."""
        self._made += 1
        if not isinstance(error, ThrottledError):
            self.lost = error
        if self._made >= self._policy.attempts:
            return False
        if not self._policy.budget.spend():
            error.add_note("not tried again: the budget for that is used up")
            return False
        longest = min(self._policy.longest_pause, self._policy.first_pause * 2 ** (self._made - 1))
        await asyncio.sleep(random.uniform(0, longest))  # noqa: S311 - not to come back all at once
        return True

    def exhaust(self) -> None:
        """There is no point in another one."""
        self._made = self._policy.attempts

    def progressed(self) -> None:
        """What comes now is something new, with all attempts before it."""
        self._made = 0

    def succeeded(self) -> None:
        """The call went well."""
        self._policy.budget.earn()


class _Retrying(Wrapper):
    def __init__(self, inner: ObjectStore, policy: _Policy) -> None:
        super().__init__(inner)
        self._policy = policy

    @override
    async def _call(self, operation: Operation, key: str, call: Call[Result], *, sent: int = 0) -> Result:
        return await self._persist(call, _Attempts(self._policy))

    async def _persist(self, call: Call[Result], attempts: _Attempts) -> Result:
        while True:
            try:
                result = await call()
            except TransientStoreError as error:
                await attempts.after(error)
            else:
                attempts.succeeded()
                return result

    @override
    async def _items(self, operation: Operation, key: str, begin: Begin[Item]) -> AsyncGenerator[Item, None]:
        attempts = _Attempts(self._policy)
        seen: set[int | MultipartRef] = set()
        while True:
            try:
                async with aclosing(super()._items(operation, key, begin)) as items:
                    async for item in items:
                        if _name(item) not in seen:
                            seen.add(_name(item))
                            attempts.progressed()
                            yield item
            except TransientStoreError as error:
                await attempts.after(error)
            else:
                attempts.succeeded()
                return

    # Reading

    @override
    async def _get(self, key: str, options: GetOptions) -> GetResult:
        result = await super()._get(key, options)
        result.attributes = _unmarked(result.attributes)

        async def reopen(start: int) -> GetResult:
            rest = replace(
                options,
                range=ByteRange(start, result.range[1]),
                if_match=result.meta.e_tag,
                if_none_match=None,
                if_modified_since=None,
                if_unmodified_since=None,
            )
            return await self.inner.get(key, rest)

        return with_stream(result, _ResumedStream(result, reopen, _Attempts(self._policy)))

    # Writes that are conditional

    @override
    async def _put(self, key: str, payload: Payload, options: PutOptions) -> PutResult:
        if options.mode == "overwrite":
            return await super()._put(key, payload, options)
        mark = secrets.token_hex(16)
        marked = _marked(options, mark) if self.capabilities.attributes else options
        attempts = _Attempts(self._policy)
        try:
            return await self._persist(lambda: self.inner.put(key, payload, marked), attempts)
        except (AlreadyExistsError, PreconditionFailedError) as refusal:
            if attempts.lost is None:
                raise
            return await self._find_written(key, mark, refusal, attempts.lost)

    async def _find_written(
        self, key: str, mark: str, refusal: AlreadyExistsError | PreconditionFailedError, lost: TransientStoreError
    ) -> PutResult:
        sees_all = self.capabilities.consistency != "eventual"
        if not (self.capabilities.attributes and sees_all):
            raise lost from refusal
        try:
            async with await super()._get(key, GetOptions(head=True, consistent=True)) as found:
                if found.attributes.metadata.get(MARK) == mark:
                    return PutResult(e_tag=found.meta.e_tag, version=found.meta.version)
        except NotFoundError:
            raise lost from refusal
        if isinstance(refusal, AlreadyExistsError):
            raise refusal
        # An update may have been done, and another have come after it.
        raise lost from refusal

    @override
    async def _copy(self, source: str, target: str, *, mode: CopyMode) -> PutResult:
        attempts = _Attempts(self._policy)
        try:
            return await self._persist(lambda: self.inner.copy(source, target, mode=mode), attempts)
        except AlreadyExistsError as refusal:
            if attempts.lost is None:
                raise
            raise attempts.lost from refusal

    @override
    async def _delete_many(self, keys: Sequence[str]) -> Sequence[DeleteResult]:
        results: dict[str, DeleteResult] = {}
        rounds = _Attempts(self._policy)
        left = keys
        while True:
            results |= {result.key: result for result in await super()._delete_many(left)}
            failed = {key: error for key in left if isinstance(error := results[key].error, TransientStoreError)}
            if not failed or not await rounds.another(next(iter(failed.values()))):
                return [results[key] for key in keys]
            left = list(failed)


class _RetryingMultiparts(_Retrying, MultipartWrapper):
    @override
    async def _complete_multipart(self, ref: MultipartRef, parts: Sequence[PartMeta], *, mode: CopyMode) -> PutResult:
        attempts = _Attempts(self._policy)
        try:
            return await self._persist(lambda: self.inner.complete_multipart(ref, parts, mode=mode), attempts)
        except AlreadyExistsError:
            if attempts.lost is not None:
                # These parts may be what is in the way. Then the multipart is gone, and looking for it says so.
                _ = [part async for part in self._list_parts(ref)]
            raise


class _ResumedStream(AsyncIterator[bytes]):
    """The bytes of one version of an object, by as many reads as it takes."""

    def __init__(self, result: GetResult, reopen: Callable[[int], Awaitable[GetResult]], attempts: _Attempts) -> None:
        self._result = result
        self._reopen = reopen
        self._attempts = attempts
        self._chunks = aiter(result)
        self._position, self._end = result.range
        self._broken: TransientStoreError | None = None

    @override
    async def __anext__(self) -> bytes:
        while True:
            try:
                chunk = await self._next_chunk()
            except TransientStoreError as error:
                await self._result.aclose()
                if self._position == self._end:
                    raise StopAsyncIteration from None
                if self._result.meta.e_tag is None:
                    raise
                self._broken = error
                await self._attempts.after(error)
            else:
                self._position += len(chunk)
                self._attempts.progressed()
                return chunk

    async def _next_chunk(self) -> bytes:
        if self._broken is not None:
            try:
                self._result = await self._reopen(self._position)
            except (NotFoundError, PreconditionFailedError) as gone:
                self._attempts.exhaust()
                raise self._broken from gone
            self._chunks = aiter(self._result)
            self._broken = None
        return await anext(self._chunks)

    async def aclose(self) -> None:
        """Close the read that is under way."""
        await self._result.aclose()


def _name(item: PartMeta | MultipartMeta) -> int | MultipartRef:
    return item.part_number if isinstance(item, PartMeta) else item.ref


def _marked(options: PutOptions, mark: str) -> PutOptions:
    metadata = {**options.attributes.metadata, MARK: mark}
    return replace(options, attributes=replace(options.attributes, metadata=metadata))


def _unmarked(attributes: Attributes) -> Attributes:
    if MARK not in attributes.metadata:
        return attributes
    metadata = {name: value for name, value in attributes.metadata.items() if name != MARK}
    return replace(attributes, metadata=metadata)
