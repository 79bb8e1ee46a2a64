"""What may come before a body does, and how long it may take."""

import asyncio
import contextlib

import pytest
from starlette.requests import Request

from rindle.cli.connection import MAX_HEAD
from tests.http import TUS, encode_chunk, encode_head
from tests.serving import RunningServer, StartServer

LINE = b"X: " + b"x" * 997 + b"\r\n"
START = b"POST /files HTTP/1.1\r\nHost: test.example\r\n"


@pytest.fixture
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rindle.cli.connection.HEAD_TIMEOUT_S", 0.02)


async def wait_for_a_timeout(server: RunningServer) -> None:
    """Until a connection that was opened just now has been closed for saying nothing."""
    async with server.client.connect() as silent:
        assert await silent.read_to_end() == b""


@pytest.mark.parametrize("block", [LINE, b"x" * 1000], ids=["many headers", "one header"])
async def test_a_head_without_end_is_refused(server: RunningServer, block: bytes) -> None:
    async with server.client.connect() as connection:
        await connection.send(START + b"X: ")
        for _ in range(MAX_HEAD // 1000 + 1):
            await connection.send(block)
        response = await connection.read_response()
        assert (response.status, response.code) == (431, "header_too_large")
        assert response.body.endswith(b"64 KiB.\n")
        assert await connection.read_to_end() == b""
    assert (await server.client.post(("Upload-Length", "5"))).status == 201


async def test_a_head_of_less_is_not(server: RunningServer) -> None:
    async with server.client.connect() as connection:
        for _ in range(2):  # the second head does not count with the first
            await connection.send(START + LINE * 50 + b"Tus-Resumable: 1.0.0\r\nUpload-Length: 5\r\n")
            await connection.send(b"\r\n")
            assert (await connection.read_response()).status == 201


async def test_trailers_without_end_end_the_connection_and_what_came_is_kept(server: RunningServer) -> None:
    upload = await server.client.create(10)
    async with server.tap.next_end(), server.client.connect() as connection:
        await connection.begin_patch(upload, 0, length=None)
        await connection.send(encode_chunk(b"hello") + b"0\r\n")
        await server.tap.took(5)
        with contextlib.suppress(ConnectionError):
            for _ in range(MAX_HEAD // len(LINE) + 1):
                await connection.send(LINE)
        assert b"HTTP/1.1 2" not in await connection.read_to_end()
    assert (await server.client.head(upload)).offset == 5


@pytest.mark.parametrize("begun", [b"", b"P", b"\r\n", START], ids=["nothing", "a letter", "an empty line", "a line"])
async def test_a_head_that_does_not_come_ends_the_connection(
    server: RunningServer, impatience: None, begun: bytes
) -> None:
    async with server.client.connect() as connection:
        await connection.send(begun)
        assert await connection.read_to_end() == b""


async def test_the_head_of_a_later_request_does_not_take_longer(server: RunningServer, impatience: None) -> None:
    async with server.client.connect() as connection:
        await connection.send_head("OPTIONS", "/files", [])
        assert (await connection.read_response()).status == 204
        await connection.send(START)
        assert await connection.read_to_end() == b""


async def test_a_body_may_take_its_time(server: RunningServer, impatience: None) -> None:
    upload = await server.client.create(10)
    async with server.client.connect() as connection:
        await connection.begin_patch(upload, 0, length=10)
        await wait_for_a_timeout(server)
        await connection.send(b"hello")
        await wait_for_a_timeout(server)
        await connection.send(b"world")
        assert (await connection.read_response()).offset == 10


async def test_a_head_that_comes_ahead_of_its_turn_spoils_no_answer(
    start_server: StartServer, impatience: None
) -> None:
    go_on = asyncio.Event()

    async def authorize(_: Request) -> str:
        await go_on.wait()
        return "somebody"

    server = await start_server(authorize=authorize)
    head = encode_head("HEAD", f"/files/{'0' * 32}", [TUS])
    async with server.client.connect() as connection:
        await connection.send(head + head[:20])
        await wait_for_a_timeout(server)
        await connection.send(b"")
        go_on.set()
        assert (await connection.read_response(method="HEAD")).status == 404
        await connection.send(head[20:])
        assert (await connection.read_response(method="HEAD")).status == 404
