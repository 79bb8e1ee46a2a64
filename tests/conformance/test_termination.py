"""DELETE: an upload goes, and all that was stored of it."""

import asyncio

import pytest

from tests.http import OCTETS
from tests.serving import RunningServer, StartServer

PART = 64 * 1024


@pytest.mark.invariant("I10", "I11")
@pytest.mark.parametrize("size", [0, 5, PART, 2 * PART + 5])
async def test_case_65_a_deleted_upload_is_gone_with_all_its_bytes(server: RunningServer, size: int) -> None:
    upload = await server.client.create(3 * PART)
    await server.client.patch(upload, 0, bytes(size))
    response = await server.client.delete(upload)
    assert response.status == 204
    assert "upload-offset" not in response.headers
    for method in ("HEAD", "DELETE"):
        gone = await server.client.request(method, upload)
        assert (gone.status, gone.code) == (410, "upload_gone")
        assert "upload-offset" not in gone.headers
    assert (await server.client.patch(upload, size, b"x")).status == 410
    assert server.files() == {}
    assert await server.events(upload) == ["created", "terminated"]


@pytest.mark.invariant("I10")
@pytest.mark.parametrize("size", [5, PART, 2 * PART + 5])
async def test_case_66_a_delete_ends_the_patch_that_is_running(server: RunningServer, size: int) -> None:
    upload = await server.client.create(3 * PART)
    async with server.client.connect() as connection:
        await connection.begin_patch(upload, 0, length=3 * PART)
        await connection.send(bytes(size))
        await server.tap.took(size)
        assert (await server.client.delete(upload)).status == 204
        ended = await connection.read_response()
    assert (ended.status, ended.code) == (410, "upload_gone")
    assert (await server.client.head(upload)).status == 410
    assert server.files() == {}
    assert await server.events(upload) == ["created", "terminated"]


@pytest.mark.invariant("I8")
async def test_case_67_a_complete_upload_is_not_deleted_by_default(server: RunningServer) -> None:
    upload = await server.client.create(5, body=b"hello")
    before = await server.state()
    response = await server.client.delete(upload)
    assert (response.status, response.code) == (403, "upload_complete")
    assert await server.state() == before
    assert await server.read_object(upload) == b"hello"


@pytest.mark.parametrize("size", [0, 5, 2 * PART + 5])
async def test_case_67_a_complete_upload_is_deleted_where_that_is_allowed(start_server: StartServer, size: int) -> None:
    server = await start_server(terminate_complete=True, part_size=PART)
    upload = await server.client.create(size)
    if size:
        await server.client.patch(upload, 0, bytes(size))
    assert await server.read_object(upload) == bytes(size)
    assert (await server.client.delete(upload)).status == 204
    assert (await server.client.head(upload)).status == 410
    assert server.files() == {}
    assert await server.events(upload) == ["created", "finished", "terminated"]


async def test_case_68_an_unknown_upload_cannot_be_deleted(server: RunningServer) -> None:
    upload = await server.client.create(5)
    before = await server.state()
    assert (await server.client.delete(f"/files/{'0' * 32}")).status == 404
    for version in ([], [("Tus-Resumable", "0.2.2")]):
        response = await server.client.request("DELETE", upload, version, tus=False)
        assert response.status == 412
        assert response.headers["tus-version"] == "1.0.0"
    assert await server.state() == before


@pytest.mark.invariant("I10", "I21")
async def test_of_many_deletes_all_are_heard_and_one_event_tells_of_it(server: RunningServer) -> None:
    upload = await server.client.create(3 * PART)
    await server.client.patch(upload, 0, bytes(PART + 5))
    responses = await asyncio.gather(*(server.client.delete(upload) for _ in range(10)))
    statuses = [response.status for response in responses]
    assert statuses.count(204) == 1
    assert set(statuses) == {204, 410}
    assert server.files() == {}
    assert await server.events(upload) == ["created", "terminated"]


@pytest.mark.invariant("I8", "I20")
async def test_a_delete_touches_no_other_upload(server: RunningServer) -> None:
    uploads = [await server.client.create(3 * PART) for _ in range(2)]
    for upload in uploads:
        await server.client.patch(upload, 0, bytes(PART + 5))
    assert (await server.client.delete(uploads[0])).status == 204
    assert (await server.client.head(uploads[1])).offset == PART + 5
    assert (await server.client.patch(uploads[1], PART + 5, bytes(2 * PART - 5))).status == 204
    assert await server.read_object(uploads[1]) == bytes(3 * PART)


async def test_a_body_that_comes_with_a_delete_is_not_waited_for(server: RunningServer) -> None:
    upload = await server.client.create(10)
    async with server.client.connect() as connection:
        sent = [("Tus-Resumable", "1.0.0"), OCTETS, ("Expect", "100-continue"), ("Content-Length", "1000")]
        await connection.send_head("DELETE", upload, sent)
        assert (await connection.read_interim()).status == 204
