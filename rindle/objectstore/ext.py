"""What can be done with any store by its few methods; here once, so that no two stores disagree about it."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Coroutine, Iterable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from itertools import count
from types import MappingProxyType
from typing import TypeVar

from rindle.objectstore.base import Key, MultipartStore, ObjectStore
from rindle.objectstore.errors import (
    InvalidPartError,
    InvalidRangeError,
    NotFoundError,
    ObjectStoreError,
    StoreUnavailableError,
    UnsupportedOperationError,
)
from rindle.objectstore.payload import BytesPayload
from rindle.objectstore.tasks import outlast
from rindle.objectstore.types import (
    NO_ATTRIBUTES,
    Attributes,
    ByteRange,
    CopyMode,
    GetOptions,
    MultipartOptions,
    MultipartRef,
    ObjectMeta,
    PartMeta,
    PutOptions,
    PutResult,
)

NEAR = 1 << 20
PART_SIZE = 8 << 20
_RANGES_IN_FLIGHT = 4
_NO_TAGS: Mapping[str, str] = MappingProxyType({})
_GET = GetOptions()

Item = TypeVar("Item")
Result = TypeVar("Result")


async def exists(store: ObjectStore, key: Key) -> bool:
    """Whether there is an object under the key now."""
    try:
        await store.head(key)
    except NotFoundError:
        return False
    return True


async def read(store: ObjectStore, key: Key, options: GetOptions = _GET) -> bytes:
    """All bytes of an object, or of a range of it, in memory. Errors are those of :meth:`ObjectStore.get`."""
    result = await store.get(key, options)
    return await result.read()


async def get_ranges(store: ObjectStore, key: Key, ranges: Sequence[ByteRange], *, near: int = NEAR) -> Sequence[bytes]:
    """The bytes of several ranges of one version of an object, in the order asked for, in memory.

    Ranges that are at most ``near`` bytes apart are fetched by one request. InvalidRangeError if any of them starts
    after the end; PreconditionFailedError if the object is replaced on the way.
    """
    if not ranges:
        return []
    first, *others = _coalesce(ranges, near)
    begun = await _fetch(store, key, first, _GET)
    same = GetOptions(if_match=begun.meta.e_tag)
    fetches = _asynchronous(_fetch(store, key, span, same) for span in others)
    spans = [begun, *await _in_order(fetches, _RANGES_IN_FLIGHT)]
    return [_cut(spans, wanted, store, key) for wanted in ranges]


@dataclass(frozen=True, slots=True)
class _Span:
    meta: ObjectMeta
    start: int
    data: bytes


def _coalesce(ranges: Sequence[ByteRange], near: int) -> Sequence[ByteRange]:
    merged: list[ByteRange] = []
    for wanted in sorted(ranges, key=lambda wanted: wanted.start):
        if merged and (merged[-1].end is None or wanted.start - merged[-1].end <= near):
            merged[-1] = ByteRange(merged[-1].start, _later(merged[-1].end, wanted.end))
        else:
            merged.append(wanted)
    return merged


def _later(end: int | None, other: int | None) -> int | None:
    return None if end is None or other is None else max(end, other)


async def _fetch(store: ObjectStore, key: Key, span: ByteRange, options: GetOptions) -> _Span:
    result = await store.get(key, replace(options, range=span))
    return _Span(result.meta, span.start, await result.read())


def _cut(spans: Sequence[_Span], wanted: ByteRange, store: ObjectStore, key: Key) -> bytes:
    if wanted.start >= spans[0].meta.size:
        msg = f"the object has {spans[0].meta.size} bytes, none of them in {wanted}"
        raise InvalidRangeError(msg, store=store.name, key=str(key))
    span = max((span for span in spans if span.start <= wanted.start), key=lambda span: span.start)
    end = None if wanted.end is None else wanted.end - span.start
    return span.data[wanted.start - span.start : end]


async def rename(store: ObjectStore, source: Key, target: Key) -> PutResult:
    """Copy, then delete the source. Not atomic: for a while, and for good if the delete fails, there are both.

    An object renamed to its own name stays as it is.
    """
    if str(source) == str(target):
        meta = await store.head(source)
        return PutResult(e_tag=meta.e_tag, version=meta.version)
    return await _move(store, source, target, "overwrite")


async def rename_if_not_exists(store: ObjectStore, source: Key, target: Key) -> PutResult:
    """As :func:`rename`; AlreadyExistsError, and the source stays, when the target's key is taken, even by itself."""
    return await _move(store, source, target, "create")


async def _move(store: ObjectStore, source: Key, target: Key, mode: CopyMode) -> PutResult:
    result = await store.copy(source, target, mode=mode)
    await store.delete(source)
    return result


async def copy_in_parts(
    store: MultipartStore,
    source: Key,
    target: Key,
    *,
    part_size: int,
    parts_in_flight: int = 4,
    mode: CopyMode = "overwrite",
) -> PutResult:
    """Copy, inside the store, an object that is too large for one copy, with its attributes and tags.

    There is all of the target or none of it. StoreUnavailableError if the source is replaced on the way.
    """
    if mode == "create" and not store.capabilities.complete_create:
        msg = "this store has no complete_create, and the object is too large for one copy"
        raise UnsupportedOperationError(msg, store=store.name, key=str(target))
    async with await store.get(source, GetOptions(head=True)) as found:
        meta, attributes = found.meta, found.attributes
    tags = await store.get_tags(source) if store.capabilities.tags else _NO_TAGS
    options = MultipartOptions(part_size=part_size, attributes=attributes, tags=tags)
    async with _multipart(store, target, options) as ref:
        starts = range(0, meta.size, part_size)
        copies = (
            store.copy_part(ref, number, source, ByteRange(start, min(start + part_size, meta.size)))
            for number, start in enumerate(starts, 1)
        )
        parts = await _in_order(_asynchronous(copies), parts_in_flight)
        if (await store.head(source)).e_tag != meta.e_tag:
            msg = "the source was replaced while it was copied"
            raise StoreUnavailableError(msg, store=store.name, key=str(source))
        return await store.complete_multipart(ref, parts, mode=mode)


async def put_stream(
    store: MultipartStore,
    key: Key,
    source: AsyncIterable[bytes] | Iterable[bytes],
    *,
    part_size: int = PART_SIZE,
    parts_in_flight: int = 3,
    mode: CopyMode = "overwrite",
    attributes: Attributes = NO_ATTRIBUTES,
    tags: Mapping[str, str] = _NO_TAGS,
) -> PutResult:
    """Write an object of a size that is not known before its end.

    What fits into one part is one put; the rest goes into parts of ``part_size``, several at a time, so that at most
    ``parts_in_flight + 1`` parts are in memory. There is all of the object or none of it: if the source raises, or
    this is cancelled, the multipart is aborted. A ``part_size`` that the store never takes is an InvalidPartError. The
    source is read to its end or up to the error; closing it is left to its owner.
    """
    limits = store.part_limits
    if not limits.min_size <= part_size <= limits.max_size:
        msg = f"parts hold {limits.min_size} to {limits.max_size} bytes, not {part_size}"
        raise InvalidPartError(msg, store=store.name, key=str(key))
    async with aclosing(_repack(_asynchronous(source), part_size)) as parts:
        begun = deque([part for _ in range(2) if (part := await anext(parts, None)) is not None])
        if len(begun) < 2:  # noqa: PLR2004 - it takes a second part to make several
            whole = begun.popleft() if begun else BytesPayload()
            return await store.put(key, whole, PutOptions(mode=mode, attributes=attributes, tags=tags))
        if mode == "create" and not store.capabilities.complete_create:
            msg = "this store has no complete_create, and there is more than fits into one part"
            raise UnsupportedOperationError(msg, store=store.name, key=str(key))
        options = MultipartOptions(part_size=part_size, attributes=attributes, tags=tags)
        async with _multipart(store, key, options) as ref:
            stored = await _in_order(_puts(store, ref, begun, parts), parts_in_flight)
            return await store.complete_multipart(ref, stored, mode=mode)


@asynccontextmanager
async def _multipart(store: MultipartStore, key: Key, options: MultipartOptions) -> AsyncIterator[MultipartRef]:
    ref = await store.create_multipart(key, options)
    try:
        yield ref
    except BaseException as error:
        aborting = asyncio.ensure_future(store.abort_multipart(ref))
        await outlast(aborting)
        if not aborting.cancelled() and isinstance(aborting.exception(), ObjectStoreError):
            error.add_note(f"and its multipart {ref.multipart_id} could not be aborted: {aborting.exception()}")
        raise


async def _puts(
    store: MultipartStore, ref: MultipartRef, begun: deque[BytesPayload], parts: AsyncIterator[BytesPayload]
) -> AsyncGenerator[Coroutine[None, None, PartMeta], None]:
    for number in count(1):
        part = begun.popleft() if begun else await anext(parts, None)
        if part is None:
            return
        yield store.put_part(ref, number, part)


async def _in_order(works: AsyncGenerator[Coroutine[None, None, Result], None], limit: int) -> Sequence[Result]:
    """Run coroutines side by side, at most ``limit``; none is asked for before there is room for it."""
    results: list[Result] = []
    running: deque[asyncio.Task[Result]] = deque()
    try:
        async with aclosing(works):
            while (work := await anext(works, None)) is not None:
                running.append(asyncio.create_task(work))
                if len(running) >= limit:
                    results.append(await running[0])
                    running.popleft()
            while running:
                results.append(await running[0])
                running.popleft()
        return results
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _asynchronous(source: AsyncIterable[Item] | Iterable[Item]) -> AsyncGenerator[Item, None]:
    if isinstance(source, AsyncIterable):
        async for item in source:
            yield item
    else:
        for item in source:
            yield item


async def _repack(chunks: AsyncGenerator[bytes, None], part_size: int) -> AsyncGenerator[BytesPayload, None]:
    """The same bytes in parts of exactly ``part_size``, the last one shorter; only chunks on an edge are copied."""
    part: list[bytes] = []
    room = part_size
    async with aclosing(chunks):
        async for chunk in chunks:
            start = 0
            while len(chunk) - start >= room:
                yield BytesPayload(*part, chunk[start : start + room])
                start += room
                part, room = [], part_size
            if start < len(chunk):
                part.append(chunk[start:])
                room -= len(chunk) - start
    if part:
        yield BytesPayload(*part)
