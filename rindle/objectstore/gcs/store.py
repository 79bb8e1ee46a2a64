"""The GCS store: each method is one call to the service, or as few as its APIs take for it."""

import secrets
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from typing_extensions import override

from rindle.clock import utc_now
from rindle.objectstore.base import GetResult, MultipartStore, SignedMethod
from rindle.objectstore.conditions import check_conditions, resolve_range
from rindle.objectstore.errors import (
    InvalidRangeError,
    MultipartNotFoundError,
    NotFoundError,
    ObjectStoreError,
    PreconditionFailedError,
    UnsupportedOperationError,
)
from rindle.objectstore.gcs.bucket import Bucket, Resource
from rindle.objectstore.gcs.connection import Headers
from rindle.objectstore.gcs.errors import STORE, as_configuration_error
from rindle.objectstore.gcs.options import GCSOptions
from rindle.objectstore.gcs.reading import ObjectStream, no_bytes
from rindle.objectstore.gcs.signing import sign_url
from rindle.objectstore.gcs.values import (
    TAGS,
    WRITER,
    attributes_of,
    headers_of,
    listed_meta,
    meta_of,
    metadata_of,
    read_tags,
    resource_of,
    spell_tags,
)
from rindle.objectstore.headers import spell_range
from rindle.objectstore.keys import is_key
from rindle.objectstore.parts import check_assembly
from rindle.objectstore.payload import Payload
from rindle.objectstore.refusals import check_length, in_multipart, not_that_version, replaced_meanwhile, taken
from rindle.objectstore.tasks import delete_each
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
    UpdateVersion,
)

_PAGE = 1000  # Google's
_DELETES_AT_ONCE = 16
_LONGEST_SIGNATURE = timedelta(days=7)
_NONE = "0"  # the generation of an object that is not there
_PROBE = ".rindle-probe"
_EXPIRY = "AbortIncompleteMultipartUpload"


class GCSStore(MultipartStore):
    """Objects in a bucket of Google Cloud Storage.

    An ``e_tag`` is the object's generation. Multiparts are those of the XML API, which takes no preconditions: to
    create only (``complete_create``) is refused. A completion whose answer is lost may end in MultipartNotFoundError
    although it was done. Objects whose keys are none here (``folder/``) are not listed.

    Whether URLs can be signed is known when the credentials are: those that google-auth finds, by :meth:`prepare`.
    """

    name = STORE

    def __init__(self, options: GCSOptions) -> None:
        self.options = options
        self._bucket = Bucket(options)
        self.capabilities = Capabilities(
            put_create=True,
            put_update=True,
            copy_create=True,
            attributes=True,
            tags=options.tags,
            versions=options.versions,
            signed_urls=self._bucket.connection.identity.signer is not None,
            list_multiparts=True,
            part_limits=options.part_limits,
        )

    @override
    def __repr__(self) -> str:
        return f"GCSStore(bucket={self.options.bucket!r}, prefix={self.options.prefix!r})"

    @override
    async def prepare(self) -> None:
        """See that objects can be listed, and a multipart begun and aborted."""
        with self._explained("list objects"):
            await self._bucket.list_page("", delimiter=False, start=None, token=None, limit=1)
        with self._explained("write objects"):
            upload_id = await self._bucket.create_multipart(_PROBE, {})
            await self._bucket.abort_multipart(_PROBE, upload_id)
        signed_urls = self._bucket.connection.identity.signer is not None
        self.capabilities = replace(self.capabilities, signed_urls=signed_urls)

    @contextmanager
    def _explained(self, step: str) -> Iterator[None]:
        try:
            yield
        except ObjectStoreError as error:
            raise as_configuration_error(error, self.options, step) from error

    @override
    async def find_multipart_expiry(self) -> timedelta | None:
        ages = [
            rule["condition"]["age"]
            for rule in await self._bucket.get_lifecycle()
            if rule["action"]["type"] == _EXPIRY and "age" in rule["condition"] and self._is_about_us(rule["condition"])
        ]
        return timedelta(days=min(ages)) if ages else None

    def _is_about_us(self, condition: Resource) -> bool:
        root = self._bucket.root
        prefixes = condition.get("matchesPrefix") or [""]
        return any(root.startswith(prefix) or prefix.startswith(root) for prefix in prefixes)

    @override
    async def aclose(self) -> None:
        await self._bucket.aclose()

    # Objects

    @override
    async def _put(self, key: str, payload: Payload, options: PutOptions) -> PutResult:
        generation = _generation(key, options.mode)
        writer = None if generation is None else secrets.token_hex(16)
        resource = resource_of(options.attributes, options.tags, writer=writer)
        try:
            return self._result(await self._bucket.insert(key, payload, resource, generation=generation))
        except PreconditionFailedError as error:
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
            found = await self._bucket.head(key)
        except NotFoundError:
            return None
        written = metadata_of(found).get(WRITER) == writer
        return self._result({"generation": found["x-goog-generation"]}) if written else None

    def _result(self, resource: Resource) -> PutResult:
        generation = str(resource["generation"])
        return PutResult(e_tag=generation, version=generation if self.capabilities.versions else None)

    @override
    async def _get(self, key: str, options: GetOptions) -> GetResult:
        if options.head:
            headers = await self._bucket.head(key, options.version)
            return self._open(key, headers, options, no_bytes())
        if options.if_none_match is not None:
            # The API that reads an object compares e_tags of its own. So it is asked first, before there is a body.
            await self._head(key, options)
        asked = {} if options.range is None else {"Range": spell_range(options.range)}
        try:
            response = await self._bucket.get(key, options.version, asked)
        except InvalidRangeError:
            # The service answers this without saying what object it is; and the conditions count first.
            await self._head(key, options)
            raise
        stream = ObjectStream(key, response)
        try:
            result = self._open(key, response.headers, options, stream)
            check_length(int(response.headers.get("Content-Length", "-1")), result, store=STORE)
        except BaseException:
            await stream.aclose()
            raise
        return result

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
        meta = self._meta(key, await self._bucket.head(key, options.version), options)
        resolve_range(options.range, meta.size, store=STORE, key=key)
        return meta

    @override
    async def _delete(self, key: str) -> None:
        with suppress(NotFoundError):
            await self._bucket.delete(key)

    @override
    async def _delete_many(self, keys: Sequence[str]) -> Sequence[DeleteResult]:
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
        page = await self._bucket.list_page(
            prefix, delimiter=delimiter, start=start_after or None, token=token, limit=min(limit, _PAGE)
        )
        root = self._bucket.root
        found = ((said["name"].removeprefix(root), said) for said in page.get("items", ()))
        return ListPage(
            objects=tuple(
                listed_meta(key, said) for key, said in found if key != start_after and is_key(key, store=STORE)
            ),
            prefixes=tuple(name.removeprefix(root) for name in page.get("prefixes", ())),
            next_token=page.get("nextPageToken") or None,
        )

    @override
    async def _copy(self, source: str, target: str, *, mode: CopyMode) -> PutResult:
        found = await self._bucket.head(source)
        source_generation = found["x-goog-generation"]
        if source == target:
            if mode == "create":
                raise taken(target, store=STORE)
            return self._result({"generation": source_generation})
        generation = _generation(target, mode)
        writer = None if generation is None else secrets.token_hex(16)
        resource = resource_of(attributes_of(found), read_tags(metadata_of(found).get(TAGS)), writer=writer)
        try:
            copied = await self._bucket.rewrite(source, source_generation, target, resource, generation=generation)
        except NotFoundError as error:
            raise replaced_meanwhile(source, store=STORE) from error
        except PreconditionFailedError as error:
            written = await self._find_written(target, writer) if writer else None
            if written is None:
                raise taken(target, store=STORE) from error
            return written
        return self._result(copied)

    @override
    async def _get_tags(self, key: str) -> Mapping[str, str]:
        return read_tags(metadata_of(await self._bucket.head(key)).get(TAGS))

    @override
    async def _put_tags(self, key: str, tags: Mapping[str, str]) -> None:
        await self._bucket.patch_metadata(key, {TAGS: spell_tags(tags)})

    @override
    async def _sign_url(self, method: SignedMethod, key: str, expires_in: timedelta) -> str:
        identity = self._bucket.connection.identity
        if expires_in > _LONGEST_SIGNATURE:
            msg = "a signed URL lasts 7 days at most"
            raise UnsupportedOperationError(msg, store=STORE, key=key)
        return await sign_url(
            self._bucket.url(key),
            method,
            seconds=int(expires_in.total_seconds()),
            now=utc_now(),
            signer=identity.signer or "",
            sign=identity.sign,
        )

    # Multiparts

    @override
    async def _create_multipart(self, key: str, options: MultipartOptions) -> MultipartRef:
        headers = headers_of(options.attributes, options.tags)
        return MultipartRef(key, await self._bucket.create_multipart(key, headers))

    @override
    async def _put_part(self, ref: MultipartRef, part_number: int, payload: Payload) -> PartMeta:
        with in_multipart(ref, store=STORE):
            e_tag = await self._bucket.put_part(ref.key, ref.multipart_id, part_number, payload)
        return PartMeta(part_number=part_number, size=payload.size, e_tag=e_tag)

    @override
    async def _copy_part(
        self, ref: MultipartRef, part_number: int, source: str, byte_range: ByteRange | None
    ) -> PartMeta:
        msg = "the service cannot copy into a part"
        raise UnsupportedOperationError(msg, store=STORE, key=ref.key)

    @override
    async def _list_parts(self, ref: MultipartRef) -> AsyncIterator[PartMeta]:
        with in_multipart(ref, store=STORE):
            async for part in self._bucket.list_parts(ref.key, ref.multipart_id):
                yield part

    @override
    async def _complete_multipart(self, ref: MultipartRef, parts: Sequence[PartMeta], *, mode: CopyMode) -> PutResult:
        # What is asked of sizes is known; that parts are there, to the service alone.
        check_assembly(parts, None, self.part_limits, store=STORE, ref=ref)
        with in_multipart(ref, store=STORE):
            answer = await self._bucket.complete_multipart(ref.key, ref.multipart_id, parts)
        found = answer if "x-goog-generation" in answer else await self._bucket.head(ref.key)
        return self._result({"generation": found["x-goog-generation"]})

    @override
    async def _abort_multipart(self, ref: MultipartRef) -> None:
        with suppress(MultipartNotFoundError), in_multipart(ref, store=STORE):
            await self._bucket.abort_multipart(ref.key, ref.multipart_id)

    @override
    async def _list_multiparts(self, prefix: str) -> AsyncIterator[MultipartMeta]:
        async for key, upload_id, initiated in self._bucket.list_multiparts(prefix):
            initiated_at = datetime.fromisoformat(initiated).astimezone(UTC)
            yield MultipartMeta(ref=MultipartRef(key, upload_id), initiated_at=initiated_at)


def _generation(key: str, mode: PutMode) -> str | None:
    """The one generation that a write may replace; None for any. PreconditionFailedError where there can be none."""
    match mode:
        case "overwrite":
            return None
        case "create":
            return _NONE
        case UpdateVersion(e_tag=e_tag, version=version):
            named = {each for each in (e_tag, version) if each is not None}
            generation = named.pop()
            if named or not (generation.isascii() and generation.isdigit()) or generation == _NONE:
                msg = "no object has this e_tag and version"
                raise PreconditionFailedError(msg, store=STORE, key=key)
            return generation
