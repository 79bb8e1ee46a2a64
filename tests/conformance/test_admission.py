"""More than a process takes: refused before the first byte, with when to come again; nothing is lost by it."""

import pytest

from tests.http import Response
from tests.serving import StartServer


def assert_refused(response: Response, status: int, code: str) -> None:
    assert (response.status, response.code) == (status, code)
    assert int(response.headers["retry-after"]) > 0


@pytest.mark.invariant("I13", "I14")
async def test_more_bodies_than_allowed_are_told_to_come_again(start_server: StartServer) -> None:
    server = await start_server(max_appends=1)
    first, second = await server.client.create(10), await server.client.create(5)
    async with server.client.connect() as connection:
        await connection.begin_patch(first, 0, length=10)
        await connection.send(b"hello")
        await server.tap.took(5)
        before = await server.find(second)
        assert_refused(await server.client.patch(second, 0, b"bytes"), 503, "server_busy")
        assert_refused(await server.client.post(("Upload-Length", "0")), 503, "server_busy")
        assert await server.find(second) == before
        for upload in (first, second):
            found = await server.client.head(upload)
            assert (found.status, found.offset) == (200, 0)
        await connection.send(b"world")
        assert (await connection.read_response()).status == 204
    assert (await server.client.patch(second, 0, b"bytes")).status == 204
    assert await server.read_object(first) == b"helloworld"
    assert await server.read_object(second) == b"bytes"


@pytest.mark.invariant("I12", "I13", "I14")
async def test_without_room_on_the_disk_of_the_tails_no_body_is_taken(start_server: StartServer) -> None:
    server = await start_server(least_free=2**60)
    upload = await server.client.create(10)
    before = await server.state()
    assert_refused(await server.client.patch(upload, 0, b"hello"), 507, "store_full")
    assert await server.state() == before
    found = await server.client.head(upload)
    assert (found.status, found.offset) == (200, 0)
    assert (await server.client.delete(upload)).status == 204
