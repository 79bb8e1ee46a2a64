"""Bodies that end early, come too slowly, or never end: what arrived is kept, and nothing else is believed."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest

from rindle.bootstrap import Components
from rindle.uploads.body import BodyPace
from tests.http import CHUNKED, OCTETS, TUS, Connection, encode_chunk
from tests.serving import RunningServer, StartServer, rebuild

PART = 64 * 1024


async def finish(server: RunningServer, upload: str, content: bytes) -> None:
    """Go on from where the server says, as clients do."""
    offset = (await server.client.head(upload)).offset
    response = await server.client.patch(upload, offset, content[offset:])
    assert (response.status, response.offset) == (204, len(content))
    assert await server.read_object(upload) == content
    assert await server.events(upload) == ["created", "finished"]


@contextlib.asynccontextmanager
async def patching(server: RunningServer, upload: str, sent: bytes, *, length: int | None) -> AsyncIterator[Connection]:
    """A PATCH in flight, of which the server has taken what was sent; left when the server is through with it."""
    before = server.tap.taken
    async with server.tap.next_end(), server.client.connect() as connection:
        await connection.begin_patch(upload, 0, length=length)
        await connection.send(encode_chunk(sent) if length is None else sent)
        await server.tap.took(before + len(sent))
        yield connection


@pytest.mark.invariant("I1")
@pytest.mark.parametrize("size", [300, PART, PART + 300, 3 * PART])
async def test_case_43_what_came_before_the_client_closed_is_kept(server: RunningServer, size: int) -> None:
    content = random.Random(43).randbytes(4 * PART)
    upload = await server.client.create(len(content))
    async with patching(server, upload, content[:size], length=len(content)) as connection:
        await connection.finish()
        assert await connection.read_to_end() == b""
    assert (await server.client.head(upload)).offset == size
    await finish(server, upload, content)


@pytest.mark.invariant("I1")
@pytest.mark.parametrize("size", [300, PART, PART + 300, 3 * PART])
@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_case_44_what_came_before_a_reset_is_kept(server: RunningServer, size: int, framing: str) -> None:
    content = random.Random(44).randbytes(4 * PART)
    upload = await server.client.create(len(content))
    length = len(content) if framing == "length" else None
    async with patching(server, upload, content[:size], length=length) as connection:
        connection.cut()
    assert (await server.client.head(upload)).offset == size
    await finish(server, upload, content)


async def test_who_announces_1000_bytes_and_closes_after_300_has_at_most_300(server: RunningServer) -> None:
    content = random.Random(1000).randbytes(1000)
    upload = await server.client.create(1000)
    async with server.tap.next_end(), server.client.connect() as connection:
        await connection.begin_patch(upload, 0, length=1000)
        await connection.send(content[:300])
        await connection.finish()
    found = await server.client.head(upload)
    assert found.status == 200
    assert found.offset <= 300
    await finish(server, upload, content)


async def test_a_chunked_body_without_its_end_is_not_at_its_end(server: RunningServer) -> None:
    upload = await server.client.create(None)
    async with patching(server, upload, b"hello", length=None) as connection:
        await connection.finish()
    found = await server.client.head(upload)
    assert (found.offset, found.headers["upload-defer-length"]) == (5, "1")
    assert await server.events(upload) == ["created"]


@pytest.mark.invariant("I3", "I5")
async def test_bytes_kept_twice_over_many_cuts_are_the_bytes_sent(server: RunningServer) -> None:
    chance = random.Random(7)
    content = chance.randbytes(3 * PART)
    upload = await server.client.create(len(content))
    offset = 0
    while offset < len(content) - 1:
        size = min(chance.randrange(PART // 2), len(content) - 1 - offset) or 1
        before = server.tap.taken
        async with server.tap.next_end(), server.client.connect() as connection:
            await connection.begin_patch(upload, offset, length=len(content) - offset)
            await connection.send(content[offset : offset + size])
            await server.tap.took(before + size)
            connection.cut()
        offset = (await server.client.head(upload)).offset
    assert offset == len(content) - 1
    await finish(server, upload, content)


async def test_case_45_a_body_that_stalls_is_ended_and_what_came_is_kept(start_server: StartServer) -> None:
    server = await start_server(idle_timeout="100ms", part_size=PART)
    content = random.Random(45).randbytes(PART + 600)
    upload = await server.client.create(len(content))
    async with patching(server, upload, content[: PART + 300], length=len(content)) as connection:
        response = await connection.read_response()
        assert (response.status, response.code) == (503, "read_timeout")
        assert response.headers["connection"] == "close"
        assert int(response.headers["retry-after"]) > 0
        assert await connection.read_to_end() == b""
    assert (await server.client.head(upload)).offset == PART + 300
    await finish(server, upload, content)


def slow_pace(parts: Components) -> Components:
    pace = BodyPace(idle_timeout=timedelta(seconds=20), min_rate=1000, rate_window=timedelta(milliseconds=200))
    return rebuild(parts, options=replace(parts.engine.options, pace=pace))


async def test_a_body_that_drips_is_ended_and_what_came_is_kept(start_server: StartServer) -> None:
    server = await start_server(change=slow_pace)
    content = random.Random(27).randbytes(1000)
    upload = await server.client.create(1000)
    async with server.tap.next_end(), server.client.connect() as connection:
        await connection.begin_patch(upload, 0, length=1000)
        answering = asyncio.create_task(connection.read_response())
        sent = 0
        while not answering.done() and sent < 1000:
            await connection.send(content[sent : sent + 1])
            sent += 1
            await asyncio.wait([answering], timeout=0.02)
        response = await answering
    assert (response.status, response.code) == (503, "read_timeout")
    offset = (await server.client.head(upload)).offset
    assert 0 < offset <= sent < 1000
    await finish(server, upload, content)


async def test_a_body_that_is_awaited_for_ever_is_ended_too(start_server: StartServer) -> None:
    server = await start_server(idle_timeout="100ms")
    upload = await server.client.create(10)
    async with server.client.connect() as connection:
        await connection.begin_patch(upload, 0, length=10)
        assert (await connection.read_response()).code == "read_timeout"
    async with server.client.connect() as connection:
        await connection.send_head("POST", "/files", [TUS, OCTETS, ("Upload-Length", "10"), CHUNKED])
        response = await connection.read_response()
        assert (response.status, response.code) == (503, "read_timeout")
        assert (await server.client.head(response.location)).offset == 0


@pytest.mark.invariant("I3", "I4")
async def test_case_83_of_twenty_bodies_at_one_offset_one_counts_and_none_are_mixed(server: RunningServer) -> None:
    size = 2 * PART + 100
    upload = await server.client.create(size)
    bodies = [bytes([fill]) * size for fill in range(1, 21)]
    responses = await asyncio.gather(*(server.client.patch(upload, 0, body) for body in bodies))
    statuses = [response.status for response in responses]
    assert statuses.count(204) == 1
    assert set(statuses) <= {204, 409, 413, 423}
    winner = bodies[statuses.index(204)]
    assert await server.read_object(upload) == winner
    assert await server.events(upload) == ["created", "finished"]


@pytest.mark.invariant("I3", "I4")
async def test_twenty_tails_at_one_offset_are_never_mixed(server: RunningServer) -> None:
    upload = await server.client.create(1000)
    await server.client.patch(upload, 0, b"begin")
    bodies = [bytes([fill]) * 100 for fill in range(1, 21)]
    responses = await asyncio.gather(*(server.client.patch(upload, 5, body) for body in bodies))
    statuses = [response.status for response in responses]
    assert statuses.count(204) == 1
    assert set(statuses) <= {204, 409, 423}
    assert (await server.client.head(upload)).offset == 105
    rest = b"x" * 895
    assert (await server.client.patch(upload, 105, rest)).status == 204
    assert await server.read_object(upload) == b"begin" + bodies[statuses.index(204)] + rest
