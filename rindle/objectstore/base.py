"""The contract of an object store.

The public methods are final: they check the key, the options and the capability, before any I/O, and then call the
backend's hook of the same name with an underscore. So no backend and no wrapper can disagree about what is refused.
"""

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from importlib import import_module
from itertools import pairwise
from pathlib import PurePosixPath
from types import TracebackType
from typing import Any, Literal, Self, final

from typing_extensions import TypeIs, override

from rindle.errors import ConfigurationError
from rindle.objectstore.bodies import Body, SizedBody, open_body, open_sized_body
from rindle.objectstore.errors import InvalidPartError, ObjectStoreError, UnsupportedOperationError
from rindle.objectstore.keys import validate_key, validate_prefix
from rindle.objectstore.payload import BytesPayload, FilePayload, Payload
from rindle.objectstore.result import GetResult
from rindle.objectstore.streams import asynchronous, chained, in_order, repack
from rindle.objectstore.tasks import outlast
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

__all__ = ["PAGE_SIZE", "PART_SIZE", "GetResult", "Key", "MultipartStore", "ObjectStore", "SignedMethod"]

Key = str | PurePosixPath
SignedMethod = Literal["GET", "HEAD", "PUT", "DELETE"]
PAGE_SIZE = 1000
PART_SIZE = 8 << 20
LARGE_FILE = 64 << 20

_PUT = PutOptions()
_GET = GetOptions()
_MULTIPART = MultipartOptions()


class ObjectStore(ABC):
    """Objects under keys. Every method may be called from many tasks at once.

    Errors are those of :mod:`rindle.objectstore.errors` and no others, except that what a payload raises comes
    through as it is. A cancelled or failed write leaves the key as it was, or wholly written: nobody ever reads a
    part of an object. What has been written is there for every read and listing that begins afterwards, as far as the
    capability ``consistency`` goes.
    """

    name: str
    capabilities: Capabilities

    @final
    async def put(self, key: Key, body: Body, options: PutOptions = _PUT) -> PutResult:
        """Write an object, atomically and durably.

        AlreadyExistsError for mode ``"create"`` when the key is taken; PreconditionFailedError for an
        :class:`UpdateVersion` when the key is absent or holds another version; IntegrityError when a payload gives
        other bytes than its ``size`` and ``crc64nvme`` say, and nothing is kept. After a TransientStoreError the
        object is either as before or as written.

        Bytes and payloads are one write. A stream is one too if it fits into a part; a longer one, and a file of more
        than 64 MiB given by its path, goes in parts of one size (``options.part_size``), several at a time, so that
        ``options.parts_in_flight`` and one more are in memory. If the stream raises, or this is cancelled, nothing is
        left. To create in parts the store must have ``complete_create``, and no store can update in parts: a stream
        too long for its mode is an UnsupportedOperationError, a file is then one write.
        """
        name = validate_key(key, store=self.name)
        self._check_write(name, options.mode, options.attributes, options.tags)
        opened = await open_body(body)
        if not isinstance(opened, Payload):
            return await self._put_stream(name, opened, options)
        if isinstance(opened, FilePayload) and opened is not body and self._splits(opened.size, options):
            size = self._part_size(options, opened.size)
            return await self._put_parts(name, asynchronous(opened.slices(size)), replace(options, part_size=size))
        return await self._put(name, opened, options)

    @final
    async def get(self, key: Key, options: GetOptions = _GET) -> GetResult:
        """Open an object for reading; conditions are checked before the first byte.

        NotFoundError, PreconditionFailedError, NotModifiedError, InvalidRangeError. The stream reads one version
        of the object, whatever is written meanwhile.
        """
        name = validate_key(key, store=self.name)
        self._check_read(name, options)
        return await self._get(name, options)

    @final
    async def head(self, key: Key, options: GetOptions = _GET) -> ObjectMeta:
        """What :meth:`get` would say of the object, without its bytes."""
        name = validate_key(key, store=self.name)
        self._check_read(name, options)
        return await self._head(name, options)

    @final
    async def delete(self, key: Key) -> None:
        """Remove an object. Idempotent: a key that is absent is fine, on every backend."""
        name = validate_key(key, store=self.name)
        self._require_writable(name)
        await self._delete(name)

    @final
    async def delete_many(self, keys: Iterable[Key]) -> Sequence[DeleteResult]:
        """Remove many objects; one result per key, in the order given. One that fails does not stop the rest.

        InvalidKeyError, before anything is removed, when one of them could not be a key at all.
        """
        names = [validate_key(key, store=self.name) for key in keys]
        self._require_writable()
        return await self._delete_many(names)

    @final
    async def list_page(
        self,
        prefix: str = "",
        *,
        delimiter: bool = False,
        start_after: str | None = None,
        token: str | None = None,
        limit: int = PAGE_SIZE,
        consistent: bool | None = None,
    ) -> ListPage:
        """One page of the keys that start with ``prefix``, in lexicographic order of their UTF-8 bytes.

        ``start_after`` leaves out that key and all before it. With ``delimiter``, keys that hold a ``/`` after the
        prefix are folded into ``prefixes``. ``token`` is the ``next_token`` of the page before, asked for in the same
        words. Objects and prefixes together are at most ``limit``, which is positive; fewer do not mean the end.
        ``consistent`` is as in :class:`GetOptions`.
        """
        if limit < 1:
            msg = f"a page has room for at least one key, not {limit}"
            raise ValueError(msg)
        name = validate_prefix(prefix, store=self.name)
        self._check_consistency(name, consistent=consistent)
        return await self._list_page(
            name, delimiter=delimiter, start_after=start_after, token=token, limit=limit, consistent=consistent
        )

    @final
    async def list(
        self,
        prefix: str = "",
        *,
        start_after: str | None = None,
        consistent: bool | None = None,
        on_error: Callable[[ObjectStoreError], Literal["stop", "retry"]] | None = None,
    ) -> AsyncIterator[ObjectMeta]:
        """All objects whose key starts with ``prefix``, lexicographically, fetched page by page as they are read.

        A page that fails raises, unless ``on_error`` answers ``"retry"`` (ask for the same page again) or
        ``"stop"`` (end the listing here).
        """
        token: str | None = None
        while True:
            try:
                page = await self.list_page(prefix, start_after=start_after, token=token, consistent=consistent)
            except ObjectStoreError as error:
                if on_error is None:
                    raise
                if on_error(error) == "retry":
                    continue
                return
            for meta in page.objects:
                yield meta
            if page.next_token is None:
                return
            token = page.next_token

    @final
    async def list_with_delimiter(self, prefix: str = "", *, consistent: bool | None = None) -> ListPage:
        """The direct children of ``prefix``: objects, and common prefixes ending in ``/``. All pages in one."""
        objects: list[ObjectMeta] = []
        prefixes: list[str] = []
        token: str | None = None
        while True:
            page = await self.list_page(prefix, delimiter=True, token=token, consistent=consistent)
            objects += page.objects
            prefixes += page.prefixes
            if page.next_token is None:
                return ListPage(objects=tuple(objects), prefixes=tuple(prefixes))
            token = page.next_token

    @final
    async def copy(self, source: Key, target: Key, *, mode: CopyMode = "overwrite") -> PutResult:
        """Copy an object with its attributes and tags; atomic for readers of the target.

        NotFoundError if the source is absent; AlreadyExistsError for mode ``"create"`` if the target is not.
        """
        source_name = validate_key(source, store=self.name)
        target_name = validate_key(target, store=self.name)
        self._require_writable(target_name)
        if mode == "create":
            self._require("copy_create", declared=self.capabilities.copy_create, key=target_name)
        return await self._copy(source_name, target_name, mode=mode)

    @final
    async def get_tags(self, key: Key) -> Mapping[str, str]:
        """The tags of an object; NotFoundError if it is absent."""
        name = validate_key(key, store=self.name)
        self._require("tags", declared=self.capabilities.tags, key=name)
        return await self._get_tags(name)

    @final
    async def put_tags(self, key: Key, tags: Mapping[str, str]) -> None:
        """Replace all tags of an object, leaving its bytes and e_tag alone; NotFoundError if it is absent."""
        name = validate_key(key, store=self.name)
        self._require_writable(name)
        self._require("tags", declared=self.capabilities.tags, key=name)
        await self._put_tags(name, tags)

    @final
    async def sign_url(self, method: SignedMethod, key: Key, expires_in: timedelta) -> str:
        """A URL that lets whoever holds it do one thing to one object for a while: a time above zero."""
        name = validate_key(key, store=self.name)
        if method in {"PUT", "DELETE"}:
            self._require_writable(name)
        self._require("signed_urls", declared=self.capabilities.signed_urls, key=name)
        if expires_in <= timedelta(0):
            msg = f"a signed URL must be good for some time, not for {expires_in}"
            raise ValueError(msg)
        return await self._sign_url(method, name, expires_in)

    @final
    def as_fsspec(self, *, asynchronous: bool = False, loop: asyncio.AbstractEventLoop | None = None) -> Any:  # noqa: ANN401 - fsspec has no types
        """This store as a file system of fsspec (extra ``fsspec``), for pandas, pyarrow, zarr and their like.

        Made on a running event loop, it works there: its coroutines are awaited, its blocking methods are called from
        other threads. Made without one, its blocking methods work anywhere, on fsspec's own loop, or on ``loop``. A
        store belongs to the loop that first used it. ``asynchronous`` says so to those who look at that flag.
        ConfigurationError if fsspec is not installed. Closing the store is left to its owner.
        """
        try:
            # By name: what is built on stores is not known to them.
            home = import_module("rindle.objectstore.fsspec")
        except ModuleNotFoundError as error:
            msg = "a store as a file system needs fsspec: pip install 'rindle-uploads[fsspec]'"
            raise ConfigurationError(msg) from error
        return home.open_file_system(self, asynchronous=asynchronous, loop=loop)

    async def prepare(self) -> None:
        """See, before the first use, that the store can be used; and learn what it can do where that differs.

        ConfigurationError says in one line what an operator must mend. ``capabilities`` may have grown afterwards.
        """
        return

    async def sweep(self) -> int:
        """Remove what writers that died left outside of every object and multipart; how many pieces it was.

        Safe at any time, in any of the processes that share the store. Most stores keep nothing of the kind.
        """
        return 0

    async def aclose(self) -> None:
        """Let go of connections and threads. The store must not be used afterwards."""
        return

    @final
    async def __aenter__(self) -> Self:
        return self

    @final
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    # What a backend does. Keys are valid and capabilities checked when these are called.

    @abstractmethod
    async def _put(self, key: str, payload: Payload, options: PutOptions) -> PutResult: ...

    @abstractmethod
    async def _get(self, key: str, options: GetOptions) -> GetResult: ...

    @abstractmethod
    async def _head(self, key: str, options: GetOptions) -> ObjectMeta: ...

    @abstractmethod
    async def _delete(self, key: str) -> None: ...

    @abstractmethod
    async def _delete_many(self, keys: Sequence[str]) -> Sequence[DeleteResult]: ...

    @abstractmethod
    async def _list_page(
        self,
        prefix: str,
        *,
        delimiter: bool,
        start_after: str | None,
        token: str | None,
        limit: int,
        consistent: bool | None,
    ) -> ListPage: ...

    @abstractmethod
    async def _copy(self, source: str, target: str, *, mode: CopyMode) -> PutResult: ...

    @abstractmethod
    async def _get_tags(self, key: str) -> Mapping[str, str]: ...

    @abstractmethod
    async def _put_tags(self, key: str, tags: Mapping[str, str]) -> None: ...

    @abstractmethod
    async def _sign_url(self, method: SignedMethod, key: str, expires_in: timedelta) -> str: ...

    # A body that is longer than one part; here there are none.

    @final
    async def _put_stream(self, key: str, chunks: AsyncGenerator[bytes, None], options: PutOptions) -> PutResult:
        size = self._part_size(options)
        async with aclosing(repack(chunks, size)) as parts:
            begun: deque[Payload] = deque([part for _ in range(2) if (part := await anext(parts, None)) is not None])
            if len(begun) < 2:  # noqa: PLR2004 - it takes a second part to make several
                return await self._put(key, begun.popleft() if begun else BytesPayload(), options)
            return await self._put_parts(key, chained(begun, parts), replace(options, part_size=size))

    def _part_size(self, options: PutOptions, size: int = 0) -> int:  # noqa: ARG002 - for those who have parts
        return options.part_size or PART_SIZE

    def _splits(self, size: int, options: PutOptions) -> bool:  # noqa: ARG002 - for those who have parts
        return False

    async def _put_parts(self, key: str, parts: AsyncIterator[Payload], options: PutOptions) -> PutResult:  # noqa: ARG002 - for those who have parts
        mode = "update" if isinstance(options.mode, UpdateVersion) else options.mode
        msg = f"this store cannot {mode} in parts, and the body does not fit into one: give bytes or a path"
        raise UnsupportedOperationError(msg, store=self.name, key=key)

    @final
    def _require(self, capability: str, *, declared: bool, key: str) -> None:
        if not declared:
            msg = f"this store has no {capability}; see its capabilities, which prepare() finds out where they differ"
            raise UnsupportedOperationError(msg, store=self.name, key=key)

    @final
    def _require_writable(self, key: str | None = None) -> None:
        if not self.capabilities.write:
            msg = "this store is read-only"
            raise UnsupportedOperationError(msg, store=self.name, key=key)

    @final
    def _check_read(self, key: str, options: GetOptions) -> None:
        if options.version is not None:
            self._require("versions", declared=self.capabilities.versions, key=key)
        self._check_consistency(key, consistent=options.consistent)

    @final
    def _check_consistency(self, key: str, *, consistent: bool | None) -> None:
        if consistent:
            self._require("consistency", declared=self.capabilities.consistency != "eventual", key=key)

    @final
    def _check_write(self, key: str, mode: PutMode, attributes: Attributes, tags: Mapping[str, str]) -> None:
        self._require_writable(key)
        if mode == "create":
            self._require("put_create", declared=self.capabilities.put_create, key=key)
        elif isinstance(mode, UpdateVersion):
            self._require("put_update", declared=self.capabilities.put_update, key=key)
            self._require("versions", declared=self.capabilities.versions or mode.version is None, key=key)
        if attributes:
            self._require("attributes", declared=self.capabilities.attributes, key=key)
        if tags:
            self._require("tags", declared=self.capabilities.tags, key=key)


class MultipartStore(ObjectStore):
    """A store that assembles an object from parts put in any order, by any process.

    The handle is two strings, so that another process can go on. Parts are numbered from 1; a part put again under
    its number replaces the one before as a whole: what is there are the bytes of one attempt, and its ``e_tag`` says
    of which. Until the new one is there, and when it fails, the one before may already be gone.
    ``capabilities.part_limits`` is set.
    """

    @property
    @final
    def part_limits(self) -> PartLimits:
        """What this store takes in one multipart."""
        limits = self.capabilities.part_limits
        if limits is None:
            msg = "a MultipartStore must declare its part limits"
            raise TypeError(msg)
        return limits

    @final
    async def create_multipart(self, key: Key, options: MultipartOptions = _MULTIPART) -> MultipartRef:
        """Begin a multipart; nothing is visible under the key until it is completed.

        UnsupportedOperationError when the store is ``uniform`` and ``options.part_size`` is missing; InvalidPartError
        when it is a size that the store never takes.
        """
        name = validate_key(key, store=self.name)
        self._check_write(name, "overwrite", options.attributes, options.tags)
        if options.tags:
            self._require("part_limits.tags", declared=self.part_limits.tags, key=name)
        if self.part_limits.uniform and options.part_size is None:
            msg = "this store takes parts of one size only: give MultipartOptions(part_size=...)"
            raise UnsupportedOperationError(msg, store=self.name, key=name)
        if options.part_size is not None and not 1 <= options.part_size <= self.part_limits.max_size:
            msg = f"parts hold 1 to {self.part_limits.max_size} bytes, not {options.part_size}"
            raise InvalidPartError(msg, store=self.name, key=name)
        return await self._create_multipart(name, options)

    @final
    @asynccontextmanager
    async def multipart(self, key: Key, options: MultipartOptions = _MULTIPART) -> AsyncIterator[MultipartRef]:
        """A multipart for the length of a block, which completes it; if the block ends with an error, it is aborted.

        Its handle may be kept, and the parts be put by other processes meanwhile. An abort that fails is a note on the
        error.
        """
        ref = await self.create_multipart(key, options)
        try:
            yield ref
        except BaseException as error:
            aborting = asyncio.ensure_future(self.abort_multipart(ref))
            await outlast(aborting)
            if not aborting.cancelled() and isinstance(aborting.exception(), ObjectStoreError):
                error.add_note(f"and its multipart {ref.multipart_id} could not be aborted: {aborting.exception()}")
            raise

    @final
    async def put_part(self, ref: MultipartRef, part_number: int, body: SizedBody) -> PartMeta:
        """Store one part durably; the ``e_tag`` of the answer belongs to this attempt and goes into completion.

        MultipartNotFoundError when the multipart is gone; InvalidPartError for a number or size that the store
        never takes; IntegrityError when the payload gives other bytes than its ``size`` and ``crc64nvme`` say, and
        none of them are kept. A store may answer StoreUnavailableError while another attempt at this part is under way.
        """
        self._require_writable(ref.key)
        self._check_part_number(ref, part_number)
        payload = await open_sized_body(body)
        if payload.size > self.part_limits.max_size:
            msg = f"a part holds at most {self.part_limits.max_size} bytes, not {payload.size}"
            raise InvalidPartError(msg, store=self.name, key=ref.key)
        return await self._put_part(ref, part_number, payload)

    @final
    async def copy_part(
        self, ref: MultipartRef, part_number: int, source: Key, byte_range: ByteRange | None = None
    ) -> PartMeta:
        """As :meth:`put_part`, with the bytes of another object of the same store, or a range of them.

        NotFoundError when the source is absent, InvalidRangeError when the range is outside it.
        """
        name = validate_key(source, store=self.name)
        self._require_writable(ref.key)
        self._check_part_number(ref, part_number)
        self._require("copy_part", declared=self.capabilities.copy_part, key=name)
        return await self._copy_part(ref, part_number, name, byte_range)

    @final
    def list_parts(self, ref: MultipartRef) -> AsyncIterator[PartMeta]:
        """The parts that the store holds, by number; MultipartNotFoundError when the multipart is gone."""
        return self._list_parts(ref)

    @final
    async def complete_multipart(
        self, ref: MultipartRef, parts: Sequence[PartMeta], *, mode: CopyMode = "overwrite"
    ) -> PutResult:
        """Make the object of the parts named, in ascending order of number; parts not named are dropped, or refused.

        Atomic: all of the object or none of it. InvalidPartError when a part is absent or is another attempt's, or
        the parts named break the part limits (the multipart stays as it was); AlreadyExistsError for mode
        ``"create"`` when the key is taken (likewise); MultipartNotFoundError when the multipart is gone, which does
        *not* say whether it was completed. A store may answer StoreUnavailableError while a part is being put.
        """
        self._require_writable(ref.key)
        if mode == "create":
            self._require("complete_create", declared=self.capabilities.complete_create, key=ref.key)
        numbers = [part.part_number for part in parts]
        if not numbers or any(after <= before for before, after in pairwise(numbers)):
            msg = "parts must be named in ascending order of number, at least one"
            raise InvalidPartError(msg, store=self.name, key=ref.key)
        return await self._complete_multipart(ref, parts, mode=mode)

    @final
    async def abort_multipart(self, ref: MultipartRef) -> None:
        """Drop the multipart and its parts. Idempotent: one that is gone is fine."""
        self._require_writable(ref.key)
        await self._abort_multipart(ref)

    @final
    def list_multiparts(self, prefix: str = "") -> AsyncIterator[MultipartMeta]:
        """The unfinished multiparts whose key starts with ``prefix``, paged as they are read, in no promised order."""
        name = validate_prefix(prefix, store=self.name)
        self._require("list_multiparts", declared=self.capabilities.list_multiparts, key=name)
        return self._list_multiparts(name)

    async def find_multipart_expiry(self) -> timedelta | None:
        """How old an unfinished multipart may become before the service drops it by itself; None: never, or not known.

        PermissionDeniedError when its rules may not be read.
        """
        return self.part_limits.kept_for

    @abstractmethod
    async def _create_multipart(self, key: str, options: MultipartOptions) -> MultipartRef: ...

    @abstractmethod
    async def _put_part(self, ref: MultipartRef, part_number: int, payload: Payload) -> PartMeta: ...

    @abstractmethod
    async def _copy_part(
        self, ref: MultipartRef, part_number: int, source: str, byte_range: ByteRange | None
    ) -> PartMeta: ...

    @abstractmethod
    def _list_parts(self, ref: MultipartRef) -> AsyncIterator[PartMeta]: ...

    @abstractmethod
    async def _complete_multipart(
        self, ref: MultipartRef, parts: Sequence[PartMeta], *, mode: CopyMode
    ) -> PutResult: ...

    @abstractmethod
    async def _abort_multipart(self, ref: MultipartRef) -> None: ...

    @abstractmethod
    def _list_multiparts(self, prefix: str) -> AsyncIterator[MultipartMeta]: ...

    @override
    def _part_size(self, options: PutOptions, size: int = 0) -> int:
        limits = self.part_limits
        if options.part_size is None:
            return min(max(PART_SIZE, limits.min_size, -(-size // limits.max_count)), limits.max_size)
        if not limits.min_size <= options.part_size <= limits.max_size:
            msg = f"parts hold {limits.min_size} to {limits.max_size} bytes, not {options.part_size}"
            raise InvalidPartError(msg, store=self.name)
        return options.part_size

    @override
    def _splits(self, size: int, options: PutOptions) -> bool:
        tagged = self.part_limits.tags or not options.tags
        return size > LARGE_FILE and tagged and self._completes(options.mode)

    def _completes(self, mode: PutMode) -> TypeIs[CopyMode]:
        return mode == "overwrite" or (mode == "create" and self.capabilities.complete_create)

    @override
    async def _put_parts(self, key: str, parts: AsyncIterator[Payload], options: PutOptions) -> PutResult:
        if not self._completes(options.mode):
            return await super()._put_parts(key, parts, options)
        kept = MultipartOptions(part_size=options.part_size, attributes=options.attributes, tags=options.tags)
        async with self.multipart(key, kept) as ref:
            stored = await in_order(self._part_puts(ref, parts), options.parts_in_flight)
            return await self.complete_multipart(ref, stored, mode=options.mode)

    async def _part_puts(
        self, ref: MultipartRef, parts: AsyncIterator[Payload]
    ) -> AsyncGenerator[Coroutine[None, None, PartMeta], None]:
        number = 0
        async for part in parts:
            number += 1
            yield self.put_part(ref, number, part)

    @final
    def _check_part_number(self, ref: MultipartRef, part_number: int) -> None:
        if not 1 <= part_number <= self.part_limits.max_count:
            msg = f"part numbers go from 1 to {self.part_limits.max_count}, not {part_number}"
            raise InvalidPartError(msg, store=self.name, key=ref.key)
