"""What a server takes for many bodies at once is what it was given for them."""

import asyncio

import pytest

from tests.acceptance.conftest import MIB, Serve
from tests.acceptance.process import Server
from tests.http import Connection

SIZE = 4 * MIB
BUDGET = 48 * MIB
BESIDES = 16 * MIB
"""For connections, rows and requests, and for what the allocator cannot use again."""


@pytest.mark.invariant("I16")
@pytest.mark.long
@pytest.mark.parametrize("count", [40, 120])
async def test_many_bodies_at_once_take_the_memory_of_the_budget(serve: Serve, count: int) -> None:
    server = await serve("--part-size", "8MiB", "--memory-budget", str(BUDGET))
    content = bytes(SIZE)
    await asyncio.gather(*(upload(server, content[: MIB // 4]) for _ in range(count)))
    before = peak(server)
    locations = await asyncio.gather(*(upload(server, content) for _ in range(count)))
    assert peak(server) - before < BUDGET + BESIDES
    assert {(await server.client.head(location)).offset for location in locations} == {SIZE}


async def upload(server: Server, content: bytes) -> str:
    location = await server.client.create(len(content))
    async with server.client.connect() as connection:
        await connection.begin_patch(location, 0, length=len(content))
        await send(connection, content)
        assert (await connection.read_response()).status == 204
    return location


async def send(connection: Connection, content: bytes) -> None:
    for start in range(0, len(content), MIB // 4):
        await connection.send(content[start : start + MIB // 4])


def peak(server: Server) -> int:
    server.note_memory()
    return server.peak_rss
