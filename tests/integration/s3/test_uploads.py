"""Uploads that go into a bucket, from the server's HTTP to the service's."""

import base64
import random
import signal
from collections import Counter
from pathlib import Path

import pytest

import rindle
from rindle.bootstrap import Components
from rindle.errors import ConfigurationError
from rindle.objectstore.ext import read
from rindle.testing.faults import FaultyStore
from tests.acceptance.conftest import settled_offset
from tests.acceptance.process import Server, eventually, run_rindle, running
from tests.http import Client, id_of
from tests.s3 import SMALL_PART, S3Server
from tests.s3_proxy import Fault, S3Proxy, error_body, methods
from tests.serving import RunningServer, StartServer, rebuild, serving_host

PART = 64 * 1024
DATA = random.Random(0).randbytes(PART * 3 + 1000)


async def upload_in_patches(client: Client, data: bytes, *cuts: int) -> str:
    location = await client.create(len(data))
    start = 0
    for end in (*cuts, len(data)):
        response = await client.patch(location, start, data[start:end])
        assert (response.status, response.offset) == (204, end)
        assert (await client.head(location)).offset == end
        start = end
    return location


def calls(store: FaultyStore) -> Counter[str]:
    """But for the reaper's."""
    return Counter({name: count for name, count in store.calls.items() if name not in {"sweep", "list_multiparts"}})


@pytest.fixture
async def counted(moto: S3Server, proxy: S3Proxy, start_server: StartServer) -> tuple[RunningServer, FaultyStore]:
    """A server whose store is counted twice: as the engine calls it, and as calls reach the service."""
    url = moto.url(await moto.new_bucket(), endpoint=proxy.endpoint, min_part_size=str(SMALL_PART), conditions="none")
    stores: list[FaultyStore] = []

    def change(parts: Components) -> Components:
        stores.append(FaultyStore(parts.store))
        return rebuild(parts, store=stores[0])

    server = await start_server(store=url, part_size=PART, change=change)
    proxy.requests.clear()
    return server, stores[0]


async def test_case_91_an_error_in_a_completion_that_began_as_success_is_no_end(
    counted: tuple[RunningServer, FaultyStore], proxy: S3Proxy
) -> None:
    server, _ = counted
    location = await server.client.create(len(DATA))
    proxy.faults += [
        Fault("POST ?uploadId", answer=(200, error_body("AccessDenied")))
    ] * 8  # of which a call is tried 4 times
    assert (await server.client.patch(location, 0, DATA)).status == 503
    assert (await server.client.head(location)).status == 423
    assert proxy.faults == []
    assert (await server.client.patch(location, len(DATA), b"")).status == 204
    assert (await server.client.head(location)).offset == len(DATA)
    assert await server.read_object(location) == DATA
    assert await server.events(location) == ["created", "finished"]


async def test_an_upload_that_fits_one_part_is_one_call(
    counted: tuple[RunningServer, FaultyStore], proxy: S3Proxy
) -> None:
    server, store = counted
    location = await upload_in_patches(server.client, DATA[:PART], 100, 20_000)
    assert calls(store) == Counter(put=1)
    assert methods(proxy) == Counter(PUT=1)
    assert await server.read_object(location) == DATA[:PART]


async def test_a_larger_upload_is_a_call_for_each_part_and_two(
    counted: tuple[RunningServer, FaultyStore], proxy: S3Proxy
) -> None:
    server, store = counted
    location = await upload_in_patches(server.client, DATA, 100, 70_000, 150_000)
    assert calls(store) == Counter(create_multipart=1, put_part=4, complete_multipart=1)
    assert methods(proxy) == Counter(POST=2, PUT=4)
    assert await server.read_object(location) == DATA


async def test_an_upload_whose_service_fails_goes_on_when_it_is_back(
    counted: tuple[RunningServer, FaultyStore], proxy: S3Proxy
) -> None:
    server, _ = counted
    location = await server.client.create(len(DATA))
    proxy.fail("PUT ?partNumber", *[(503, "ServiceUnavailable")] * 40)
    refused = await server.client.patch(location, 0, DATA)
    assert refused.status == 503
    assert "retry-after" in refused.headers
    proxy.faults.clear()
    offset = (await server.client.head(location)).offset
    assert (await server.client.patch(location, offset, DATA[offset:])).status == 204
    assert await server.read_object(location) == DATA


@pytest.mark.parametrize("size", [1000, len(DATA)])
async def test_an_upload_is_published_under_the_name_of_its_file(
    moto: S3Server, start_server: StartServer, size: int
) -> None:
    url = moto.url(await moto.new_bucket(), min_part_size=str(SMALL_PART))
    server = await start_server(store=url, part_size=PART, publish_to="{date}-{id}/{filename}")
    name = ("Upload-Metadata", f"filename {base64.b64encode('Ü b.txt'.encode()).decode()}")
    location = await server.client.create(size, name)
    assert (await server.client.patch(location, 0, DATA[:size])).status == 204
    key = (await server.find(location)).key
    assert key is not None
    assert key.endswith(f"-{id_of(location)}/Ü_b.txt")
    assert await server.read_object(location) == DATA[:size]
    assert [meta.key async for meta in server.parts.store.list()] == [key]


async def test_a_store_whose_copies_replace_is_no_place_to_publish_by_name(
    moto: S3Server, start_server: StartServer
) -> None:
    url = moto.url(await moto.new_bucket(), conditions="none")
    with pytest.raises(ConfigurationError, match=r"cannot copy to in/\{filename\} without replacing.*put \{id\} into"):
        await start_server(store=url, publish_to="in/{filename}")
    for settings in ({"publish_to": "in/{id}"}, {"publish_to": "in/{filename}", "publish_overwrite": True}):
        assert (await start_server(store=url, **settings)).parts.store.capabilities.copy_create is False


async def test_rindle_serve_takes_an_upload_in_several_requests_and_lives(moto: S3Server, tmp_path: Path) -> None:
    bucket = await moto.new_bucket()
    url = moto.url(f"{bucket}/a/prefix", min_part_size=str(SMALL_PART))
    server = Server(tmp_path, "--store", url, "--part-size", str(PART))
    async with running(server):
        location = await server.client.create(len(DATA))
        assert (await server.client.patch(location, 0, DATA[:100_000])).offset == 100_000
        await server.kill()
        await server.start()
        assert (await server.client.head(location)).offset == 100_000
        assert (await server.client.patch(location, 100_000, DATA[100_000:])).offset == len(DATA)
    async with moto.store(bucket) as store:
        (found,) = [meta async for meta in store.list()]
        assert found.key.startswith(f"a/prefix/uploads/{id_of(location)}/")
        assert await read(store, found.key) == DATA
        assert [multipart async for multipart in store.list_multiparts()] == []


@pytest.mark.long
@pytest.mark.invariant("I1", "I3", "I4", "I8")
async def test_a_process_that_was_frozen_wakes_up_and_does_no_harm(
    moto: S3Server, tmp_path: Path, postgres_url: str
) -> None:
    """With a store and records of one machine it would hold locks, and keep others waiting until it wakes up."""
    bucket = await moto.new_bucket()
    url = moto.url(bucket, min_part_size=str(SMALL_PART), checksums="none", conditions="none")
    flags = ("--store", url, "--database", postgres_url, "--part-size", "64KiB", "--handover-timeout", "1s")
    first, second = Server(tmp_path, *flags), Server(tmp_path, *flags)
    async with running(first, second):
        location = await first.client.create(len(DATA))
        async with first.client.connect() as connection:
            await connection.begin_patch(location, 0, length=len(DATA))
            await connection.send(DATA[: PART + 100])
            while (await second.client.head(location)).offset < PART:
                pass
            first.send_signal(signal.SIGSTOP)
            await connection.send(bytes(len(DATA) - PART - 100))  # it meets other bytes when it wakes up
            found = await settled_offset(second, location)
            assert (await second.client.patch(location, found, DATA[found:])).status == 204
            first.send_signal(signal.SIGCONT)
            answer = await connection.read_response()
            assert answer.status in {409, 423, 503}, answer
        for server in (first, second):
            assert (await server.client.head(location)).offset == len(DATA)
            assert "Traceback" not in server.output
        folder = tmp_path / "tails" / "tus"
        await eventually(lambda: list(folder.iterdir()) == [], "no tail is left")
    async with moto.store(bucket) as store:
        (stored,) = [meta async for meta in store.list()]
        assert await read(store, stored.key) == DATA
        assert [multipart async for multipart in store.list_multiparts()] == []


async def test_the_environment_names_the_store(moto: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = await moto.new_bucket()
    monkeypatch.setenv("RINDLE_STORE", moto.url(bucket, min_part_size=str(SMALL_PART)))
    monkeypatch.setenv("RINDLE_DATA", str(tmp_path))
    async with serving_host(rindle.create_app()) as client:
        await upload_in_patches(client, DATA, 1, 70_000)
    async with moto.store(bucket) as store:
        (found,) = [meta async for meta in store.list()]
        assert await read(store, found.key) == DATA


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({}, None),
        ({"multiparts_kept_for": "25"}, None),
        ({"multiparts_kept_for": "24"}, "the service drops what is unfinished for 1 day, 0:00:00"),
        ({"list_multiparts": "false", "multiparts_kept_for": "48"}, None),
        ({"list_multiparts": "false"}, "unfinished multiparts cannot be found"),
        ({"exhaustive_parts": "true"}, "an object is made of all parts or none"),
    ],
)
async def test_what_a_service_makes_worse_is_said_at_start(
    moto: S3Server,
    start_server: StartServer,
    caplog: pytest.LogCaptureFixture,
    parameters: dict[str, str],
    said: str | None,
) -> None:
    url = moto.url(await moto.new_bucket(), checksums="none", conditions="none", **parameters)
    await start_server(store=url)
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [warning.startswith(f"s3: {said}") for warning in warnings] == ([] if said is None else [True])


@pytest.mark.long
async def test_an_upload_of_deferred_length_that_ends_early_fails_where_all_parts_must_be_named(
    ceph: S3Server, start_server: StartServer
) -> None:
    """It says so; elsewhere the part that nobody names is dropped."""
    part = 5 << 20
    server = await start_server(store=ceph.url(await ceph.new_bucket()), deferred_size=100 * part)
    location = await server.client.create(None)
    assert (await server.client.patch(location, 0, bytes(part + 10))).offset == part + 10
    wrong = await server.client.patch(location, part + 10, bytes(2 * part), ("Upload-Checksum", f"sha256 {'A' * 43}="))
    assert wrong.status == 460
    ended = await server.client.patch(location, part + 10, bytes(10), ("Upload-Length", str(part + 20)))
    assert (ended.status, ended.code) == (410, "upload_gone")
    assert (await server.client.head(location)).status == 410
    await server.parts.reaper.run()
    assert [meta async for meta in server.parts.store.list()] == []
    assert [multipart async for multipart in server.parts.store.list_multiparts()] == []


def test_a_store_that_cannot_be_used_is_said_in_one_line_at_start(moto: S3Server, tmp_path: Path) -> None:
    refused = run_rindle("serve", "--port", "0", "--data", tmp_path, env={"RINDLE_STORE": moto.url("no-such-bucket")})
    assert refused.returncode == 3
    assert "Traceback" not in refused.stderr
    assert "error: s3: there is no bucket no-such-bucket at http" in refused.stderr.splitlines()[-1]
