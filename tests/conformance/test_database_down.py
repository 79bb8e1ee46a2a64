"""The database is away: nothing is acknowledged, nobody is sent back to byte 0, and it all goes on when it is back."""

import contextlib
import random
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import AsyncAdaptedQueuePool

from tests.http import OCTETS
from tests.serving import RunningServer, StartServer

PART = 64 * 1024


@contextlib.asynccontextmanager
async def database_away(server: RunningServer) -> AsyncIterator[None]:
    """While the block runs, no connection to the database is to be had."""
    path = server.data / "rindle.db"
    aside = server.data / "aside.db"
    engine = server.parts.database.engine
    assert isinstance(engine.pool, AsyncAdaptedQueuePool)
    async with contextlib.AsyncExitStack() as stack:
        # All that there can be, so that nobody is in the middle of using one.
        connections = [await stack.enter_async_context(engine.connect()) for _ in range(engine.pool.size())]
        path.rename(aside)
        path.mkdir()
        for connection in connections:
            await connection.invalidate()
    try:
        yield
    finally:
        path.rmdir()
        aside.rename(path)


@pytest.mark.invariant("I12", "I14")
async def test_case_96_without_a_database_a_head_is_423_and_everything_else_503(server: RunningServer) -> None:
    upload = await server.client.create(10, body=b"hello")
    before = await server.state()
    taken = server.tap.received
    async with database_away(server):
        found = await server.client.head(upload)
        assert (found.status, found.code) == (423, "database_unavailable")
        assert int(found.headers["retry-after"]) > 0
        assert "upload-offset" not in found.headers
        for response in (
            await server.client.patch(upload, 5, b"world"),
            await server.client.post(("Upload-Length", "5")),
            await server.client.post(("Upload-Length", "5"), OCTETS, body=b"hello"),
            await server.client.delete(upload),
        ):
            assert (response.status, response.code) == (503, "database_unavailable")
            assert int(response.headers["retry-after"]) > 0
        assert (await server.client.request("OPTIONS", "/files")).status == 204
        async with server.client.connect() as connection:
            await connection.begin_patch(upload, 5, ("Expect", "100-continue"), length=5)
            assert (await connection.read_interim()).status == 503
    assert server.tap.received - taken <= len(b"world") + len(b"hello")
    assert await server.state() == before
    assert (await server.client.patch(upload, 5, b"world")).status == 204
    assert await server.read_object(upload) == b"helloworld"


@pytest.mark.invariant("I12")
@pytest.mark.parametrize("begun", [0, 5])
@pytest.mark.parametrize("size", [100, PART, 2 * PART + 5])
async def test_bytes_that_could_not_be_committed_are_not_acknowledged(
    start_server: StartServer, begun: int, size: int
) -> None:
    server = await start_server(part_size=PART, handover_timeout="100ms")
    content = random.Random(size).randbytes(4 * PART)
    upload = await server.client.create(len(content))
    await server.client.patch(upload, 0, content[:begun])
    taken = server.tap.taken
    async with server.client.connect() as connection:
        await connection.begin_patch(upload, begun, length=size)
        await connection.send(content[begun : begun + 1])
        await server.tap.took(taken + 1)
        async with database_away(server), server.tap.next_end():
            await connection.send(content[begun + 1 : begun + size])
            response = await connection.read_response()
            assert (response.status, response.code) == (503, "database_unavailable")
    found = await server.client.head(upload)
    assert (found.status, found.offset) == (200, begun)
    assert await server.find_parts(upload) == []
    assert (await server.client.patch(upload, begun, content[begun:])).offset == len(content)
    assert await server.read_object(upload) == content
    await server.parts.reaper.run()
    assert list((server.data / "tails" / "tus").iterdir()) == []


async def test_an_object_that_could_not_be_committed_is_not_acknowledged(start_server: StartServer) -> None:
    server = await start_server(handover_timeout="100ms")
    upload = await server.client.create(5)
    async with server.client.connect() as connection:
        await connection.begin_patch(upload, 0, length=5)
        await connection.send(b"hell")
        await server.tap.took(4)
        async with database_away(server), server.tap.next_end():
            await connection.send(b"o")
            assert (await connection.read_response()).status == 503
    assert (await server.client.head(upload)).offset == 0
    assert (await server.client.patch(upload, 0, b"hello")).offset == 5
    assert await server.read_object(upload) == b"hello"
    assert await server.events(upload) == ["created", "finished"]
    objects = [meta.key async for meta in server.parts.store.list()]
    assert objects == [(await server.find(upload)).key]
