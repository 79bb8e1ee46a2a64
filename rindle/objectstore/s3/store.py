"""The S3 store: each method is one call to the service, or as few as S3's API takes for it."""

import asyncio
import hashlib
import logging
import random
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

from typing_extensions import override

from rindle.objectstore.base import GetResult, MultipartStore, SignedMethod
from rindle.objectstore.conditions import check_conditions, resolve_range
from rindle.objectstore.errors import (
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
from rindle.objectstore.parts import check_assembly
from rindle.objectstore.payload import BytesPayload, Payload
from rindle.objectstore.refusals import check_length, in_multipart, not_that_version, replaced_meanwhile, taken
from rindle.objectstore.s3.bucket import Bucket
from rindle.objectstore.s3.client import Answer
from rindle.objectstore.s3.errors import CONFLICT, INTERNAL, STORE, code_of, error_of
from rindle.objectstore.s3.options import S3Options
from rindle.objectstore.s3.probe import check_listing, check_writing, find_checksums, find_conditions
from rindle.objectstore.s3.profiles import Condition
from rindle.objectstore.s3.reading import ObjectStream, condition_parameters, no_bytes, range_parameters
from rindle.objectstore.s3.values import (
    WRITER,
    abort_rules,
    attribute_parameters,
    attributes_of,
    checksum_of,
    meta_of,
    spell_checksum,
    tag_parameters,
    utc,
)
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
    PutOptions,
    PutResult,
    UpdateVersion,
)

_PAGE = 1000  # S3's, of everything that comes in pages
_COPY_SIZE = 1 << 30  # of what is too large for one copy: short enough to be answered in time
_NO_RULES = ("NoSuchLifecycleConfiguration", "NotImplemented", "MethodNotAllowed")
_CONFLICT_PAUSES = (0.1, 0.3, 1.0)
_LATEST = GetOptions(consistent=True)
_OPERATIONS = {"GET": "get_object", "HEAD": "head_object", "PUT": "put_object", "DELETE": "delete_object"}

logger = logging.getLogger(__name__)


class S3Store(MultipartStore):
    """Objects in a bucket of S3, or of a service that speaks its API. Credentials come by the SDK's own ways.

    Until :meth:`prepare` has run, the service is believed to do only what its profile and the options say. Objects
    whose keys are none here (``folder/``) are not listed. An object is copied in parts if it is larger than one call
    copies, or where a copy that creates takes no condition.
    """

    name = STORE

    def __init__(self, options: S3Options) -> None:
        self.options = options
        self._service = options.service
        self._bucket = Bucket(options, consistent=True)
        by_request = self._service.consistency == "by_request"
        self._nearby = Bucket(options, consistent=False) if by_request else self._bucket
        known = self._service.conditions
        self._declare(frozenset() if known == "auto" else known)

    @override
    def __repr__(self) -> str:
        return f"S3Store(bucket={self.options.bucket!r}, prefix={self.options.prefix!r})"

    @property
    def checksums(self) -> bool:
        """Whether the service checks every body against its CRC-64/NVME."""
        return self._bucket.checksums

    def _asked(self, consistent: bool | None) -> Bucket:  # noqa: FBT001 - the question
        """The bucket as a read or a listing wants to see it."""
        chosen = self.options.consistent if consistent is None else consistent
        return self._bucket if chosen else self._nearby

    def _declare(self, conditions: frozenset[Condition]) -> None:
        self._conditions = conditions
        self.capabilities = Capabilities(
            put_create="put" in conditions,
            put_update="update" in conditions,
            copy_create="copy" in conditions or {"put", "complete"} <= conditions,
            complete_create="complete" in conditions,
            attributes=True,
            tags=self._service.tags,
            versions=self.options.versions,
            signed_urls=True,
            copy_part=True,
            list_multiparts=self._service.list_multiparts,
            consistency=self._service.consistency,
            part_limits=self._service.part_limits,
        )

    @override
    async def prepare(self) -> None:
        """See that objects can be listed and written; learn what is not known of the service.

        For that, objects ``.rindle-probe-…`` are written under the prefix and removed. What the profile and the options
        say is not tried.
        """
        await check_listing(self._bucket)
        if self._service.checksums == "auto":
            self._bucket.checksums = await find_checksums(self._bucket)
        await check_writing(self._bucket)
        if self._service.conditions == "auto":
            self._declare(await find_conditions(self._bucket))
        logger.info(
            "s3: %s, taken for %s, honours conditions of: %s; checks CRC-64/NVME: %s",
            self.options.endpoint or "AWS",
            self.options.profile_name,
            ", ".join(sorted(self._conditions)) or "nothing",
            "yes" if self._bucket.checksums else "no",
        )

    @override
    async def aclose(self) -> None:
        await self._bucket.aclose()
        await self._nearby.aclose()

    @override
    async def find_multipart_expiry(self) -> timedelta | None:
        """By the rules of the bucket that concern the prefix, or the service's own habit, whichever comes first."""
        try:
            answer = await self._bucket.call("get_bucket_lifecycle_configuration")
        except ObjectStoreError as error:
            if code_of(error) not in _NO_RULES:
                raise
            answer = {}
        ages = [*abort_rules(answer, self._bucket.root)]
        kept_for = self.part_limits.kept_for
        return min(ages if kept_for is None else [*ages, kept_for], default=None)

    # Objects

    @override
    async def _put(self, key: str, payload: Payload, options: PutOptions) -> PutResult:
        if options.mode == "overwrite":
            parameters = {**attribute_parameters(options.attributes), **self._storage(options.tags)}
            return self._result(await self._bucket.send("put_object", key, payload, **parameters))
        if isinstance(options.mode, UpdateVersion) and options.mode.e_tag is None:
            msg = "S3 compares e_tags and not versions: name the e_tag"
            raise UnsupportedOperationError(msg, store=STORE, key=key)
        writer = secrets.token_hex(16)
        for pause in _CONFLICT_PAUSES:
            try:
                return await self._put_once(key, payload, options, writer)
            except StoreUnavailableError as error:
                # Another write was under way, and this one was not done. The service asks for it again.
                if code_of(error) != CONFLICT:
                    raise
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - not to come back all at once
        return await self._put_once(key, payload, options, writer)

    async def _put_once(self, key: str, payload: Payload, options: PutOptions, writer: str) -> PutResult:
        parameters = {**attribute_parameters(options.attributes, writer=writer), **self._storage(options.tags)}
        if isinstance(options.mode, UpdateVersion) and options.mode.e_tag is not None:
            parameters["IfMatch"] = self._bucket.spell_e_tag(options.mode.e_tag)
        else:
            parameters["IfNoneMatch"] = "*"
        try:
            return self._result(await self._bucket.send("put_object", key, payload, **parameters))
        except (NotFoundError, PreconditionFailedError) as error:
            written = await self._find_written(key, writer)
            if written is not None:
                return written
            if options.mode == "create":
                raise taken(key, store=STORE) from error
            raise not_that_version(key, store=STORE) from error

    async def _find_written(self, key: str, writer: str) -> PutResult | None:
        """What this writer has written: a call is repeated if its answer is lost, and then meets what it has done."""
        try:
            found = await self._head_object(key, _LATEST)
        except NotFoundError:
            return None
        return self._result(found) if found.get("Metadata", {}).get(WRITER) == writer else None

    def _storage(self, tags: Mapping[str, str]) -> dict[str, Any]:
        return {**self._bucket.storage_parameters(), **tag_parameters(tags)}

    def _result(self, answer: Answer) -> PutResult:
        return PutResult(
            e_tag=unquoted(answer.get("ETag")),
            version=answer.get("VersionId") if self.capabilities.versions else None,
        )

    @override
    async def _get(self, key: str, options: GetOptions) -> GetResult:
        if options.head:
            answer = await self._head_object(key, options)
            return self._open(key, answer, options, no_bytes())
        asked = {**range_parameters(options.range), **condition_parameters(options), **_version(options)}
        try:
            answer = await self._asked(options.consistent).call("get_object", key, **asked)
        except InvalidRangeError:
            # The service answers this without saying what object it is; and the conditions count first.
            await self._head(key, options)
            raise
        stream = ObjectStream(key, answer["Body"])
        try:
            result = self._open(key, answer, options, stream)
            check_length(answer["ContentLength"], result, store=STORE)
        except BaseException:
            await stream.aclose()
            raise
        return result

    def _open(self, key: str, answer: Answer, options: GetOptions, stream: AsyncIterator[bytes]) -> GetResult:
        meta = self._meta(key, answer, options)
        span = resolve_range(options.range, meta.size, store=STORE, key=key)
        return GetResult(meta=meta, attributes=attributes_of(answer), range=span, stream=stream)

    def _meta(self, key: str, answer: Answer, options: GetOptions) -> ObjectMeta:
        meta = meta_of(key, answer, versions=self.capabilities.versions)
        check_conditions(meta, options, store=STORE)
        return meta

    @override
    async def _head(self, key: str, options: GetOptions) -> ObjectMeta:
        meta = self._meta(key, await self._head_object(key, options), options)
        resolve_range(options.range, meta.size, store=STORE, key=key)
        return meta

    async def _head_object(self, key: str, options: GetOptions) -> Answer:
        bucket = self._asked(options.consistent)
        try:
            return await bucket.call("head_object", key, **_version(options))
        except NotFoundError:
            # A bucket that is gone answers in the same way, and must not pass for an object that is not there.
            await bucket.call("list_objects_v2", Prefix=self._bucket.root, MaxKeys=1)
            raise

    @override
    async def _delete(self, key: str) -> None:
        await self._bucket.call("delete_object", key)

    @override
    async def _delete_many(self, keys: Sequence[str]) -> Sequence[DeleteResult]:
        results: list[DeleteResult] = []
        for start in range(0, len(keys), _PAGE):
            results += await self._delete_page(keys[start : start + _PAGE])
        return results

    async def _delete_page(self, keys: Sequence[str]) -> Sequence[DeleteResult]:
        root = self._bucket.root
        wanted = {"Objects": [{"Key": root + key} for key in keys], "Quiet": True}
        try:
            answer = await self._bucket.call("delete_objects", Delete=wanted)
        except ObjectStoreError as error:
            return [DeleteResult(key, error) for key in keys]
        failed = {said["Key"]: error_of(said, said["Key"].removeprefix(root)) for said in answer.get("Errors", ())}
        return [DeleteResult(key, failed.get(root + key)) for key in keys]

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
        root = self._bucket.root
        asked = {
            "Prefix": root + prefix,
            "Delimiter": "/" if delimiter else None,
            "StartAfter": root + start_after if start_after else None,
            "ContinuationToken": token,
            "MaxKeys": min(limit, _PAGE),
        }
        given = {name: value for name, value in asked.items() if value is not None}
        answer = await self._asked(consistent).call("list_objects_v2", None, **given)
        found = ((said["Key"].removeprefix(root), said) for said in answer.get("Contents", ()))
        return ListPage(
            objects=tuple(_listed(key, said) for key, said in found if is_key(key, store=STORE)),
            prefixes=tuple(said["Prefix"].removeprefix(root) for said in answer.get("CommonPrefixes", ())),
            next_token=answer.get("NextContinuationToken") if answer.get("IsTruncated") else None,
        )

    @override
    async def _copy(self, source: str, target: str, *, mode: CopyMode) -> PutResult:
        found = await self._head_object(source, _LATEST)
        if source == target:
            if mode == "create":
                raise taken(target, store=STORE)
            return self._result(found)
        size = found["ContentLength"]
        conditional = mode == "overwrite" or "copy" in self._conditions
        # Where a copy takes no condition, the completion of a multipart does; but that has no part without bytes.
        if size > self._service.max_copy_size or (size > 0 and not conditional):
            limits = self.part_limits
            part_size = min(max(_COPY_SIZE, -(-size // limits.max_count)), limits.max_size)
            return await copy_in_parts(self, source, target, part_size=part_size, mode=mode)
        if not conditional:
            tags = await self._get_tags(source) if self.capabilities.tags else {}
            options = PutOptions(mode="create", attributes=attributes_of(found), tags=tags)
            return await self._put(target, BytesPayload(), options)
        if mode == "create":
            return await self._copy_to_create(source, target, found)
        kept = self._bucket.storage_parameters()
        answer = await self._bucket.call("copy_object", target, CopySource=self._bucket.copy_source(source), **kept)
        return self._copied(answer)

    async def _copy_to_create(self, source: str, target: str, found: Answer) -> PutResult:
        writer = secrets.token_hex(16)
        try:
            answer = await self._bucket.call(
                "copy_object",
                target,
                CopySource=self._bucket.copy_source(source),
                CopySourceIfMatch=found["ETag"],
                IfNoneMatch="*",
                MetadataDirective="REPLACE",
                **attribute_parameters(attributes_of(found), writer=writer),
                **self._bucket.storage_parameters(),
            )
        except PreconditionFailedError as error:
            written = await self._find_written(target, writer)
            if written is not None:
                return written
            await self._require_unchanged(source, found, error)
            raise taken(target, store=STORE) from error
        return self._copied(answer)

    async def _require_unchanged(self, source: str, found: Answer, error: ObjectStoreError) -> None:
        """One condition was of the source, the other of the target: the service does not say which did not hold."""
        if (await self._head_object(source, _LATEST))["ETag"] != found["ETag"]:
            raise replaced_meanwhile(source, store=STORE) from error

    def _copied(self, answer: Answer) -> PutResult:
        return self._result({**answer, "ETag": answer["CopyObjectResult"].get("ETag")})

    @override
    async def _get_tags(self, key: str) -> Mapping[str, str]:
        answer = await self._bucket.call("get_object_tagging", key)
        return {tag["Key"]: tag["Value"] for tag in answer.get("TagSet", ())}

    @override
    async def _put_tags(self, key: str, tags: Mapping[str, str]) -> None:
        tag_set = [{"Key": name, "Value": value} for name, value in tags.items()]
        await self._bucket.call("put_object_tagging", key, Tagging={"TagSet": tag_set})

    @override
    async def _sign_url(self, method: SignedMethod, key: str, expires_in: timedelta) -> str:
        return await self._bucket.sign(_OPERATIONS[method], key, seconds=expires_in.total_seconds())

    # Multiparts

    @override
    async def _create_multipart(self, key: str, options: MultipartOptions) -> MultipartRef:
        answer = await self._bucket.call(
            "create_multipart_upload",
            key,
            **attribute_parameters(options.attributes),
            **self._storage(options.tags),
            **self._bucket.part_checksums,
        )
        return MultipartRef(key, answer["UploadId"])

    @override
    async def _put_part(self, ref: MultipartRef, part_number: int, payload: Payload) -> PartMeta:
        with in_multipart(ref, store=STORE):
            answer = await self._bucket.send(
                "upload_part", ref.key, payload, UploadId=ref.multipart_id, PartNumber=part_number
            )
        return self._part(ref, part_number, payload.size, answer)

    @override
    async def _copy_part(
        self, ref: MultipartRef, part_number: int, source: str, byte_range: ByteRange | None
    ) -> PartMeta:
        found = await self._head_object(source, _LATEST)
        start, end = resolve_range(byte_range, found["ContentLength"], store=STORE, key=source)
        if end - start > self.part_limits.max_size:
            msg = f"a part holds at most {self.part_limits.max_size} bytes, not {end - start}"
            raise InvalidPartError(msg, store=STORE, key=ref.key)
        asked = {} if byte_range is None else {"CopySourceRange": f"bytes={start}-{end - 1}"}
        try:
            answer = await self._bucket.call(
                "upload_part_copy",
                ref.key,
                UploadId=ref.multipart_id,
                PartNumber=part_number,
                CopySource=self._bucket.copy_source(source),
                CopySourceIfMatch=found["ETag"],
                **asked,
            )
        except PreconditionFailedError as error:
            raise replaced_meanwhile(source, store=STORE) from error
        return self._part(ref, part_number, end - start, answer["CopyPartResult"])

    @override
    async def _list_parts(self, ref: MultipartRef) -> AsyncIterator[PartMeta]:
        with in_multipart(ref, store=STORE):
            async for page in self._bucket.pages("list_parts", ref.key, UploadId=ref.multipart_id):
                for said in page.get("Parts", ()):
                    yield self._part(ref, said["PartNumber"], said["Size"], said)

    def _part(self, ref: MultipartRef, part_number: int, size: int, answer: Answer) -> PartMeta:
        e_tag = unquoted(answer.get("ETag"))
        if e_tag is None:
            msg = f"the service gave no e_tag for part {part_number}, without which it cannot be named"
            raise StoreUnavailableError(msg, store=STORE, key=ref.key)
        crc = checksum_of(answer) if self.checksums else None
        return PartMeta(part_number=part_number, size=size, e_tag=e_tag, crc64nvme=crc)

    @override
    async def _complete_multipart(self, ref: MultipartRef, parts: Sequence[PartMeta], *, mode: CopyMode) -> PutResult:
        # What every part but the last is like is known from the first; that parts are there, to the service alone.
        check_assembly(parts, parts[0].size, self.part_limits, store=STORE, ref=ref)
        named = await self._name_parts(ref, parts)
        condition = {"IfNoneMatch": "*"} if mode == "create" else {}
        try:
            with in_multipart(ref, store=STORE):
                answer = await self._bucket.call(
                    "complete_multipart_upload",
                    ref.key,
                    UploadId=ref.multipart_id,
                    MultipartUpload={"Parts": named},
                    MpuObjectSize=sum(part.size for part in parts),
                    **condition,
                )
        except MultipartNotFoundError as error:
            return await self._find_completed(ref, parts, error)
        except PreconditionFailedError as error:
            if await self._is_unfinished(ref):
                raise taken(ref.key, store=STORE) from error
            return await self._find_completed(ref, parts, error)
        except StoreUnavailableError as error:
            # Some services say no more than this of a multipart that is gone.
            if code_of(error) != INTERNAL or await self._is_unfinished(ref):
                raise
            return await self._find_completed(ref, parts, error)
        # Some services leave the e_tag out.
        return self._result(answer if answer.get("ETag") else await self._head_object(ref.key, _LATEST))

    async def _name_parts(self, ref: MultipartRef, parts: Sequence[PartMeta]) -> Sequence[Mapping[str, Any]]:
        """The parts as a completion names them; some services want their checksums too, where there are any."""
        if not self.checksums:
            return [_name_part(part, None) for part in parts]
        known = {part.part_number: part.crc64nvme for part in parts}
        if None in known.values():
            known = {part.part_number: part.crc64nvme async for part in self._list_parts(ref)}
        return [_name_part(part, known.get(part.part_number)) for part in parts]

    async def _find_completed(self, ref: MultipartRef, parts: Sequence[PartMeta], error: ObjectStoreError) -> PutResult:
        """What was assembled of these parts before, by a call whose answer was lost. Their e_tags say it."""
        expected = _assembled_e_tag(parts)
        with suppress(NotFoundError):
            found = self._result(await self._head_object(ref.key, _LATEST))
            if expected is not None and found.e_tag == expected:
                return found
        msg = "the multipart is gone, and another object stands under its key, or none"
        raise MultipartNotFoundError(msg, store=STORE, key=ref.key) from error

    async def _is_unfinished(self, ref: MultipartRef) -> bool:
        try:
            await self._bucket.call("list_parts", ref.key, UploadId=ref.multipart_id, MaxParts=1)
        except (MultipartNotFoundError, NotFoundError):
            return False
        return True

    @override
    async def _abort_multipart(self, ref: MultipartRef) -> None:
        with suppress(MultipartNotFoundError), in_multipart(ref, store=STORE):
            await self._bucket.call("abort_multipart_upload", ref.key, UploadId=ref.multipart_id)

    @override
    async def _list_multiparts(self, prefix: str) -> AsyncIterator[MultipartMeta]:
        root = self._bucket.root
        async for page in self._bucket.pages("list_multipart_uploads", Prefix=root + prefix):
            for said in page.get("Uploads", ()):
                ref = MultipartRef(said["Key"].removeprefix(root), said["UploadId"])
                yield MultipartMeta(ref=ref, initiated_at=utc(said["Initiated"]))


def _version(options: GetOptions) -> dict[str, str]:
    return {} if options.version is None else {"VersionId": options.version}


def _listed(key: str, said: Answer) -> ObjectMeta:
    return ObjectMeta(
        key=key, size=said["Size"], last_modified=utc(said["LastModified"]), e_tag=unquoted(said.get("ETag"))
    )


def _name_part(part: PartMeta, crc64nvme: int | None) -> Mapping[str, Any]:
    named = {"PartNumber": part.part_number, "ETag": f'"{part.e_tag}"'}
    return named if crc64nvme is None else {**named, "ChecksumCRC64NVME": spell_checksum(crc64nvme)}


def _assembled_e_tag(parts: Sequence[PartMeta]) -> str | None:
    """The e_tag that S3 gives to an object of these parts, where theirs are digests."""
    try:
        digests = b"".join(bytes.fromhex(part.e_tag) for part in parts)
    except ValueError:
        return None
    return f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(parts)}"
