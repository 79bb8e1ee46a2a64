"""A PostgreSQL that is down, hangs, fails over, is full, or takes no more connections: said, and nothing is lost."""

import asyncio
import logging
import os
import random
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest

from tests.http import OCTETS, Response
from tests.postgres import PostgresServer
from tests.required import missing
from tests.serving import RunningServer, StartServer

PART = 64 * 1024
CONTENT = random.Random(5).randbytes(3 * PART + 5)
SOON = "&options=-c%20statement_timeout%3D600%20-c%20lock_timeout%3D400"
"""For the URL of a database: statements that hang are ended soon."""


@pytest.fixture(autouse=True)
def an_outage_is_no_error_of_ours(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


@pytest.fixture
def name(postgres_url: str) -> str:
    return postgres_url.partition("@/")[2].partition("?")[0]


@pytest.fixture
async def server(start_server: StartServer, postgres_url: str) -> RunningServer:
    return await start_server(database=postgres_url + SOON, part_size=PART, handover_timeout="100ms")


def cut_connections(postgres: PostgresServer, name: str) -> None:
    """End all of rindle's, and wait until they are gone."""
    postgres.execute(
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
        " WHERE application_name = 'rindle' AND datname = current_database()",
        database=name,
    )


def assert_busy(response: Response, *, head: bool = False) -> None:
    """Told to come back, in words that keep clients from starting anew."""
    assert response.status == (423 if head else 503), response
    assert response.code in {"database_unavailable", "upload_locked"}
    assert int(response.headers["retry-after"]) > 0


async def assert_finished(server: RunningServer, upload: str, offset: int) -> None:
    found = await server.client.head(upload)
    assert (found.status, found.offset) == (200, offset)
    done = await server.client.patch(upload, offset, CONTENT[offset:])
    assert (done.status, done.offset) == (204, len(CONTENT))
    assert await server.read_object(upload) == CONTENT
    assert await server.events(upload) == ["created", "finished"]
    await server.parts.reaper.run()
    assert [meta.key async for meta in server.parts.store.list()] == [(await server.find(upload)).key]
    assert [multipart async for multipart in server.parts.store.list_multiparts()] == []


# Down


@contextmanager
def down(postgres: PostgresServer, name: str) -> Iterator[None]:
    postgres.execute("ALTER DATABASE {} ALLOW_CONNECTIONS false", name)
    postgres.execute(f"SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = '{name}'")
    try:
        yield
    finally:
        postgres.execute("ALTER DATABASE {} ALLOW_CONNECTIONS true", name)


@pytest.mark.invariant("I1", "I12", "I14")
async def test_without_a_database_a_head_is_423_and_everything_else_503(
    server: RunningServer, postgres_server: PostgresServer, name: str
) -> None:
    upload = await server.client.create(len(CONTENT))
    assert (await server.client.patch(upload, 0, CONTENT[: PART + 10])).offset == PART + 10
    with down(postgres_server, name):
        assert_busy(await server.client.head(upload), head=True)
        assert_busy(await server.client.patch(upload, PART + 10, CONTENT[PART + 10 :]))
        assert_busy(await server.client.post(("Upload-Length", "5")))
        assert_busy(await server.client.post(("Upload-Length", "5"), OCTETS, body=b"hello"))
        assert_busy(await server.client.delete(upload))
        ready = await server.client.request("GET", "/readyz", [], tus=False)
        assert (ready.status, b"database_unavailable" in ready.body) == (503, True)
    await assert_finished(server, upload, PART + 10)


@pytest.mark.invariant("I1", "I12")
@pytest.mark.parametrize("sent", [PART + 20, len(CONTENT)], ids=["a part", "all"])
async def test_a_database_that_goes_down_under_a_body_costs_nothing_that_was_acknowledged(
    server: RunningServer, postgres_server: PostgresServer, name: str, sent: int
) -> None:
    upload = await server.client.create(len(CONTENT))
    assert (await server.client.patch(upload, 0, CONTENT[:10])).offset == 10
    taken = server.tap.taken
    async with server.client.connect() as connection:
        await connection.begin_patch(upload, 10, length=sent - 10)
        await connection.send(CONTENT[10:11])
        await server.tap.took(taken + 1)
        with down(postgres_server, name):
            async with server.tap.next_end():
                await connection.send(CONTENT[11:sent])
                assert_busy(await connection.read_response())
    await assert_finished(server, upload, 10)


# Failing over


@asynccontextmanager
async def failing_over(postgres: PostgresServer, name: str) -> AsyncIterator[None]:
    """All connections are cut; who comes back meets a server that takes no writes, until it is promoted."""
    postgres.execute("ALTER DATABASE {} SET default_transaction_read_only = on", name)
    cut_connections(postgres, name)
    try:
        yield
    finally:
        postgres.execute("ALTER DATABASE {} RESET default_transaction_read_only", name)


@pytest.mark.invariant("I1", "I12")
async def test_a_failover_is_told_and_uploads_go_on_after_it(
    server: RunningServer, postgres_server: PostgresServer, name: str
) -> None:
    upload = await server.client.create(len(CONTENT))
    assert (await server.client.patch(upload, 0, CONTENT[: PART + 10])).offset == PART + 10
    taken = server.tap.taken
    async with server.client.connect() as connection:
        await connection.begin_patch(upload, PART + 10, length=len(CONTENT) - PART - 10)
        await connection.send(CONTENT[PART + 10 : PART + 11])
        await server.tap.took(taken + 1)
        async with failing_over(postgres_server, name):
            async with server.tap.next_end():
                await connection.send(CONTENT[PART + 11 :])
                assert_busy(await connection.read_response())
            # What only reads may be answered, and truly.
            for _ in range(3):
                found = await server.client.head(upload)
                assert found.status == 423 or (found.status, found.offset) == (200, PART + 10)
            for _ in range(3):
                assert_busy(await server.client.patch(upload, PART + 10, b"x"))
                assert_busy(await server.client.post(("Upload-Length", "5")))
    # A connection that was made before the promotion is not one that takes writes.
    while (response := await server.client.post(("Upload-Length", "5"))).status != 201:
        assert_busy(response)
    await assert_finished(server, upload, PART + 10)


# Slow


@contextmanager
def locked(postgres_url: str, statement: LiteralString, *parameters: str) -> Iterator[None]:
    """Somebody else is in the middle of a transaction."""
    with psycopg.connect(postgres_url.replace("+psycopg", "")) as connection:
        connection.execute(statement, parameters)
        yield
        connection.rollback()


@pytest.mark.long
@pytest.mark.invariant("I12")
async def test_an_upload_whose_row_hangs_holds_up_no_other(start_server: StartServer, postgres_url: str) -> None:
    server = await start_server(database=postgres_url + SOON, part_size=PART, database_pool_size=3)
    stuck = await server.client.create(len(CONTENT))
    others = [await server.client.create(len(CONTENT)) for _ in range(4)]
    row = "SELECT 1 FROM rindle_uploads WHERE id = %s FOR UPDATE"
    with locked(postgres_url, row, stuck.rpartition("/")[2]):
        many = asyncio.gather(*(server.client.patch(stuck, 0, CONTENT) for _ in range(9)))
        for upload in others:
            assert (await server.client.patch(upload, 0, CONTENT)).offset == len(CONTENT)
        for response in await many:
            assert response.status in {423, 503}
            assert int(response.headers["retry-after"]) > 0
        assert (await server.client.head(stuck)).offset == 0
    assert (await server.client.patch(stuck, 0, CONTENT)).offset == len(CONTENT)
    assert await server.read_object(stuck) == CONTENT


@pytest.mark.long
@pytest.mark.invariant("I12")
async def test_statements_that_hang_come_to_an_end(server: RunningServer, postgres_url: str) -> None:
    upload = await server.client.create(len(CONTENT))
    assert (await server.client.patch(upload, 0, CONTENT[:10])).offset == 10
    with locked(postgres_url, "LOCK TABLE rindle_uploads IN ACCESS EXCLUSIVE MODE"):
        assert_busy(await server.client.head(upload), head=True)
        assert_busy(await server.client.patch(upload, 10, CONTENT[10:]))
        assert_busy(await server.client.post(("Upload-Length", "5")))
        assert_busy(await server.client.delete(upload))
    await assert_finished(server, upload, 10)


# No more connections


@pytest.fixture
def limited_url(postgres_server: PostgresServer, postgres_url: str, name: str) -> Iterator[str]:
    """The database as somebody who may have three connections."""
    role = f"limited_{name}"
    postgres_server.execute("CREATE ROLE {} LOGIN CONNECTION LIMIT 3", role)
    for kind in ("TABLES", "SEQUENCES"):
        postgres_server.execute(f"GRANT ALL ON ALL {kind} IN SCHEMA public TO {{}}", role, database=name)
    yield postgres_url.replace("postgres@", f"{role}@")
    postgres_server.execute("DROP OWNED BY {}", role, database=name)
    postgres_server.execute("DROP ROLE {}", role)


@pytest.mark.long
@pytest.mark.invariant("I12")
async def test_a_database_that_takes_no_more_connections_is_busy(start_server: StartServer, limited_url: str) -> None:
    server = await start_server(database=limited_url, part_size=PART, database_pool_size=20)
    uploads = [await server.client.create(len(CONTENT)) for _ in range(30)]
    answers = await asyncio.gather(*(server.client.patch(upload, 0, CONTENT) for upload in uploads))
    refused = [answer for answer in answers if answer.status != 204]
    assert refused
    for answer in refused:
        assert_busy(answer)
    for upload in uploads:
        found = await server.client.head(upload)
        if found.status == 200 and found.offset == len(CONTENT):
            continue
        offset = found.offset if found.status == 200 else 0
        assert (await server.client.patch(upload, offset, CONTENT[offset:])).offset == len(CONTENT)
    for upload in uploads:
        assert await server.read_object(upload) == CONTENT


# Full


@pytest.fixture
def small_tablespace(postgres_server: PostgresServer, name: str) -> Iterator[Path]:
    """A file system of a few MiB that holds the table of uploads."""
    disk = postgres_server.folder / f"small_{name}"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "rindle-test", str(disk)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        missing("tmpfs", "no file system can be mounted here: a full database stays untested")
    try:
        folder = disk / "table"
        folder.mkdir()
        shutil.chown(folder, postgres_server.folder.owner())
        postgres_server.execute(f"CREATE TABLESPACE {{}} LOCATION '{folder}'", disk.name)
        postgres_server.execute("ALTER TABLE rindle_uploads SET TABLESPACE {}", disk.name, database=name)
        yield disk
        postgres_server.execute("ALTER TABLE rindle_uploads SET TABLESPACE pg_default", database=name)
        postgres_server.execute("DROP TABLESPACE {}", disk.name)
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


@pytest.mark.invariant("I1", "I12")
async def test_a_database_without_room_is_said_and_used_again_when_it_has_some(
    small_tablespace: Path, server: RunningServer
) -> None:
    upload = await server.client.create(len(CONTENT))
    assert (await server.client.patch(upload, 0, CONTENT[: PART + 10])).offset == PART + 10
    ballast = small_tablespace / "ballast"
    free = os.statvfs(small_tablespace)
    ballast.write_bytes(bytes(free.f_bavail * free.f_frsize))
    metadata = ("Upload-Metadata", f"a {'YWFh' * 1500}")
    while (response := await server.client.post(("Upload-Length", "5"), metadata)).status == 201:
        pass  # there is room on the last page yet
    assert response.status in {503, 507}
    assert int(response.headers["retry-after"]) > 0
    found = await server.client.head(upload)
    assert (found.status, found.offset) == (200, PART + 10)
    ballast.unlink()
    assert (await server.client.post(("Upload-Length", "5"), metadata)).status == 201
    found = await server.client.head(upload)
    assert (await server.client.patch(upload, found.offset, CONTENT[found.offset :])).offset == len(CONTENT)
    assert await server.read_object(upload) == CONTENT
