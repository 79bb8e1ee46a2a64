"""Objects in the memory of this process: the reference of what a store does, and the fake that tests run on."""

import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from types import MappingProxyType

from typing_extensions import override

from rindle.clock import utc_now
from rindle.objectstore.base import GetResult, MultipartStore, SignedMethod
from rindle.objectstore.conditions import check_conditions, resolve_range
from rindle.objectstore.errors import (
    InvalidPartError,
    MultipartNotFoundError,
    UnsupportedOperationError,
)
from rindle.objectstore.listing import Entry, cut_page, fold
from rindle.objectstore.parts import check_assembly, check_named, check_part_fits
from rindle.objectstore.payload import Payload, PayloadCheck, batches
from rindle.objectstore.refusals import no_multipart, no_object, not_that_version, taken
from rindle.objectstore.types import (
    Attributes,
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
    PartLimits,
    PartMeta,
    PutMode,
    PutOptions,
    PutResult,
    UpdateVersion,
)

ANY_PARTS = PartLimits(min_size=1, max_size=5 << 30, max_count=10_000, max_object_size=2**63 - 1)
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class _Object:
    meta: ObjectMeta
    data: bytes
    attributes: Attributes
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Multipart:
    ref: MultipartRef
    options: MultipartOptions
    initiated_at: datetime
    parts: dict[int, tuple[PartMeta, bytes]] = field(default_factory=dict)


class MemoryStore(MultipartStore):
    """An object store that ends with the process. For one event loop: what is between two awaits is atomic.

    ``part_limits`` lets a test have those of the store that it stands in for.
    """

    name = "memory"

    def __init__(self, part_limits: PartLimits = ANY_PARTS) -> None:
        self.capabilities = Capabilities(
            put_create=True,
            put_update=True,
            copy_create=True,
            complete_create=True,
            attributes=True,
            tags=True,
            copy_part=True,
            list_multiparts=True,
            part_limits=part_limits,
        )
        self._objects: dict[str, _Object] = {}
        self._multiparts: dict[str, _Multipart] = {}

    @override
    async def _put(self, key: str, payload: Payload, options: PutOptions) -> PutResult:
        data = await self._receive(key, payload)
        return self._store(key, data, options.attributes, options.tags, mode=options.mode)

    async def _receive(self, key: str, payload: Payload) -> bytes:
        check = PayloadCheck(payload, store=self.name, key=key)
        received: list[bytes] = []
        async with aclosing(batches(payload)) as lists:
            async for chunks in lists:
                check.update(chunks)
                received += chunks
        check.finish()
        return b"".join(received)

    def _store(
        self, key: str, data: bytes, attributes: Attributes, tags: Mapping[str, str], *, mode: PutMode
    ) -> PutResult:
        self._check_mode(key, mode)
        meta = ObjectMeta(key=key, size=len(data), last_modified=utc_now(), e_tag=secrets.token_hex(16))
        self._objects[key] = _Object(meta, data, attributes, tags)
        return PutResult(e_tag=meta.e_tag)

    def _check_mode(self, key: str, mode: PutMode) -> None:
        current = self._objects.get(key)
        if mode == "create" and current is not None:
            raise taken(key, store=self.name)
        if isinstance(mode, UpdateVersion) and (current is None or current.meta.e_tag != mode.e_tag):
            raise not_that_version(key, store=self.name)

    def _find(self, key: str) -> _Object:
        found = self._objects.get(key)
        if found is None:
            raise no_object(key, store=self.name)
        return found

    @override
    async def _get(self, key: str, options: GetOptions) -> GetResult:
        found = self._find(key)
        check_conditions(found.meta, options, store=self.name)
        start, end = resolve_range(options.range, found.meta.size, store=self.name, key=key)
        stream = _stream(found.data, start, start if options.head else end)
        return GetResult(meta=found.meta, attributes=found.attributes, range=(start, end), stream=stream)

    @override
    async def _head(self, key: str, options: GetOptions) -> ObjectMeta:
        async with await self._get(key, options) as result:
            return result.meta

    @override
    async def _delete(self, key: str) -> None:
        self._objects.pop(key, None)

    @override
    async def _delete_many(self, keys: Sequence[str]) -> Sequence[DeleteResult]:
        for key in keys:
            await self._delete(key)
        return [DeleteResult(key) for key in keys]

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
        entries = self._entries(prefix, start_after=start_after or "", folded=delimiter)
        return cut_page((entry for entry in entries if token is None or entry.name > token), limit)

    def _entries(self, prefix: str, *, start_after: str, folded: bool) -> Iterator[Entry]:
        keys = sorted(key for key in self._objects if key.startswith(prefix) and key > start_after)
        metas = [self._objects[key].meta for key in keys]
        return fold(metas, prefix) if folded else (Entry(meta.key, meta) for meta in metas)

    @override
    async def _copy(self, source: str, target: str, *, mode: CopyMode) -> PutResult:
        found = self._find(source)
        return self._store(target, found.data, found.attributes, found.tags, mode=mode)

    @override
    async def _get_tags(self, key: str) -> Mapping[str, str]:
        return self._find(key).tags

    @override
    async def _put_tags(self, key: str, tags: Mapping[str, str]) -> None:
        self._objects[key] = replace(self._find(key), tags=MappingProxyType(dict(tags)))

    @override
    async def _sign_url(self, method: SignedMethod, key: str, expires_in: timedelta) -> str:
        msg = "memory has no URLs"
        raise UnsupportedOperationError(msg, store=self.name, key=key)

    @override
    async def _create_multipart(self, key: str, options: MultipartOptions) -> MultipartRef:
        ref = MultipartRef(key, secrets.token_hex(16))
        self._multiparts[ref.multipart_id] = _Multipart(ref, options, utc_now())
        return ref

    def _find_multipart(self, ref: MultipartRef) -> _Multipart:
        found = self._multiparts.get(ref.multipart_id)
        if found is None or found.ref != ref:
            raise no_multipart(ref, store=self.name)
        return found

    @override
    async def _put_part(self, ref: MultipartRef, part_number: int, payload: Payload) -> PartMeta:
        self._check_part(ref, payload.size)
        return self._store_part(ref, part_number, await self._receive(ref.key, payload))

    def _check_part(self, ref: MultipartRef, size: int) -> None:
        part_size = self._find_multipart(ref).options.part_size
        check_part_fits(size, part_size, self.part_limits, store=self.name, ref=ref)

    def _store_part(self, ref: MultipartRef, part_number: int, data: bytes) -> PartMeta:
        part = PartMeta(part_number=part_number, size=len(data), e_tag=secrets.token_hex(16))
        self._find_multipart(ref).parts[part_number] = (part, data)
        return part

    @override
    async def _copy_part(
        self, ref: MultipartRef, part_number: int, source: str, byte_range: ByteRange | None
    ) -> PartMeta:
        data = self._find(source).data
        start, end = resolve_range(byte_range, len(data), store=self.name, key=source)
        self._check_part(ref, end - start)
        return self._store_part(ref, part_number, data[start:end])

    @override
    async def _list_parts(self, ref: MultipartRef) -> AsyncIterator[PartMeta]:
        for _, (part, _) in sorted(self._find_multipart(ref).parts.items()):
            yield part

    @override
    async def _complete_multipart(self, ref: MultipartRef, parts: Sequence[PartMeta], *, mode: CopyMode) -> PutResult:
        multipart = self._find_multipart(ref)
        options, held = multipart.options, multipart.parts
        known = {number: part for number, (part, _) in held.items()}
        named = [check_named(known.get(part.part_number), part, store=self.name, ref=ref) for part in parts]
        if self.part_limits.exhaustive and len(named) < len(held):
            msg = f"all {len(held)} parts that were put must be named"
            raise InvalidPartError(msg, store=self.name, key=ref.key)
        check_assembly(named, options.part_size, self.part_limits, store=self.name, ref=ref)
        data = b"".join([held[part.part_number][1] for part in named])
        result = self._store(ref.key, data, options.attributes, options.tags, mode=mode)
        del self._multiparts[ref.multipart_id]
        return result

    @override
    async def _abort_multipart(self, ref: MultipartRef) -> None:
        with suppress(MultipartNotFoundError):
            del self._multiparts[self._find_multipart(ref).ref.multipart_id]

    @override
    async def _list_multiparts(self, prefix: str) -> AsyncIterator[MultipartMeta]:
        for multipart in list(self._multiparts.values()):
            if multipart.ref.key.startswith(prefix):
                yield MultipartMeta(ref=multipart.ref, initiated_at=multipart.initiated_at)


async def _stream(data: bytes, start: int, end: int) -> AsyncGenerator[bytes, None]:
    for offset in range(start, end, _BLOCK):
        yield data[offset : min(offset + _BLOCK, end)]
