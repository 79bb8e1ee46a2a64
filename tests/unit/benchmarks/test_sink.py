import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from benchmarks.client import connect
from benchmarks.endpoints import Sink
from benchmarks.sink import Exchange, Service
from rindle.objectstore.errors import IntegrityError, MultipartNotFoundError, NotFoundError
from rindle.objectstore.payload import BytesPayload, crc64nvme
from rindle.objectstore.s3 import S3Options, S3Store

_PART = 5 << 20
_STEP = 7  # so that frames are cut everywhere


@asynccontextmanager
async def running_sink() -> AsyncIterator[Sink]:
    service = Service()
    server = await asyncio.get_running_loop().create_server(lambda: Exchange(service), "127.0.0.1", 0)
    async with server:
        yield Sink(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", {})


@asynccontextmanager
async def running_store() -> AsyncIterator[tuple[Sink, S3Store]]:
    async with running_sink() as sink:
        endpoint = sink.place("bucket").url
        options = S3Options(bucket="bucket", endpoint=endpoint, region="us-east-1", checksums="crc64nvme", attempts=1)
        async with S3Store(options) as store:
            yield sink, store


def payload(data: bytes) -> BytesPayload:
    return BytesPayload(data, crc64nvme=crc64nvme(data))


async def test_it_tells_what_was_written_and_what_was_called_once() -> None:
    data = bytes(range(256)) * (_PART // 256) + b"the end"
    async with running_store() as (sink, store):
        ref = await store.create_multipart("large")
        parts = [
            await store.put_part(ref, number, payload(piece))
            for number, piece in ((1, data[:_PART]), (2, data[_PART:]))
        ]
        await store.complete_multipart(ref, parts)
        await store.put("small", payload(b"small"))

        taken = await sink.take("bucket")
        assert taken.written == Counter([(len(data), crc64nvme(data)), (5, crc64nvme(b"small"))])
        assert taken.calls == Counter(
            {"UploadPart": 2, "CreateMultipartUpload": 1, "CompleteMultipartUpload": 1, "PutObject": 1}
        )
        assert not (await sink.take("bucket")).written
        assert not (await sink.take("another")).written


async def test_small_objects_can_be_read_back_and_removed() -> None:
    async with running_store() as (sink, store):
        await store.put("one", payload(b"small"))
        async with await store.get("one") as found:
            assert b"".join([chunk async for chunk in found]) == b"small"
        await store.delete("one")
        with pytest.raises(NotFoundError):
            await store.head("one")
        await store.put("two", payload(b"small"))
        await sink.forget("bucket")
        with pytest.raises(NotFoundError):
            await store.head("two")


async def test_bytes_that_are_not_those_of_their_checksum_are_refused() -> None:
    async with running_store() as (sink, store):
        with pytest.raises(IntegrityError):
            await store.put("one", BytesPayload(b"other", crc64nvme=crc64nvme(b"right")))
        assert not (await sink.take("bucket")).written


async def test_parts_are_listed_until_the_multipart_is_aborted() -> None:
    async with running_store() as (_, store):
        ref = await store.create_multipart("key")
        await store.put_part(ref, 1, payload(b"one"))
        assert [(part.part_number, part.size) async for part in store.list_parts(ref)] == [(1, 3)]
        await store.abort_multipart(ref)
        with pytest.raises(MultipartNotFoundError):
            await store.put_part(ref, 2, payload(b"two"))


async def test_the_framing_of_other_sdks_is_no_part_of_the_object() -> None:
    framed = b"5;chunk-signature=ab\r\nhello\r\n6\r\n world\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n"
    headers = {
        "x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        "x-amz-decoded-content-length": "11",
        "Content-Length": str(len(framed)),
    }
    async with running_sink() as sink:
        url = sink.place("bucket").url
        assert url is not None
        async with connect(url) as connection:
            connection.begin("PUT", "/bucket/key", headers)
            for start in range(0, len(framed), _STEP):
                await connection.send([framed[start : start + _STEP]])
                await asyncio.sleep(0)
            await connection.answer(200)
        assert (await sink.take("bucket")).written == Counter([(11, crc64nvme(b"hello world"))])
