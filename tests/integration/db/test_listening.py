"""The connection that listens: how it is lost, found out to be of no use, made anew, and closed."""

import asyncio
import gc
import logging
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from rindle.db.engine import Database, DatabaseOptions
from rindle.db.listening import Listener
from rindle.db.repository import SqlUploadRepository
from rindle.errors import ConfigurationError
from rindle.testing.repository import EXPIRES_IN, LEASE_TTL, Heard, claimed, listening, new_upload
from rindle.uploads.model import Upload
from rindle.uploads.ports import LeaseSignal
from tests.postgres import PostgresServer, connections_refused, find_processes, name_of, terminate

LISTENER = "rindle-listener"

pytestmark = pytest.mark.timeout(30)  # where nothing is heard, tests wait for ever


@pytest.fixture
async def database(any_postgres_url: str) -> AsyncIterator[Database]:
    database = Database(any_postgres_url)
    yield database
    await database.aclose()


@pytest.fixture
def repository(database: Database, any_postgres_url: str) -> SqlUploadRepository:
    return repository_on(database, any_postgres_url)


def repository_on(database: Database, url: str) -> SqlUploadRepository:
    listener = Listener(url, database)
    return SqlUploadRepository(database, lease_ttl=LEASE_TTL, expires_in=EXPIRES_IN, listener=listener)


async def ask(repository: SqlUploadRepository) -> Upload:
    held = await claimed(repository, await repository.add(new_upload()), token="mine")
    await repository.request_release(held.id, "mine")
    return held


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.levelname for record in caplog.records if record.name == "rindle.db"]


async def test_who_lost_the_connection_hears_again_and_says_both_once(
    repository: SqlUploadRepository,
    any_postgres_url: str,
    postgres_server: PostgresServer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    async with listening(repository) as heard:
        assert logged(caplog) == []
        for times in (1, 2):
            terminate(postgres_server, any_postgres_url, LISTENER)
            await heard.next_live()
            assert logged(caplog) == ["WARNING", "INFO"] * times

        upload = await ask(repository)
        assert await heard.next() == (LeaseSignal.REQUESTED, upload.id)


async def test_a_server_that_lets_nobody_in_is_tried_again_and_complained_of_once(
    repository: SqlUploadRepository,
    any_postgres_url: str,
    postgres_server: PostgresServer,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("rindle.db.listening._LEAST_PAUSE_S", 0.001)
    heard = Heard()
    with connections_refused(postgres_server, any_postgres_url), attempts() as tried:
        task = asyncio.create_task(repository.listen(heard))
        for _ in range(4):
            await tried.get()
        assert not heard.live
        assert logged(caplog) == ["WARNING"]
    await heard.next_live()
    assert logged(caplog) == ["WARNING", "INFO"]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_server_that_is_not_there_is_no_reason_to_end(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = database.url.set(query={"host": str(tmp_path)}).render_as_string()
    heard = Heard()
    with attempts() as tried:
        task = asyncio.create_task(repository_on(database, url).listen(heard))
        for _ in range(2):
            await tried.get()
    assert logged(caplog) == ["WARNING"]
    assert not heard.live
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()


async def test_who_does_not_hear_himself_does_not_count_as_listening(
    database: Database,
    postgres_server: PostgresServer,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """LISTEN is answered, and what others say may come, but nothing of one's own: so it is behind some poolers."""
    monkeypatch.setattr("rindle.db.listening._ECHO_EVERY_S", 0.001)
    monkeypatch.setattr("rindle.db.listening._ECHO_WITHIN_S", 0.5)
    with postgres_server.database(migrated=False) as name:
        elsewhere = database.url.set(database=name).render_as_string()
        another = Database(elsewhere)
        heard = Heard()
        async with listening(repository_on(another, elsewhere)):
            with attempts() as tried:
                task = asyncio.create_task(repository_on(database, elsewhere).listen(heard))
                for _ in range(2):
                    await tried.get()
            assert logged(caplog) == ["WARNING"]
            assert "set database_listen" in caplog.text
            assert not heard.live
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await another.aclose()


async def test_a_connection_that_fell_silent_is_found_out(
    repository: SqlUploadRepository,
    any_postgres_url: str,
    postgres_server: PostgresServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As if the network had forgotten it, or the server were frozen: it is open, and nothing comes."""
    monkeypatch.setattr("rindle.db.listening._ECHO_EVERY_S", 0.01)
    monkeypatch.setattr("rindle.db.listening._ECHO_WITHIN_S", 0.5)
    async with listening(repository) as heard:
        (process,) = find_processes(postgres_server, any_postgres_url, LISTENER)
        os.kill(process, signal.SIGSTOP)
        try:
            await heard.next_live()
            upload = await ask(repository)
            assert await heard.next() == (LeaseSignal.REQUESTED, upload.id)
        finally:
            os.kill(process, signal.SIGCONT)


async def test_where_nothing_can_be_sent_for_a_while_what_is_heard_still_counts(
    repository: SqlUploadRepository,
    any_postgres_url: str,
    postgres_server: PostgresServer,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("rindle.db.listening._ECHO_EVERY_S", 0.01)
    other = Database(any_postgres_url, DatabaseOptions(application_name="other"))
    upload = await claimed(repository_on(other, any_postgres_url), await repository.add(new_upload()), token="mine")
    async with listening(repository) as heard:
        with connections_refused(postgres_server, any_postgres_url), attempts("rindle") as tried:
            terminate(postgres_server, any_postgres_url)
            for _ in range(2):
                await tried.get()
            await repository_on(other, any_postgres_url).request_release(upload.id, "mine")
            assert await heard.next() == (LeaseSignal.REQUESTED, upload.id)
            assert heard.live
    assert logged(caplog) == []
    await other.aclose()


async def test_what_others_say_on_the_channel_does_no_harm(
    repository: SqlUploadRepository, any_postgres_url: str, postgres_server: PostgresServer
) -> None:
    name = name_of(any_postgres_url)
    async with listening(repository) as heard:
        for payload in ("", "requested", "echo", "echo another", "something else", "released " + "x" * 7000):
            postgres_server.execute(f"SELECT pg_notify('rindle_leases', '{payload}')", database=name)
        upload = await ask(repository)
        assert await heard.next() == (LeaseSignal.REQUESTED, "")
        assert await heard.next() == (LeaseSignal.RELEASED, "x" * 7000)
        assert await heard.next() == (LeaseSignal.REQUESTED, upload.id)


async def test_cancelled_anywhere_it_leaves_no_connection(
    repository: SqlUploadRepository, any_postgres_url: str, postgres_server: PostgresServer
) -> None:
    turns = came = 0
    while came < 3:  # those were cancelled when they had come to hear
        heard = Heard()
        task = asyncio.create_task(repository.listen(heard))
        for _ in range(turns):
            await asyncio.sleep(0)
        came += heard.live
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
        turns += 97
    assert asyncio.all_tasks() == {asyncio.current_task()}
    gc.collect()  # what was not closed says so, and a warning is an error
    while find_processes(postgres_server, any_postgres_url, LISTENER):  # noqa: ASYNC110 - the server needs a moment
        await asyncio.sleep(0.001)


async def test_nobody_listens_to_sqlite(database: Database, any_postgres_url: str, sqlite_url: str) -> None:
    sqlite = Database(sqlite_url)
    for url, sent_to in ((sqlite_url, database), (any_postgres_url, sqlite), (sqlite_url, sqlite)):
        with pytest.raises(ConfigurationError, match="only through PostgreSQL"):
            Listener(url, sent_to)


@contextmanager
def attempts(application: str = LISTENER) -> Iterator[asyncio.Queue[None]]:
    """This application's attempts to connect, made while the block runs."""
    tried: asyncio.Queue[None] = asyncio.Queue()

    def note(_dialect: Any, _record: Any, _arguments: Any, parameters: Any) -> None:
        if repr(application) in repr(parameters):
            tried.put_nowait(None)

    event.listen(Engine, "do_connect", note)
    try:
        yield tried
    finally:
        event.remove(Engine, "do_connect", note)
