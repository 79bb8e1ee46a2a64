"""What can be done with any store by its few methods; here once, so that no two stores disagree about it."""

import os
import secrets
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from rindle.objectstore.base import Key, MultipartStore, ObjectStore
from rindle.objectstore.bodies import Body
from rindle.objectstore.disk import DiskExecutor, OpenFile, make_directories, publish
from rindle.objectstore.errors import (
    InvalidRangeError,
    NotFoundError,
    StoreUnavailableError,
    UnsupportedOperationError,
)
from rindle.objectstore.payload import batches
from rindle.objectstore.refusals import replaced_meanwhile
from rindle.objectstore.result import GetResult
from rindle.objectstore.streams import asynchronous, in_order
from rindle.objectstore.types import (
    NO_ATTRIBUTES,
    Attributes,
    ByteRange,
    CopyMode,
    GetOptions,
    MultipartOptions,
    ObjectMeta,
    PutMode,
    PutOptions,
    PutResult,
)

NEAR = 1 << 20
_RANGES_IN_FLIGHT = 4
_NO_TAGS: Mapping[str, str] = MappingProxyType({})
_GET = GetOptions()


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
    fetches = asynchronous(_fetch(store, key, span, same) for span in others)
    spans = [begun, *await in_order(fetches, _RANGES_IN_FLIGHT)]
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
    async with store.multipart(target, options) as ref:
        starts = range(0, meta.size, part_size)
        copies = (
            store.copy_part(ref, number, source, ByteRange(start, min(start + part_size, meta.size)))
            for number, start in enumerate(starts, 1)
        )
        parts = await in_order(asynchronous(copies), parts_in_flight)
        if (await store.head(source)).e_tag != meta.e_tag:
            raise replaced_meanwhile(str(source), store=store.name)
        return await store.complete_multipart(ref, parts, mode=mode)


async def put_stream(
    store: ObjectStore,
    key: Key,
    source: Body,
    *,
    part_size: int | None = None,
    parts_in_flight: int = 3,
    mode: PutMode = "overwrite",
    attributes: Attributes = NO_ATTRIBUTES,
    tags: Mapping[str, str] = _NO_TAGS,
) -> PutResult:
    """:meth:`ObjectStore.put`, with its options in words."""
    options = PutOptions(
        mode=mode, attributes=attributes, tags=tags, part_size=part_size, parts_in_flight=parts_in_flight
    )
    return await store.put(key, source, options)


async def download(store: ObjectStore, key: Key, path: os.PathLike[str], options: GetOptions = _GET) -> ObjectMeta:
    """Write an object, or a range of it, to a file: wholly and durably, or not at all. Little of it is in memory.

    A file that has the name is replaced; directories are made. Errors are those of :meth:`ObjectStore.get`, and OSError
    for what is wrong with the file. StoreUnavailableError if the store gives fewer bytes than it said.
    """
    target = Path(path)
    disk = DiskExecutor("download", threads=1)
    try:
        async with await store.get(key, options) as result:
            file = await disk.run(_make_beside, target)
            try:
                await _receive(store, result, file, disk)
                await disk.run(_publish, file, target)
            except BaseException:
                await disk.run(file.discard)
                raise
            return result.meta
    finally:
        await disk.aclose()


def _make_beside(target: Path) -> OpenFile:
    make_directories(target.parent)
    path = target.with_name(f".{target.name[:100]}.{secrets.token_hex(8)}")
    return OpenFile(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)


async def _receive(store: ObjectStore, result: GetResult, file: OpenFile, disk: DiskExecutor) -> None:
    offset = 0
    async with aclosing(batches(result)) as lists:
        async for chunks in lists:
            offset += await disk.run(file.write, chunks, offset)
    start, end = result.range
    if offset != end - start:
        msg = f"the store gave {offset} bytes and had said {end - start}"
        raise StoreUnavailableError(msg, store=store.name, key=result.meta.key)


def _publish(file: OpenFile, target: Path) -> None:
    file.sync()
    publish(file.path, target, replace=True)
    file.close()
