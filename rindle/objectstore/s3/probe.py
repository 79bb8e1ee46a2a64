"""Whether a bucket can be used, and what its service makes of conditions and checksums, found out by trying."""

import secrets
from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager

from rindle.objectstore.errors import (
    MultipartNotFoundError,
    NotFoundError,
    ObjectStoreError,
    PreconditionFailedError,
    TransientStoreError,
)
from rindle.objectstore.payload import BytesPayload, crc64nvme
from rindle.objectstore.s3.bucket import MULTIPART_CHECKSUMS, Bucket
from rindle.objectstore.s3.client import Answer
from rindle.objectstore.s3.errors import CONFLICT, as_configuration_error, code_of
from rindle.objectstore.s3.profiles import Condition
from rindle.objectstore.s3.values import spell_checksum

_STRANGER = "00000000000000000000000000000000"  # the e_tag of nothing
_WRONG_CHECKSUM = "AAAAAAAAAAA="
_BODY = b"a probe of rindle; it may be removed"


async def check_listing(bucket: Bucket) -> None:
    """See that there is a bucket whose objects can be listed. ConfigurationError, in one line, says what to mend."""
    with _explained(bucket, "list objects"):
        await bucket.call("list_objects_v2", Prefix=bucket.root, MaxKeys=1)


async def check_writing(bucket: Bucket) -> None:
    """See that objects can be begun as all of them will be, encrypted and stored as they will. It leaves nothing."""
    with _explained(bucket, "write objects"):
        async with _multipart(bucket, _new_key(), bucket.part_checksums):
            pass


async def find_checksums(bucket: Bucket) -> bool:
    """Whether the service takes bodies, whole ones and parts, with their CRC-64/NVME, and refuses them with another."""
    key = _new_key()
    right = spell_checksum(crc64nvme(_BODY))

    async def discerns(operation: str, **parameters: str | int | bool) -> bool:
        accepts = [
            await _accepts(bucket.call(operation, key, Body=_BODY, ChecksumCRC64NVME=crc, **parameters))
            for crc in (right, _WRONG_CHECKSUM)
        ]
        return accepts == [True, False]

    with _explained(bucket, "write objects"):
        try:
            if not await discerns("put_object", **bucket.storage_parameters()):
                return False
            async with _multipart(bucket, key, MULTIPART_CHECKSUMS) as multipart_id:
                return await discerns("upload_part", UploadId=multipart_id, PartNumber=1)
        except ObjectStoreError as error:
            if _is_no_answer(error):
                raise
            return False
        finally:
            await bucket.call("delete_object", key)


async def find_conditions(bucket: Bucket) -> frozenset[Condition]:
    """The writes whose conditions the service honours: an object that is in the way must stop them."""
    key, copy = _new_key(), _new_key()
    kept = bucket.storage_parameters()
    stranger = bucket.spell_e_tag(_STRANGER)
    found: set[Condition] = set()
    with _explained(bucket, "write objects"):
        try:
            e_tag = bucket.spell_e_tag((await bucket.call("put_object", key, Body=_BODY, **kept))["ETag"].strip('"'))
            source = bucket.copy_source(key)
            await bucket.call("copy_object", copy, CopySource=source, **kept)
            if await _refuses(bucket.call("put_object", key, Body=_BODY, IfNoneMatch="*", **kept)):
                found.add("put")
            if await _refuses(bucket.call("put_object", key, Body=_BODY, IfMatch=stranger, **kept)) and await _accepts(
                bucket.call("put_object", key, Body=_BODY, IfMatch=e_tag, **kept)
            ):
                found.add("update")
            if await _refuses(bucket.call("copy_object", copy, CopySource=source, IfNoneMatch="*", **kept)):
                found.add("copy")
            if await _refuses_to_complete(bucket, key):
                found.add("complete")
        finally:
            await bucket.call("delete_object", key)
            await bucket.call("delete_object", copy)
    return frozenset(found)


async def _refuses_to_complete(bucket: Bucket, key: str) -> bool:
    async with _multipart(bucket, key, bucket.part_checksums) as multipart_id:
        body = BytesPayload(_BODY)
        part = await bucket.send("upload_part", key, body, UploadId=multipart_id, PartNumber=1)
        named = {"PartNumber": 1, "ETag": part["ETag"]}
        if bucket.checksums:
            named["ChecksumCRC64NVME"] = spell_checksum(crc64nvme(_BODY))
        parts = {"Parts": [named]}
        completion = {"UploadId": multipart_id, "MultipartUpload": parts, "IfNoneMatch": "*"}
        return await _refuses(bucket.call("complete_multipart_upload", key, **completion))


@asynccontextmanager
async def _multipart(bucket: Bucket, key: str, checksums: Mapping[str, str]) -> AsyncIterator[str]:
    kept = bucket.storage_parameters()
    multipart_id = (await bucket.call("create_multipart_upload", key, **kept, **checksums))["UploadId"]
    try:
        yield multipart_id
    finally:
        # One that was completed all the same is gone: some services say so, others do not.
        try:
            await bucket.call("abort_multipart_upload", key, UploadId=multipart_id)
        except ObjectStoreError as error:
            if not isinstance(error, NotFoundError | MultipartNotFoundError):
                raise


def _new_key() -> str:
    return f".rindle-probe-{secrets.token_hex(8)}"


async def _refuses(attempt: Awaitable[Answer]) -> bool:
    """Whether a write is not done because of its condition; one that cannot be asked at all is no better than done."""
    try:
        await attempt
    except PreconditionFailedError:
        return True
    except ObjectStoreError as error:
        if code_of(error) == CONFLICT:
            return True
        if _is_no_answer(error):
            raise
        return False
    return False


async def _accepts(attempt: Awaitable[Answer]) -> bool:
    try:
        await attempt
    except ObjectStoreError as error:
        if _is_no_answer(error):
            raise
        return False
    return True


def _is_no_answer(error: ObjectStoreError) -> bool:
    return isinstance(error, TransientStoreError | PermissionError)


@contextmanager
def _explained(bucket: Bucket, step: str) -> Iterator[None]:
    try:
        yield
    except ObjectStoreError as error:
        raise as_configuration_error(error, bucket.options, step) from error
