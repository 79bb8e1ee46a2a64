"""The Azure store: each method is one call to the service, or as few as its API takes for it."""

import secrets
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta

from azure.storage.blob import BlobProperties, BlobSasPermissions
from azure.storage.blob.aio import BlobPrefix
from typing_extensions import override

from rindle.objectstore.azure.connection import Connection
from rindle.objectstore.azure.container import Container, Headers
from rindle.objectstore.azure.errors import STORE, as_configuration_error, code_of
from rindle.objectstore.azure.journal import (
    FOLDER,
    journal_of,
    new_block,
    new_ref,
    read_parts,
    ref_of,
    spell_part,
)
from rindle.objectstore.azure.options import PART_LIMITS, AzureOptions
from rindle.objectstore.azure.reading import ObjectStream, meta_of, no_bytes, request_headers
from rindle.objectstore.azure.values import (
    OWN,
    WRITER,
    attribute_headers,
    attributes_of,
    check_name,
    is_name,
    metadata_headers,
    tag_headers,
    utc,
)
from rindle.objectstore.base import GetResult, MultipartStore, SignedMethod
from rindle.objectstore.conditions import check_conditions, resolve_range
from rindle.objectstore.errors import (
    AlreadyExistsError,
    InvalidPartError,
    InvalidRangeError,
    MultipartNotFoundError,
    NotFoundError,
    ObjectStoreError,
    PreconditionFailedError,
    StoreUnavailableError,
    UnsupportedOperationError,
)
from rindle.objectstore.ext import copy_in_parts
from rindle.objectstore.headers import unquoted
from rindle.objectstore.keys import is_key
from rindle.objectstore.parts import check_assembly, check_named
from rindle.objectstore.payload import Payload
from rindle.objectstore.refusals import check_length, in_multipart, not_that_version, replaced_meanwhile, taken
from rindle.objectstore.tasks import delete_each
from rindle.objectstore.transfer import checksum
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
    PutMode,
    PutOptions,
    PutResult,
    SuffixRange,
    UpdateVersion,
)

_PAGE = 5000  # Azure's
_DELETES_AT_ONCE = 16
_COPY_SIZE = 256 << 20  # what the service copies in one call
_LONGEST_DELEGATION = timedelta(days=7)
_PERMISSIONS: Mapping[SignedMethod, BlobSasPermissions] = {
    "GET": BlobSasPermissions(read=True),
    "HEAD": BlobSasPermissions(read=True),
    "PUT": BlobSasPermissions(create=True, write=True),
    "DELETE": BlobSasPermissions(delete=True),
}


class AzureStore(MultipartStore):
    """Objects in a container of Azure Blob Storage, as block blobs.

    A multipart is the list of blocks that a blob is being made of, and a journal under ``.rindle/`` that says which.
    Azure has one such list for each key: while a multipart is unfinished, a put or a delete under its key, or the
    completion of another, drops its parts (``part_limits.exclusive``), and its own completion then says so. What an
    aborted multipart has stored is seen by nobody, and removed by Azure a week after the last of it was written; as is
    what an unfinished one has.

    Objects whose keys are none here (``folder/``) are not listed. Keys with a backslash, or with a dot at the end of a
    segment, are refused: Azure would take them for others.
    """

    name = STORE

    def __init__(self, options: AzureOptions) -> None:
        self.options = options
        self._connection = Connection(options)
        self._root = f"{options.prefix}/" if options.prefix else ""
        self._container = Container(self._connection, self._root)
        self._journals = Container(self._connection, "")
        self.capabilities = Capabilities(
            put_create=True,
            put_update=True,
            copy_create=True,
            complete_create=True,
            attributes=True,
            tags=options.tags,
            versions=options.versions,
            signed_urls=self._connection.account.can_sign,
            copy_part=True,
            list_multiparts=True,
            part_limits=PART_LIMITS,
        )

    @override
    def __repr__(self) -> str:
        return f"AzureStore(container={self.options.container!r}, prefix={self.options.prefix!r})"

    @override
    async def prepare(self) -> None:
        """See that objects can be listed, and a multipart begun and aborted."""
        with self._explained("list objects"):
            await self._container.list_page("", delimiter=False, start=None, token=None, limit=1)
        with self._explained("write and remove objects"):
            ref = await self._create_multipart(f"{OWN}-probe", MultipartOptions())
            await self._abort_multipart(ref)

    @contextmanager
    def _explained(self, step: str) -> Iterator[None]:
        try:
            yield
        except ObjectStoreError as error:
            raise as_configuration_error(error, self.options, self._connection.account.url, step) from error

    @override
    async def aclose(self) -> None:
        await self._connection.aclose()

    # Objects

    @override
    async def _put(self, key: str, payload: Payload, options: PutOptions) -> PutResult:
        check_name(key)
        writer = None if options.mode == "overwrite" else secrets.token_hex(16)
        headers = {
            "x-ms-blob-type": "BlockBlob",
            **attribute_headers(options.attributes, writer=writer),
            **tag_headers(options.tags),
            **_conditions(key, options.mode),
        }
        try:
            return self._result(await self._container.put_blob(key, payload, headers))
        except (AlreadyExistsError, NotFoundError, PreconditionFailedError) as error:
            if writer is None:
                raise
            written = await self._find_written(key, writer)
            if written is not None:
                return written
            if options.mode == "create":
                raise taken(key, store=STORE) from error
            raise not_that_version(key, store=STORE) from error

    async def _find_written(self, key: str, writer: str) -> PutResult | None:
        """What this writer has written: a call is repeated if its answer is lost, and then meets what it has done."""
        try:
            found = await self._container.head_blob(key)
        except NotFoundError:
            return None
        return self._result(found) if found.get(f"x-ms-meta-{WRITER}") == writer else None

    def _result(self, headers: Headers) -> PutResult:
        return PutResult(
            e_tag=unquoted(headers.get("ETag")),
            version=headers.get("x-ms-version-id") if self.capabilities.versions else None,
        )

    @override
    async def _get(self, key: str, options: GetOptions) -> GetResult:
        check_name(key)
        if options.head:
            headers = await self._container.head_blob(key, options.version)
            return self._open(key, headers, options, no_bytes())
        if isinstance(options.range, SuffixRange):
            return await self._get_end(key, options, options.range.length)
        try:
            download = await self._container.get_blob(key, request_headers(options), options.version)
        except InvalidRangeError:
            # The service answers this without saying what object it is; and the conditions count first.
            await self._head(key, options)
            raise
        stream = ObjectStream(key, download)
        try:
            result = self._open(key, download.headers, options, stream)
            check_length(int(download.headers["Content-Length"]), result, store=STORE)
        except BaseException:
            await stream.aclose()
            raise
        return result

    async def _get_end(self, key: str, options: GetOptions, length: int) -> GetResult:
        """The service has no ranges from the end: so it is asked first where that is, and of the same object then."""
        meta = await self._head(key, options)
        found = GetOptions(range=ByteRange(max(0, meta.size - length)), if_match=meta.e_tag, version=options.version)
        try:
            return await self._get(key, found)
        except (InvalidRangeError, PreconditionFailedError) as error:
            msg = "the object was replaced while it was opened"
            raise StoreUnavailableError(msg, store=STORE, key=key) from error

    def _open(self, key: str, headers: Headers, options: GetOptions, stream: AsyncIterator[bytes]) -> GetResult:
        meta = self._meta(key, headers, options)
        span = resolve_range(options.range, meta.size, store=STORE, key=key)
        return GetResult(meta=meta, attributes=attributes_of(headers), range=span, stream=stream)

    def _meta(self, key: str, headers: Headers, options: GetOptions) -> ObjectMeta:
        meta = meta_of(key, headers, versions=self.capabilities.versions)
        check_conditions(meta, options, store=STORE)
        return meta

    @override
    async def _head(self, key: str, options: GetOptions) -> ObjectMeta:
        check_name(key)
        meta = self._meta(key, await self._container.head_blob(key, options.version), options)
        resolve_range(options.range, meta.size, store=STORE, key=key)
        return meta

    @override
    async def _delete(self, key: str) -> None:
        check_name(key)
        with suppress(NotFoundError):
            await self._container.delete_blob(key)

    @override
    async def _delete_many(self, keys: Sequence[str]) -> Sequence[DeleteResult]:
        for key in keys:
            check_name(key)
        return await delete_each(self._delete, keys, at_once=_DELETES_AT_ONCE)

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
        listed, next_token = await self._container.list_page(
            prefix, delimiter=delimiter, start=start_after or None, token=token, limit=min(limit, _PAGE)
        )
        root = self._root
        objects: list[ObjectMeta] = []
        prefixes: list[str] = []
        for found in listed:
            name = found.name.removeprefix(root)
            if isinstance(found, BlobPrefix):
                if name != f"{OWN}/":
                    prefixes.append(name)
            elif name != start_after and is_key(name, store=STORE) and is_name(name):
                objects.append(_listed(name, found))
        return ListPage(objects=tuple(objects), prefixes=tuple(prefixes), next_token=next_token)

    @override
    async def _copy(self, source: str, target: str, *, mode: CopyMode) -> PutResult:
        check_name(source)
        check_name(target)
        found = await self._container.head_blob(source)
        if source == target:
            if mode == "create":
                raise taken(target, store=STORE)
            return self._result(found)
        size = int(found["Content-Length"])
        if size > _COPY_SIZE:
            part_size = max(_COPY_SIZE, -(-size // self.part_limits.max_count))
            return await copy_in_parts(self, source, target, part_size=part_size, mode=mode)
        tags = self.capabilities.tags and "x-ms-tag-count" in found
        if mode == "overwrite":
            return self._result(await self._container.copy_blob(source, target, {}, tags=tags))
        writer = secrets.token_hex(16)
        headers = {
            **metadata_headers(attributes_of(found), writer=writer),
            **_conditions(target, mode),
            "x-ms-source-if-match": found["ETag"],
        }
        try:
            return self._result(await self._container.copy_blob(source, target, headers, tags=tags))
        except (AlreadyExistsError, PreconditionFailedError) as error:
            written = await self._find_written(target, writer)
            if written is not None:
                return written
            await self._require_unchanged(source, found, error)
            raise taken(target, store=STORE) from error

    async def _require_unchanged(self, source: str, found: Headers, error: ObjectStoreError) -> None:
        """One condition was of the source, the other of the target: not every answer says which did not hold."""
        if code_of(error) == _SOURCE_CHANGED or (await self._container.head_blob(source))["ETag"] != found["ETag"]:
            raise replaced_meanwhile(source, store=STORE) from error

    @override
    async def _get_tags(self, key: str) -> Mapping[str, str]:
        check_name(key)
        return await self._container.get_tags(key)

    @override
    async def _put_tags(self, key: str, tags: Mapping[str, str]) -> None:
        check_name(key)
        await self._container.put_tags(key, tags)

    @override
    async def _sign_url(self, method: SignedMethod, key: str, expires_in: timedelta) -> str:
        check_name(key)
        if expires_in > _LONGEST_DELEGATION and self._connection.account.signs_by_delegation:
            msg = "without the account's key, a signed URL lasts 7 days at most"
            raise UnsupportedOperationError(msg, store=STORE, key=key)
        return await self._container.sign(key, _PERMISSIONS[method], expires_in=expires_in)

    # Multiparts

    @override
    async def _create_multipart(self, key: str, options: MultipartOptions) -> MultipartRef:
        check_name(key)
        ref = new_ref(key, root=self._root)
        headers = {**attribute_headers(options.attributes), **tag_headers(options.tags)}
        await self._journals.create_journal(self._journal(ref), headers)
        return ref

    @override
    async def _put_part(self, ref: MultipartRef, part_number: int, payload: Payload) -> PartMeta:
        crc = await checksum(payload, store=STORE, key=ref.key)
        part = PartMeta(part_number=part_number, size=payload.size, e_tag=new_block(part_number), crc64nvme=crc)
        if part.size > 0:  # there are no blocks without bytes
            await self._container.put_block(ref.key, part.e_tag, payload, crc)
        return await self._enter(ref, part)

    @override
    async def _copy_part(
        self, ref: MultipartRef, part_number: int, source: str, byte_range: ByteRange | None
    ) -> PartMeta:
        check_name(source)
        found = await self._container.head_blob(source)
        start, end = resolve_range(byte_range, int(found["Content-Length"]), store=STORE, key=source)
        if end - start > self.part_limits.max_size:
            msg = f"a part holds at most {self.part_limits.max_size} bytes, not {end - start}"
            raise InvalidPartError(msg, store=STORE, key=ref.key)
        part = PartMeta(part_number=part_number, size=end - start, e_tag=new_block(part_number))
        try:
            await self._container.put_block_from(ref.key, part.e_tag, source, (start, end), found["ETag"])
        except PreconditionFailedError as error:
            raise replaced_meanwhile(source, store=STORE) from error
        return await self._enter(ref, part)

    def _journal(self, ref: MultipartRef) -> str:
        return journal_of(ref, root=self._root)

    async def _enter(self, ref: MultipartRef, part: PartMeta) -> PartMeta:
        with in_multipart(ref, store=STORE):
            await self._journals.append(self._journal(ref), spell_part(part))
        return part

    async def _read_journal(self, ref: MultipartRef) -> tuple[Headers, Mapping[int, PartMeta]]:
        with in_multipart(ref, store=STORE):
            download = await self._journals.get_blob(self._journal(ref), {}, None)
        stream = ObjectStream(ref.key, download)
        try:
            return download.headers, read_parts(b"".join([chunk async for chunk in stream]))
        finally:
            await stream.aclose()

    @override
    async def _list_parts(self, ref: MultipartRef) -> AsyncIterator[PartMeta]:
        _, parts = await self._read_journal(ref)
        blocks: Mapping[str, int] = {}
        with suppress(NotFoundError):
            blocks = await self._container.list_blocks(ref.key)
        for part in parts.values():
            if part.size == 0 or part.e_tag in blocks:
                yield part

    @override
    async def _complete_multipart(self, ref: MultipartRef, parts: Sequence[PartMeta], *, mode: CopyMode) -> PutResult:
        try:
            journal, known = await self._read_journal(ref)
        except MultipartNotFoundError:
            written = await self._find_written(ref.key, ref.multipart_id)
            if written is None:
                raise
            return written
        named = [check_named(known.get(part.part_number), part, store=STORE, ref=ref) for part in parts]
        check_assembly(named, None, self.part_limits, store=STORE, ref=ref)
        tags = await self._journals.get_tags(self._journal(ref)) if "x-ms-tag-count" in journal else {}
        headers = {
            **attribute_headers(attributes_of(journal), writer=ref.multipart_id),
            **tag_headers(tags),
            **_conditions(ref.key, mode),
        }
        blocks = [part.e_tag for part in named if part.size > 0]
        try:
            answer = await self._container.put_block_list(ref.key, blocks, headers)
        except (AlreadyExistsError, InvalidPartError, PreconditionFailedError) as error:
            written = await self._find_written(ref.key, ref.multipart_id)
            if written is None:
                raise _not_assembled(error, ref) from error
            result = written
        else:
            result = self._result(answer)
        await self._abort_multipart(ref)
        return result

    @override
    async def _abort_multipart(self, ref: MultipartRef) -> None:
        with suppress(MultipartNotFoundError, NotFoundError):
            await self._journals.delete_blob(self._journal(ref))

    @override
    async def _list_multiparts(self, prefix: str) -> AsyncIterator[MultipartMeta]:
        token: str | None = None
        while True:
            listed, token = await self._journals.list_page(
                FOLDER + self._root + prefix, delimiter=False, start=None, token=token, limit=_PAGE
            )
            for found in listed:
                ref = ref_of(found.name, root=self._root)
                if isinstance(found, BlobProperties) and ref is not None and ref.key.startswith(prefix):
                    yield MultipartMeta(ref=ref, initiated_at=utc(found.creation_time))
            if token is None:
                return


_SOURCE_CHANGED = "SourceConditionNotMet"


def _conditions(key: str, mode: PutMode) -> dict[str, str]:
    match mode:
        case "overwrite":
            return {}
        case "create":
            return {"If-None-Match": "*"}
        case UpdateVersion(e_tag=None):
            msg = "Azure compares e_tags and not versions: name the e_tag"
            raise UnsupportedOperationError(msg, store=STORE, key=key)
        case UpdateVersion(e_tag=e_tag):
            return {"If-Match": f'"{e_tag}"'}


def _listed(key: str, found: BlobProperties) -> ObjectMeta:
    return ObjectMeta(key=key, size=found.size, last_modified=utc(found.last_modified), e_tag=unquoted(found.etag))


def _not_assembled(error: ObjectStoreError, ref: MultipartRef) -> ObjectStoreError:
    if not isinstance(error, InvalidPartError):
        return taken(ref.key, store=STORE)
    msg = "parts are gone: they were too old, or something else was written or removed under the key meanwhile"
    return InvalidPartError(msg, store=STORE, key=ref.key)
