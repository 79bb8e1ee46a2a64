"""What only servers show that check bodies, sizes, multiparts and signatures, each of them in its own way."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from rindle.objectstore.base import MultipartStore
from rindle.objectstore.errors import (
    AlreadyExistsError,
    IntegrityError,
    InvalidPartError,
    MultipartNotFoundError,
    ObjectStoreError,
)
from rindle.objectstore.ext import put_stream, read
from rindle.objectstore.payload import BytesPayload, crc64nvme
from rindle.objectstore.s3 import S3Store
from rindle.objectstore.s3.bucket import Bucket
from rindle.objectstore.types import CopyMode, PutOptions
from tests.s3 import S3Server
from tests.s3_proxy import Fault, S3Proxy, methods
from tests.serving import StartServer

pytestmark = pytest.mark.long

PART = 5 << 20
COMPLETE = "POST ?uploadId"


@pytest.fixture(params=["localstack", "versitygw", "ceph"])
def server(request: pytest.FixtureRequest) -> S3Server:
    found: S3Server = request.getfixturevalue(request.param)
    return found


@pytest.fixture
async def proxy(server: S3Server) -> AsyncIterator[S3Proxy]:
    async with S3Proxy(server.endpoint) as proxy:
        yield proxy


@pytest.fixture
async def store(server: S3Server, proxy: S3Proxy) -> AsyncIterator[S3Store]:
    async with await server.new_store(endpoint=proxy.endpoint) as store:
        yield store


@pytest.fixture
async def bucket(store: S3Store) -> AsyncIterator[Bucket]:
    """The calls themselves, without what the store checks before them."""
    bucket = Bucket(store.options, consistent=True)
    yield bucket
    await bucket.aclose()


async def test_what_is_known_of_a_service_is_found_out_too(server: S3Server) -> None:
    async with await server.new_store() as known, await server.new_store(checksums="auto", conditions="auto") as store:
        assert store.capabilities != known.capabilities
        await store.prepare()
        assert store.capabilities == known.capabilities
        assert store.checksums == known.checksums
        assert [meta async for meta in store.list()] == []
        assert [multipart async for multipart in store.list_multiparts()] == []


async def test_the_service_itself_refuses_wrong_bytes(store: S3Store) -> None:
    if not store.checksums:
        pytest.skip("its profile says that it takes any")
    ref = await store.create_multipart("key")
    wrong = BytesPayload(b"some bytes", crc64nvme=crc64nvme(b"some other bytes"))
    with pytest.raises(IntegrityError, match="BadDigest"):
        await store.put_part(ref, 1, wrong)
    with pytest.raises(IntegrityError, match="BadDigest"):
        await store.put("key", wrong)


async def test_the_service_itself_refuses_parts(store: S3Store, bucket: Bucket) -> None:
    ref = await store.create_multipart("key")
    parts = [await store.put_part(ref, number, b"small") for number in (1, 2)]
    named = [{"PartNumber": part.part_number, "ETag": part.e_tag} for part in parts]
    strange = [{"PartNumber": 1, "ETag": "0" * 32}]
    disordered = "InvalidPartOrder|EntityTooSmall"  # some look at sizes first
    for wrong, code in ((named, "EntityTooSmall"), (strange, "InvalidPart"), (named[::-1], disordered)):
        with pytest.raises(InvalidPartError, match=code):
            await bucket.call(
                "complete_multipart_upload", "key", UploadId=ref.multipart_id, MultipartUpload={"Parts": wrong}
            )
    assert [part async for part in store.list_parts(ref)] == parts


@pytest.mark.parametrize("mode", ["overwrite", "create"])
async def test_a_completion_whose_answer_is_lost_is_known_by_its_object(
    store: S3Store, proxy: S3Proxy, mode: CopyMode
) -> None:
    if mode == "create" and not store.capabilities.complete_create:
        pytest.skip("its profile says that it does not know the condition")
    data = bytes(range(256)) * (PART // 256) + b"more"
    proxy.faults.append(Fault(COMPLETE, lose=True))
    done = await put_stream(store, "key", [data], part_size=PART, mode=mode)
    assert proxy.count(COMPLETE) == 2
    assert (await store.head("key")).e_tag == done.e_tag
    assert await read(store, "key") == data


async def test_writes_whose_answers_are_lost_know_their_own_objects(store: S3Store, proxy: S3Proxy) -> None:
    proxy.faults.append(Fault("PUT", lose=True))
    await store.put("key", b"bytes", PutOptions(mode="create"))
    proxy.faults.append(Fault("PUT", cut=0))
    with pytest.raises(AlreadyExistsError):
        await store.put("key", b"bytes", PutOptions(mode="create"))


async def test_of_many_who_copy_to_create_one_wins(store: S3Store) -> None:
    if not store.capabilities.copy_create:
        pytest.skip("its profile says that it does not know the condition")
    for number in range(5):
        await store.put(f"source {number}", f"bytes {number}".encode())
    copies = (store.copy(f"source {number}", "target", mode="create") for number in range(5))
    outcomes = await asyncio.gather(*copies, return_exceptions=True)
    losers = [outcome for outcome in outcomes if isinstance(outcome, ObjectStoreError)]
    assert [type(loser) for loser in losers] == [AlreadyExistsError] * 4
    (winner,) = [number for number, outcome in enumerate(outcomes) if not isinstance(outcome, BaseException)]
    assert await read(store, "target") == f"bytes {winner}".encode()
    assert [multipart async for multipart in store.list_multiparts()] == []


async def test_a_multipart_of_another_prefix_is_not_found(store: S3Store) -> None:
    ref = await store.create_multipart("key")
    other: MultipartStore = S3Store(replace(store.options, prefix="other"))
    async with other:
        with pytest.raises(MultipartNotFoundError):
            await other.put_part(ref, 1, b"bytes")
        await other.abort_multipart(ref)
    assert [multipart.ref async for multipart in store.list_multiparts()] == [ref]


async def test_a_completion_names_the_checksums_of_its_parts_and_asks_only_for_those_it_lacks(
    store: S3Store, proxy: S3Proxy
) -> None:
    """As versitygw wants it, in words of AWS."""
    if not store.checksums:
        pytest.skip("its profile says that it takes any")
    ref = await store.create_multipart("key")
    parts = [await store.put_part(ref, 1, bytes(PART)), await store.put_part(ref, 2, b"more")]
    assert [part.crc64nvme for part in parts] == [crc64nvme(bytes(PART)), crc64nvme(b"more")]
    assert [part async for part in store.list_parts(ref)] == parts
    asked = proxy.count("GET ?uploadId")
    await store.complete_multipart(ref, parts)
    assert proxy.count("GET ?uploadId") == asked
    again = await store.create_multipart("key")
    copied = await store.copy_part(again, 1, "key")
    await store.complete_multipart(again, [replace(copied, crc64nvme=None)])
    assert proxy.count("GET ?uploadId") == asked + 1
    for request in proxy.seen(COMPLETE):
        assert request.body.count(b"<ChecksumCRC64NVME>") == request.body.count(b"<Part>")


async def test_an_upload_of_parts_is_a_call_for_each_and_two(
    server: S3Server, proxy: S3Proxy, start_server: StartServer
) -> None:
    url = server.url(await server.new_bucket(), endpoint=proxy.endpoint)
    rindle = await start_server(store=url)
    proxy.requests.clear()
    data = random.Random(0).randbytes(2 * PART + 1000)
    location = await rindle.client.create(len(data))
    for start, end in ((0, 1000), (1000, PART + 5), (PART + 5, len(data))):
        assert (await rindle.client.patch(location, start, data[start:end])).offset == end
    sent = methods(proxy)
    assert sent.pop("HEAD", 0) <= 1  # Ceph's answer to a completion is without the e_tag
    assert sent == Counter(POST=2, PUT=3)
    checked = server.store("any").checksums
    assert all(("x-amz-checksum-crc64nvme" in request.headers) == checked for request in proxy.seen("PUT"))
    assert await rindle.read_object(location) == data


async def test_an_upload_that_is_given_up_leaves_nothing(server: S3Server, start_server: StartServer) -> None:
    bucket = await server.new_bucket()
    rindle = await start_server(store=server.url(bucket))
    location = await rindle.client.create(3 * PART)
    assert (await rindle.client.patch(location, 0, bytes(PART + 5))).offset == PART + 5
    async with server.store(bucket) as store:
        assert len([multipart async for multipart in store.list_multiparts()]) == 1
        assert (await rindle.client.delete(location)).status == 204
        await rindle.parts.reaper.run()
        assert [multipart async for multipart in store.list_multiparts()] == []
        assert [meta async for meta in store.list()] == []


@pytest.mark.parametrize("begun", [1000, PART + 1000], ids=["a tail", "a part"])
async def test_an_upload_survives_a_bucket_that_is_away_as_far_as_its_bytes_do(
    server: S3Server, start_server: StartServer, begun: int
) -> None:
    bucket = await server.new_bucket()
    rindle = await start_server(store=server.url(bucket))
    data = random.Random(1).randbytes(2 * PART)
    location = await rindle.client.create(len(data))
    assert (await rindle.client.patch(location, 0, data[:begun])).offset == begun
    async with server.store(bucket) as store:
        async for multipart in store.list_multiparts():
            await store.abort_multipart(multipart.ref)  # not every service removes a bucket that has one
        await store._bucket.call("delete_bucket")
        refused = await rindle.client.patch(location, begun, data[begun:])
        assert (refused.status, refused.code) == (503, "store_unavailable")
        assert int(refused.headers["retry-after"]) > 0
        assert (await rindle.client.head(location)).offset == begun
        await store._bucket.call("create_bucket")
    again = await rindle.client.patch(location, begun, data[begun:])
    if begun < PART:
        assert (again.status, again.offset) == (204, len(data))
        assert await rindle.read_object(location) == data
    else:
        assert (again.status, again.code) == (410, "upload_gone")
        assert await rindle.events(location) == ["created", "failed"]


async def test_parts_that_somebody_dropped_are_told_and_never_called_an_object(
    server: S3Server, proxy: S3Proxy, start_server: StartServer
) -> None:
    rindle = await start_server(store=server.url(await server.new_bucket(), endpoint=proxy.endpoint, attempts="1"))
    data = bytes(2 * PART)
    location = await rindle.client.create(len(data))
    proxy.fail(COMPLETE, *[(403, "AccessDenied")] * 2)
    assert (await rindle.client.patch(location, 0, data)).status == 503
    row = await rindle.find(location)
    assert row.multipart is not None
    await rindle.parts.store.abort_multipart(row.multipart)
    proxy.faults.clear()
    gone = await rindle.client.patch(location, len(data), b"")
    assert (gone.status, gone.code) == (410, "upload_gone")
    assert (await rindle.client.head(location)).status == 410
    assert await rindle.events(location) == ["created", "failed"]


@pytest.mark.parametrize("name", ["versitygw", "ceph"])
async def test_credentials_that_end_and_are_renewed_need_no_restart(
    request: pytest.FixtureRequest,
    name: str,
    start_server: StartServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server: S3Server = request.getfixturevalue(name)
    url = server.url(await server.new_bucket())

    def give(secret_key: str) -> None:
        # So soon past their time, they are fetched anew for every request.
        ends = (datetime.now(UTC) + timedelta(minutes=5)).isoformat()
        keys = {"Version": 1, "AccessKeyId": "test", "SecretAccessKey": secret_key, "Expiration": ends}
        (tmp_path / "keys.json").write_text(json.dumps(keys))

    give("test")
    (tmp_path / "config").write_text(f"[default]\ncredential_process = cat {tmp_path / 'keys.json'}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    rindle = await start_server(store=url)
    data = random.Random(2).randbytes(2 * PART + 5)
    location = await rindle.client.create(len(data))
    assert (await rindle.client.patch(location, 0, data[: PART + 5])).offset == PART + 5
    give("wrong")
    refused = await rindle.client.patch(location, PART + 5, data[PART + 5 :])
    assert (refused.status, refused.code) == (503, "store_unauthenticated")
    assert int(refused.headers["retry-after"]) > 0
    assert (await rindle.client.head(location)).offset == PART + 5
    give("test")
    assert (await rindle.client.patch(location, PART + 5, data[PART + 5 :])).offset == len(data)
    assert await rindle.read_object(location) == data
