"""How an upload changes hands between processes on PostgreSQL that never poll: only a signal can make them look."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import NoReturn

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from rindle.bootstrap import Components, open_components
from rindle.db.engine import Database, DatabaseOptions
from rindle.db.listening import Listener
from rindle.db.repository import SqlUploadRepository
from rindle.errors import ConfigurationError
from rindle.settings import Settings
from rindle.testing.repository import EXPIRES_IN, LEASE_TTL, Heard, claim_of, get, new_upload
from rindle.uploads.body import BodyPace, BodyReader
from rindle.uploads.commands import AppendBytes
from rindle.uploads.errors import ReleaseRequestedError
from rindle.uploads.leases import Handover, LeaseOptions, Leases
from rindle.uploads.model import Upload
from rindle.uploads.node import NodeIdentity
from tests.postgres import PostgresServer, connections_refused, find_processes, terminate
from tests.serving import PATIENCE, StartServer, rebuild

ROOT = Path(__file__).parents[3]
LISTENER = "rindle-listener"
NEVER = timedelta(days=1)
UNPOLLED = LeaseOptions(ttl=3 * NEVER, handover_timeout=NEVER, quiet_after=timedelta(0), poll_interval=NEVER)

pytestmark = pytest.mark.timeout(60)


@dataclass(frozen=True)
class Process:
    """What hands over and what waits, of one process."""

    repository: SqlUploadRepository
    leases: Leases

    @asynccontextmanager
    async def holding(self, upload: Upload) -> AsyncIterator["Holding"]:
        """Hold the lease of an upload with a body that brings nothing, until it is stopped."""
        held = Holding(self, claim_of(upload).token)
        async with self.leases.hold(upload.id, held.token, held.body):
            claimed = await self.repository.claim(claim_of(upload, token=held.token))
            assert claimed is not None
            held.upload = claimed
            yield held

    async def hears(self) -> None:
        """Wait until this process would hear what others signal."""
        while not self.leases._live:  # noqa: ASYNC110 - to wait for it is what leases have no use for
            await asyncio.sleep(0.001)


class Holding:
    upload: Upload

    def __init__(self, process: Process, token: str) -> None:
        self.token = token
        self.body = BodyReader(_never, declared=10, pace=BodyPace(idle_timeout=NEVER))
        self._process = process

    async def let_go_when_asked(self) -> None:
        assert await self.body.read() is None
        assert isinstance(self.body.ended, ReleaseRequestedError)
        await self.let_go()

    async def let_go(self) -> None:
        await self._process.repository.commit(self.upload, replace(self.upload, lease=None))


StartProcess = Callable[..., Awaitable[Process]]


@pytest.fixture
async def start_process(any_postgres_url: str, tmp_path: Path) -> AsyncIterator[StartProcess]:
    async with AsyncExitStack() as stack:

        async def start(name: str, options: LeaseOptions = UNPOLLED, *, listening: bool = True) -> Process:
            database = Database(any_postgres_url, DatabaseOptions(application_name=name))
            stack.push_async_callback(database.aclose)
            # Connections that are there when the database lets in no more.
            await asyncio.gather(*(database.read(text("SELECT pg_sleep(0.02)")) for _ in range(3)))
            listener = Listener(any_postgres_url, database) if listening else None
            repository = SqlUploadRepository(database, lease_ttl=LEASE_TTL, expires_in=EXPIRES_IN, listener=listener)
            node = NodeIdentity(tmp_path / name)
            stack.callback(node.close)
            leases = Leases(repository, node, options)
            stack.push_async_callback(leases.aclose)
            return Process(repository, leases)

        yield start


async def test_who_is_asked_lets_go_at_once_and_who_waits_goes_on_at_once(start_process: StartProcess) -> None:
    holder, newcomer = await start_process("holder"), await start_process("newcomer")
    upload = await holder.repository.add(new_upload())
    async with newcomer.leases.hold("any", "any"), asyncio.timeout(PATIENCE):
        for _ in range(3):
            async with holder.holding(upload) as held:
                letting_go = asyncio.create_task(held.let_go_when_asked())
                assert await newcomer.leases.wait_for(held.upload) is Handover.FREE
                await letting_go
            upload = await get(newcomer.repository, upload)
            assert upload.lease is None


async def test_all_who_wait_go_on_at_once(start_process: StartProcess) -> None:
    holder, *newcomers = [await start_process(name) for name in ("holder", "one", "two")]
    upload = await holder.repository.add(new_upload())
    async with AsyncExitStack() as stack, asyncio.timeout(PATIENCE):
        for newcomer in newcomers:
            await stack.enter_async_context(newcomer.leases.hold("any", "any"))
        async with holder.holding(upload) as held:
            waits = [newcomer.leases.wait_for(held.upload) for newcomer in newcomers for _ in range(2)]
            waiting = asyncio.gather(*waits)
            await held.let_go_when_asked()
            assert await waiting == [Handover.FREE] * 4


async def test_who_is_at_work_says_so_and_keeps_the_upload(start_process: StartProcess) -> None:
    holder = await start_process("holder", replace(UNPOLLED, quiet_after=NEVER))
    impatient = replace(UNPOLLED, handover_timeout=timedelta(seconds=1), poll_interval=timedelta(milliseconds=50))
    newcomer = await start_process("newcomer", impatient)
    upload = await holder.repository.add(new_upload())
    async with holder.holding(upload) as held, asyncio.timeout(PATIENCE):
        await holder.hears()
        assert await newcomer.leases.wait_for(held.upload) is Handover.BUSY
        assert held.body.ended is None


async def test_a_request_that_was_not_heard_is_found_when_the_connection_is_back(
    start_process: StartProcess, any_postgres_url: str, postgres_server: PostgresServer
) -> None:
    holder, newcomer = await start_process("holder"), await start_process("newcomer")
    upload = await holder.repository.add(new_upload())
    async with newcomer.leases.hold("any", "any"), holder.holding(upload) as held, asyncio.timeout(PATIENCE):
        await holder.hears()
        await newcomer.hears()
        letting_go = asyncio.create_task(held.let_go_when_asked())
        with connections_refused(postgres_server, any_postgres_url):
            terminate(postgres_server, any_postgres_url, LISTENER)
            waiting = asyncio.create_task(newcomer.leases.wait_for(held.upload))
            while not (await get(holder.repository, upload)).lease.release_requested:  # type: ignore[union-attr]
                pass
            assert not letting_go.done()
        await letting_go
        assert await waiting is Handover.FREE


async def test_a_release_that_was_not_heard_is_found_when_the_connection_is_back(
    start_process: StartProcess, any_postgres_url: str, postgres_server: PostgresServer
) -> None:
    holder, newcomer = await start_process("holder"), await start_process("newcomer")
    upload = await holder.repository.add(new_upload())
    async with newcomer.leases.hold("any", "any"), holder.holding(upload) as held, asyncio.timeout(PATIENCE):
        await newcomer.hears()
        waiting = asyncio.create_task(newcomer.leases.wait_for(held.upload))
        assert await held.body.read() is None
        with connections_refused(postgres_server, any_postgres_url):
            terminate(postgres_server, any_postgres_url, LISTENER)
            await held.let_go()
            assert not waiting.done()
        assert await waiting is Handover.FREE


async def test_who_hears_nothing_polls(start_process: StartProcess) -> None:
    polling = replace(UNPOLLED, poll_interval=timedelta(milliseconds=10))
    holder, newcomer = [await start_process(name, polling, listening=False) for name in ("holder", "newcomer")]
    upload = await holder.repository.add(new_upload())
    async with holder.holding(upload) as held, asyncio.timeout(PATIENCE):
        letting_go = asyncio.create_task(held.let_go_when_asked())
        assert await newcomer.leases.wait_for(held.upload) is Handover.FREE
        await letting_go


# Whole processes

_HOLDER = """
import asyncio, sys
from tests.integration.uploads.test_handover import append_and_stall
asyncio.run(append_and_stall(*sys.argv[1:]))
"""


def never_polling(parts: Components) -> Components:
    return rebuild(parts, options=replace(parts.engine.options, leases=UNPOLLED))


async def append_and_stall(data: str, database: str, store: str, upload_id: str, owner: str) -> None:
    """In a process of its own: append the first half, then bring nothing, and say how that ended."""
    chunks = iter([b"hello"])

    async def read_chunk() -> bytes:
        for chunk in chunks:
            return chunk
        print("stalled", flush=True)  # noqa: T201
        return await _never()

    settings = Settings(data=Path(data), database=SecretStr(database), store=store, tail_durability="object")
    async with open_components(settings) as parts:
        engine = never_polling(parts).engine
        body = BodyReader(read_chunk, declared=10, pace=BodyPace())
        try:
            await engine.append(AppendBytes(upload_id=upload_id, owner=owner, offset=0, body_length=10), body)
        except ReleaseRequestedError:
            print("let go", flush=True)  # noqa: T201
        await engine.aclose()


async def test_an_upload_goes_from_one_process_to_another_at_once(
    start_server: StartServer, postgres_url: str, tmp_path: Path
) -> None:
    another_driver = postgres_url.replace("psycopg", "asyncpg")
    store = (tmp_path / "objects").as_uri()
    server = await start_server(database=postgres_url, store=store, tail_durability="object", change=never_polling)
    location = await server.client.create(10)
    upload = await server.find(location)
    holder = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-c", _HOLDER),
        *(str(tmp_path / "other"), another_driver, store, upload.id, upload.owner),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    assert holder.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE):
            assert await holder.stdout.readline() == b"stalled\n"
            early = await server.client.patch(location, 0, b"helloworld")
            assert (early.status, early.offset) == (409, 5)
            assert (await server.client.patch(location, 5, b"world")).status == 204
            output, errors = await holder.communicate()
            assert (output, errors.decode()) == (b"let go\n", "")
    finally:
        if holder.returncode is None:
            holder.kill()
            await holder.wait()
    assert await server.read_object(location) == b"helloworld"


@pytest.mark.parametrize("past_the_pooler", [False, True])
async def test_a_process_listens_on_one_connection_where_it_is_told(
    start_server: StartServer, any_postgres_url: str, postgres_server: PostgresServer, *, past_the_pooler: bool
) -> None:
    direct = any_postgres_url.replace("asyncpg", "psycopg") + "&application_name=direct"
    server = await start_server(database=any_postgres_url, database_listen=direct if past_the_pooler else None)
    for _ in range(2):
        upload = await server.client.create(10)
        assert (await server.client.patch(upload, 0, b"helloworld")).status == 204

    async def become(*expected: int) -> None:
        while expected != tuple(count(name) for name in (LISTENER, "direct")):  # noqa: ASYNC110 - they come unsaid
            await asyncio.sleep(0.001)

    def count(name: str) -> int:
        return len(find_processes(postgres_server, any_postgres_url, name))

    async with asyncio.timeout(PATIENCE):
        await become(*((0, 1) if past_the_pooler else (1, 0)))
        await server.parts.engine.aclose()
        await become(0, 0)


async def test_a_process_need_not_listen(start_server: StartServer, postgres_url: str) -> None:
    server = await start_server(database=postgres_url, database_listen="off")
    async with asyncio.timeout(PATIENCE):
        await server.parts.repository.listen(Heard())


@pytest.mark.parametrize(
    ("database", "listen", "message"),
    [
        ("sqlite://", "postgresql://h/d", "nothing is heard through SQLite"),
        ("postgresql://h/d", "sqlite://", "nothing is heard through SQLite"),
        ("postgresql://h/d", "on", "not a database that rindle can use"),
    ],
)
async def test_what_cannot_be_listened_to_is_refused_at_start(
    tmp_path: Path, database: str, listen: str, message: str
) -> None:
    settings = Settings(data=tmp_path, database=SecretStr(database), database_listen=SecretStr(listen))
    with pytest.raises(ConfigurationError, match=f"^database_listen: {message}"):
        async with open_components(settings):
            pass


async def _never() -> NoReturn:
    await asyncio.Event().wait()
    raise AssertionError
