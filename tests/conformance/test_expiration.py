"""Upload-Expires: unfinished uploads are dropped some day, and it is said when."""

from email.utils import parsedate_to_datetime

import pytest

from rindle.clock import utc_now
from rindle.objectstore.types import MultipartOptions
from rindle.reaper.report import Chore
from tests.http import Response
from tests.serving import RunningServer, StartServer

PART = 64 * 1024


def seconds_left(response: Response) -> float:
    (text,) = response.all("upload-expires")
    assert text.endswith(" GMT")
    return (parsedate_to_datetime(text) - utc_now()).total_seconds()


async def expire(server: RunningServer, upload: str) -> None:
    await server.change_row(upload, "expires_at = '2000-01-01T00:00:00.000Z'")


async def test_case_69_post_and_patch_and_head_say_when_an_upload_expires(start_server: StartServer) -> None:
    server = await start_server(expires_in="1h")
    created = await server.client.post(("Upload-Length", "10"))
    patched = await server.client.patch(created.location, 0, b"hello")
    found = await server.client.head(created.location)
    for response in (created, patched, found):
        assert 3500 < seconds_left(response) <= 3601
    finished = await server.client.patch(created.location, 5, b"world")
    assert "upload-expires" not in finished.headers


async def test_an_append_gives_an_upload_more_time(start_server: StartServer) -> None:
    server = await start_server(expires_in="1h")
    upload = await server.client.create(10)
    soon = "strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '600 seconds')"
    await server.change_row(upload, f"expires_at = {soon}")
    assert seconds_left(await server.client.head(upload)) < 700
    assert seconds_left(await server.client.patch(upload, 0, b"hello")) > 3500


@pytest.mark.invariant("I9", "I11")
@pytest.mark.parametrize("size", [0, 5, PART, PART + 5])
async def test_case_70_an_expired_upload_is_gone_and_reaped_and_nothing_foreign_is(
    server: RunningServer, size: int
) -> None:
    foreign = await server.parts.store.create_multipart("uploads-of-others/key", MultipartOptions(part_size=10))
    await server.parts.store.put_part(foreign, 1, b"foreign")
    await server.parts.store.put("uploads-of-others/object", b"foreign")
    alive = await server.client.create(10, body=b"hello")
    only_foreign = server.files()
    upload = await server.client.create(3 * PART)
    await server.client.patch(upload, 0, bytes(size))
    await expire(server, upload)
    for response in (
        await server.client.head(upload),
        await server.client.patch(upload, size, b"x"),
        await server.client.delete(upload),
    ):
        assert (response.status, response.code) == (410, "upload_gone")
    done = await server.parts.reaper.run()
    assert (done[Chore.EXPIRED].done, done.failed) == (1, 0)
    assert (await server.client.head(upload)).status == 410
    assert server.files() == only_foreign
    assert await server.events(upload) == ["created", "expired"]
    assert [multipart.ref async for multipart in server.parts.store.list_multiparts()] == [foreign]
    assert (await server.client.patch(alive, 5, b"world")).offset == 10
    assert (await server.parts.reaper.run())[Chore.EXPIRED].done == 0


@pytest.mark.invariant("I8")
async def test_what_is_complete_never_expires(server: RunningServer) -> None:
    upload = await server.client.create(5, body=b"hello")
    assert (await server.find(upload)).expires_at is None
    await server.parts.reaper.run()
    assert (await server.client.head(upload)).status == 200
    assert await server.read_object(upload) == b"hello"


@pytest.mark.invariant("I9")
async def test_an_upload_that_is_being_filled_is_not_reaped(server: RunningServer) -> None:
    upload = await server.client.create(10)
    async with server.client.connect() as connection:
        await connection.begin_patch(upload, 0, length=10)
        await connection.send(b"hello")
        await server.tap.took(5)
        await expire(server, upload)
        assert (await server.parts.reaper.run())[Chore.EXPIRED].done == 0
        await connection.send(b"world")
        assert (await connection.read_response()).status == 204
    assert await server.read_object(upload) == b"helloworld"


@pytest.mark.invariant("I9", "I11")
async def test_the_reaper_removes_what_crashes_left_and_nothing_that_is_named(server: RunningServer) -> None:
    upload = await server.client.create(10, body=b"hello")
    tail = (await server.find(upload)).tail
    assert tail is not None
    folder = server.data / "tails" / "tus"
    stray = folder / tail.name.replace(tail.name.split(".")[1], "0" * 16)
    stray.write_bytes(b"stray")
    assert (await server.parts.reaper.run())[Chore.FILES].done == 1
    assert [path.name for path in folder.iterdir()] == [tail.name]
    assert (await server.client.patch(upload, 5, b"world")).status == 204
