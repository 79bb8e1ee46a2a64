"""Processes that stop, die, and share a folder."""

import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.acceptance.conftest import MIB, MakeFile, Serve, digest, object_of, settled_offset
from tests.acceptance.process import Server, eventually, running
from tests.http import OCTETS, TUS, Connection

SIZE = 3 * MIB + 999
SENT = 2 * MIB + 777


@asynccontextmanager
async def appending(server: Server, location: str, content: bytes) -> AsyncIterator[Connection]:
    """A PATCH of all of ``content`` that has stalled, its first parts committed."""
    headers = [TUS, OCTETS, ("Upload-Offset", "0"), ("Content-Length", str(len(content)))]
    async with server.client.connect() as connection:
        await connection.send_head("PATCH", location, headers)
        await connection.send(content[:SENT])
        while (await server.client.head(location)).offset < MIB:
            pass
        yield connection


async def finish(server: Server, location: str, source: Path) -> None:
    offset = await settled_offset(server, location)
    assert MIB <= offset <= SENT
    assert (await server.client.patch(location, offset, source.read_bytes()[offset:])).status == 204
    assert digest(object_of(server, location)) == digest(source)


@pytest.mark.invariant("I1", "I24")
@pytest.mark.parametrize(
    "signals", [[signal.SIGTERM], [signal.SIGINT], [signal.SIGINT] * 2], ids=["SIGTERM", "ctrl-C", "two ctrl-C"]
)
async def test_a_stop_keeps_what_arrived(serve: Serve, make_file: MakeFile, signals: list[signal.Signals]) -> None:
    server, source = await serve("--part-size", "64KiB"), make_file(SIZE)
    location = await server.client.create(SIZE)
    async with appending(server, location, source.read_bytes()) as connection:
        for number in signals:
            server.send_signal(number)
        if len(signals) == 1:
            answer = await connection.read_response()
            assert (answer.status, answer.code) == (503, "server_draining")
            assert "retry-after" in answer.headers
        assert await server.wait() == 0
    assert "stopping: uploads keep what has arrived" in server.output
    await server.start()
    await finish(server, location, source)


async def test_a_stop_with_nothing_to_do(serve: Serve) -> None:
    server = await serve()
    assert await server.terminate() == 0
    assert list((server.data / "tails" / "processes").iterdir()) == []


@pytest.mark.invariant("I1", "I3")
async def test_a_crash_is_survived_without_waiting_for_the_lease(serve: Serve, make_file: MakeFile) -> None:
    server, source = await serve("--part-size", "64KiB", "--lease-ttl", "1d"), make_file(SIZE)
    location = await server.client.create(SIZE)
    async with appending(server, location, source.read_bytes()):
        await server.kill()
    await server.start()
    await finish(server, location, source)


@pytest.mark.invariant("I1", "I3")
@pytest.mark.parametrize("end", ["cut", "crash", "stall"])
async def test_another_process_on_the_same_folder_goes_on(serve: Serve, make_file: MakeFile, end: str) -> None:
    first = await serve("--part-size", "64KiB", "--lease-ttl", "1d")
    second = await serve("--part-size", "64KiB", "--lease-ttl", "1d")
    source = make_file(SIZE)
    location = await first.client.create(SIZE)
    async with appending(first, location, source.read_bytes()) as connection:
        if end == "cut":
            connection.cut()
        elif end == "crash":
            await first.kill()
        await finish(second, location, source)
        if end == "stall":
            answer = await connection.read_response()
            assert (answer.status, answer.code) == (423, "upload_interrupted")


async def test_two_processes_that_start_together_on_a_new_folder(tmp_path: Path) -> None:
    servers = [Server(tmp_path / "new" / "data"), Server(tmp_path / "new" / "data")]
    async with running(*servers):
        location = await servers[0].client.create(3)
        assert (await servers[1].client.patch(location, 0, b"abc")).status == 204
        for server in servers:
            ready = await server.client.request("GET", "/readyz")
            assert ready.status == 200, ready.body
            assert await server.terminate() == 0
            assert "Traceback" not in server.output
    assert object_of(servers[0], location).read_bytes() == b"abc"


@pytest.mark.invariant("I1", "I11")
async def test_a_dead_process_is_cleaned_up_after(serve: Serve) -> None:
    server = await serve("--reap-interval", "1s")
    location = await server.client.create(10)
    headers = [TUS, OCTETS, ("Upload-Offset", "0"), ("Content-Length", "10")]
    tails = server.data / "tails" / "tus"
    assert (await server.client.patch(location, 0, b"12345")).status == 204
    (named,) = tails.iterdir()
    (tails / f"{named.name.partition('.')[0]}.0123456789abcdef.tail").write_bytes(b"of an attempt that no row names")
    async with server.client.connect() as connection:
        await connection.send_head("PATCH", location, headers)
        await server.kill()
    await server.start()
    await eventually(lambda: list(tails.iterdir()) == [named], "the tail that no row names is gone")
    assert len(list((server.data / "tails" / "processes").iterdir())) == 1
    assert (await server.client.patch(location, 5, b"67890")).status == 204
    assert object_of(server, location).read_bytes() == b"1234567890"


async def test_a_data_folder_of_any_name(serve: Serve, tmp_path: Path) -> None:
    server = await serve(data=tmp_path / "100% a%20b?c#d")
    location = await server.client.create(5, body=b"hello")
    assert object_of(server, location).read_bytes() == b"hello"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["100% a%20b?c#d"]
