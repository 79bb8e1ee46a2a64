"""The database is away: nothing is acknowledged, nobody is sent back to byte 0, and it all goes on when it is back."""

import contextlib
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import AsyncAdaptedQueuePool

from rindle.objectstore.ext import read
from tests.http import OCTETS
from tests.serving import RunningServer, RunServer, StartServer

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


@pytest.mark.invariant("I3", "I4")
@pytest.mark.parametrize("begun", [5, PART, PART + 5])
@pytest.mark.parametrize("then", [2 * PART, 2 * PART + 7, 3 * PART + 5], ids=["parts", "a tail", "all"])
async def test_records_that_fell_back_to_an_older_state_bend_nothing(
    run_server: RunServer, tmp_path: Path, begun: int, then: int
) -> None:
    """As after a failover to a replica that was behind. The offset falls with them; the bytes do not change."""
    data = tmp_path / "data"
    content = random.Random(then).randbytes(3 * PART + 5)
    async with run_server(part_size=PART) as server:
        upload = await server.client.create(len(content))
        assert (await server.client.patch(upload, 0, content[:begun])).offset == begun
    older = sqlite_files(data)
    async with run_server(part_size=PART) as server:
        assert (await server.client.patch(upload, begun, content[begun:then])).offset == then
    for path in data.glob("rindle.db*"):
        path.unlink()
    for name, content_ in older.items():
        (data / name).write_bytes(content_)
    async with run_server(part_size=PART) as server:
        found = await server.client.head(upload)
        assert (found.status, found.offset) == (200, begun)
        again = await server.client.patch(upload, begun, content[begun:])
        if again.status == 204:
            assert await server.read_object(upload) == content
            return
        # What the records name is not there any more: said, and whatever object stands is left as it is.
        assert (again.status, again.code) in {(410, "tus_tail_missing"), (503, "multipart_not_found")}
        objects = [meta.key async for meta in server.parts.store.list("uploads/")]
        assert [await read(server.parts.store, key) for key in objects] == ([content] if then == len(content) else [])


def sqlite_files(data: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in data.glob("rindle.db*")}
