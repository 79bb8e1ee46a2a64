"""Multiparts of Google's XML API, which it says is S3's, spoken to a server that knows S3's and is not ours."""

from collections.abc import AsyncIterator

import pytest

from rindle.objectstore.errors import InvalidPartError, MultipartNotFoundError
from rindle.objectstore.ext import read
from rindle.objectstore.gcs import GCSOptions
from rindle.objectstore.gcs.bucket import Bucket
from rindle.objectstore.payload import BytesPayload
from rindle.objectstore.types import PartMeta
from tests.s3 import SMALL_PART, S3Server

KEY = "a key/é&<>+%2F"


@pytest.fixture
async def bucket(moto: S3Server) -> AsyncIterator[Bucket]:
    bucket = Bucket(
        GCSOptions(bucket=await moto.new_bucket(), prefix="pre fix", endpoint=moto.endpoint, anonymous=True, attempts=1)
    )
    yield bucket
    await bucket.aclose()


async def parts_of(bucket: Bucket, upload_id: str) -> list[PartMeta]:
    return [part async for part in bucket.list_parts(KEY, upload_id)]


async def test_a_multipart_is_begun_filled_and_completed(moto: S3Server, bucket: Bucket) -> None:
    upload_id = await bucket.create_multipart(KEY, {"Content-Type": "text/plain"})
    bodies = [BytesPayload(b"a" * 100, b"b" * SMALL_PART), BytesPayload(b"end")]
    e_tags = [await bucket.put_part(KEY, upload_id, number, body) for number, body in enumerate(bodies, 1)]
    parts = await parts_of(bucket, upload_id)
    assert [(part.part_number, part.size, part.e_tag) for part in parts] == [
        (1, SMALL_PART + 100, e_tags[0]),
        (2, 3, e_tags[1]),
    ]
    await bucket.complete_multipart(KEY, upload_id, parts)
    async with moto.store(bucket.options.bucket, "pre fix") as store:
        found = await store.get(KEY)
        assert found.attributes.content_type == "text/plain"
        assert await found.read() == b"a" * 100 + b"b" * SMALL_PART + b"end"


async def test_parts_that_are_not_the_ones_are_refused(bucket: Bucket) -> None:
    upload_id = await bucket.create_multipart(KEY, {})
    stale = PartMeta(part_number=1, size=1, e_tag=await bucket.put_part(KEY, upload_id, 1, BytesPayload(b"1")))
    await bucket.put_part(KEY, upload_id, 1, BytesPayload(b"2"))
    small = await parts_of(bucket, upload_id)
    last = PartMeta(part_number=2, size=1, e_tag=await bucket.put_part(KEY, upload_id, 2, BytesPayload(b"3")))
    for named in ([stale], [*small, last]):
        with pytest.raises(InvalidPartError):
            await bucket.complete_multipart(KEY, upload_id, named)


async def test_multiparts_are_listed_until_they_are_aborted(bucket: Bucket) -> None:
    ids = [await bucket.create_multipart(key, {}) for key in (KEY, KEY, "other")]
    listed = [(key, upload_id) async for key, upload_id, _ in bucket.list_multiparts("a key/")]
    assert sorted(listed) == sorted((KEY, upload_id) for upload_id in ids[:2])
    await bucket.abort_multipart(KEY, ids[0])
    assert [upload_id async for _, upload_id, _ in bucket.list_multiparts("a key/")] == [ids[1]]
    with pytest.raises(MultipartNotFoundError):
        await bucket.abort_multipart(KEY, ids[0])


async def test_a_part_may_be_empty(moto: S3Server, bucket: Bucket) -> None:
    upload_id = await bucket.create_multipart(KEY, {})
    await bucket.put_part(KEY, upload_id, 1, BytesPayload())
    await bucket.complete_multipart(KEY, upload_id, await parts_of(bucket, upload_id))
    async with moto.store(bucket.options.bucket, "pre fix") as store:
        assert await read(store, KEY) == b""
