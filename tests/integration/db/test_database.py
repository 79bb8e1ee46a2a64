import asyncio
import sqlite3
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from rindle.db.engine import Database, DatabaseOptions
from rindle.db.repository import SqlUploadRepository
from rindle.errors import ConfigurationError
from rindle.testing.repository import EXPIRES_IN, LEASE_TTL, claim_of, new_upload
from rindle.uploads.errors import DatabaseUnavailableError, RepositoryError
from rindle.uploads.ports import Due
from tests.postgres import PostgresServer, name_of, terminate

_SHORT = timedelta(milliseconds=50)
_COUNT = text("SELECT count(*) FROM rindle_nodes")
_RENAME = text("UPDATE rindle_nodes SET name = :name WHERE id = :id")


@pytest.fixture
async def postgres(any_postgres_url: str) -> AsyncIterator[Database]:
    """With one connection, so that the next statement is sure to meet the one before."""
    database = Database(any_postgres_url, DatabaseOptions(pool_size=1))
    yield database
    await database.aclose()


def repository_on(database: Database) -> SqlUploadRepository:
    return SqlUploadRepository(database, lease_ttl=LEASE_TTL, expires_in=EXPIRES_IN)


async def insert_node(connection: AsyncConnection, name: str) -> None:
    await connection.execute(
        text("INSERT INTO rindle_nodes (id, name, seen_at) VALUES (:name, :name, '2026-01-01T00:00:00.000Z')"),
        {"name": name},
    )


async def count_nodes(database: Database) -> int:
    (row,) = await database.read(_COUNT)
    return int(row[0])


async def name_of_node(database: Database, node: str) -> str:
    found = await repository_on(database).find_node(node)
    assert found is not None
    return found.name


# One database that answers


async def test_a_database_that_answers_can_be_pinged(database: Database) -> None:
    await database.ping()


async def test_a_transaction_is_done_as_a_whole(database: Database) -> None:
    async def work(connection: AsyncConnection) -> str:
        await insert_node(connection, "a")
        await insert_node(connection, "b")
        return "done"

    assert await database.transaction(work) == "done"
    assert await count_nodes(database) == 2


async def test_an_error_in_a_transaction_undoes_it_and_passes_as_it_is(database: Database) -> None:
    async def work(connection: AsyncConnection) -> None:
        await insert_node(connection, "a")
        raise LookupError

    for _ in range(20):  # more often than there are connections: each is given back
        with pytest.raises(LookupError):
            await database.transaction(work)
    assert await count_nodes(database) == 0


async def test_a_statement_that_fails_in_a_transaction_undoes_it(database: Database) -> None:
    async def work(connection: AsyncConnection) -> None:
        await insert_node(connection, "a")
        await connection.execute(text("INSERT INTO rindle_nodes (id) VALUES ('b')"))

    for _ in range(20):
        with pytest.raises(RepositoryError):
            await database.transaction(work)
    assert await count_nodes(database) == 0


async def test_a_cancelled_transaction_comes_to_its_end_first(database: Database) -> None:
    inside, go_on = asyncio.Event(), asyncio.Event()

    async def work(connection: AsyncConnection) -> None:
        await insert_node(connection, "a")
        inside.set()
        await go_on.wait()
        await insert_node(connection, "b")

    task = asyncio.create_task(database.transaction(work))
    await inside.wait()
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await count_nodes(database) == 2


async def test_tasks_that_are_cancelled_anywhere_leave_the_database_usable(database: Database) -> None:
    repository = repository_on(database)
    upload = await repository.add(new_upload())

    for turns in range(30):
        task = asyncio.create_task(repository.claim(claim_of(upload, token=f"token-{turns}")))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    found = await repository.find(upload.id)
    assert found is not None
    taken = await repository.claim(claim_of(upload, take_over=found.lease and found.lease.token))
    assert taken is not None


async def test_a_database_without_a_schema_says_how_to_mend_it(empty_sqlite_url: str, empty_postgres_url: str) -> None:
    for url in (empty_sqlite_url, empty_postgres_url, empty_postgres_url.replace("psycopg", "asyncpg")):
        database = Database(url)
        with pytest.raises(ConfigurationError, match="run `rindle db upgrade`"):
            await repository_on(database).find("any")
        await database.aclose()


@pytest.mark.parametrize(
    "changes",
    [{"offset": 2**63}, {"body_length": 2**70}, {"length": 2**63}, {"owner": "\udc80"}],
    ids=["offset", "body_length", "length", "owner"],
)
async def test_what_no_column_can_hold_is_refused(database: Database, changes: dict[str, Any]) -> None:
    repository = repository_on(database)
    upload = await repository.add(new_upload(length=None))

    with pytest.raises(RepositoryError):
        await repository.claim(claim_of(upload, **changes))

    assert await repository.find(upload.id) == upload


@pytest.mark.invariant("I23")
async def test_a_row_of_a_newer_format_is_refused_and_not_touched(database: Database) -> None:
    repository = repository_on(database)
    upload = await repository.add(new_upload())
    await database.write(text("UPDATE rindle_uploads SET format = 2, expires_at = created_at"))

    with pytest.raises(RepositoryError, match="written by a newer rindle"):
        await repository.find(upload.id)
    assert await repository.claim(claim_of(upload)) is None
    assert await repository.claim_work(upload.id, upload.state, token="t", holder="h") is None
    assert list(await repository.take_due(Due.EXPIRED, limit=10, hold=LEASE_TTL)) == []
    (row,) = await database.read(text("SELECT lease_token FROM rindle_uploads"))
    assert row.lease_token is None


async def test_a_commit_that_changes_what_is_fixed_is_a_mistake(database: Database) -> None:
    repository = repository_on(database)
    upload = await repository.add(new_upload())

    with pytest.raises(ValueError, match="a commit does not change owner"):
        await repository.commit(upload, replace(upload, owner="bob"))


@pytest.mark.invariant("I22")
async def test_the_clock_of_python_decides_nothing(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, module in list(sys.modules.items()):
        if name.startswith("rindle.") and hasattr(module, "utc_now"):
            monkeypatch.setattr(module, "utc_now", lambda: datetime(2000, 1, 1, tzinfo=UTC))
    repository = repository_on(database)

    upload = await repository.add(new_upload())
    taken = await repository.claim(claim_of(upload))

    assert taken is not None
    assert taken.lease is not None
    assert taken.lease.live
    assert not taken.expired
    assert taken.created_at.year > 2000
    assert list(await repository.take_due(Due.EXPIRED, limit=10, hold=LEASE_TTL)) == []


# Conflicts


async def test_a_deadlock_is_resolved_by_doing_one_of_the_two_again(postgres_url: str) -> None:
    database = Database(postgres_url)
    for node in ("a", "b"):
        await repository_on(database).beat(node, "none")
    both_have_one = asyncio.Barrier(2)
    attempts = 0

    async def lock(first: str, second: str) -> None:
        met = False

        async def work(connection: AsyncConnection) -> None:
            nonlocal attempts, met
            attempts += 1
            await connection.execute(_RENAME, {"id": first, "name": first})
            if not met:
                met = True
                await both_have_one.wait()
            await connection.execute(_RENAME, {"id": second, "name": first})

        await database.transaction(work)

    await asyncio.gather(lock("a", "b"), lock("b", "a"))

    assert attempts == 3
    assert await name_of_node(database, "a") == await name_of_node(database, "b")
    await database.aclose()


async def test_a_conflict_without_end_is_given_up(any_postgres_url: str) -> None:
    database = Database(any_postgres_url)
    attempts = 0

    async def work(connection: AsyncConnection) -> None:
        nonlocal attempts
        attempts += 1
        await insert_node(connection, "a")
        await connection.execute(text("DO $$ BEGIN RAISE EXCEPTION 'again' USING ERRCODE = '40001'; END $$"))

    with pytest.raises(DatabaseUnavailableError, match="again"):
        await database.transaction(work)

    assert attempts == 4
    assert await count_nodes(database) == 0
    await database.aclose()


async def test_a_writer_on_sqlite_waits_for_one_in_another_process(sqlite_url: str) -> None:
    database = Database(sqlite_url)
    await database.ping()
    other = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    write = asyncio.create_task(repository_on(database).beat("n", "mine"))
    assert await repository_on(database).find_node("n") is None  # readers do not wait
    assert not write.done()
    other.execute("COMMIT")
    await write

    assert await name_of_node(database, "n") == "mine"
    other.close()
    await database.aclose()


async def test_a_writer_on_sqlite_gives_up_on_one_that_does_not_end(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rindle.db.engine._BUSY_TIMEOUT_MS", 1)
    database = Database(sqlite_url)
    other = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    with pytest.raises(DatabaseUnavailableError, match="locked"):
        await repository_on(database).beat("n", "mine")

    other.execute("ROLLBACK")
    other.close()
    await repository_on(database).beat("n", "mine")
    await database.aclose()


async def test_sqlite_keeps_what_it_has_confirmed(sqlite_url: str) -> None:
    database = Database(sqlite_url)
    settings = {
        pragma: (await database.read(text(f"PRAGMA {pragma}")))[0][0]
        for pragma in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
    }
    await database.aclose()

    assert settings == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 10_000}


# No answer


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
async def test_a_server_that_is_not_there_is_unavailable(tmp_path: Path, driver: str) -> None:
    database = Database(f"postgresql+{driver}://postgres@/rindle?host={tmp_path}")

    with pytest.raises(DatabaseUnavailableError):
        await database.ping()
    with pytest.raises(DatabaseUnavailableError):
        await repository_on(database).beat("n", "host")
    await database.aclose()


async def test_a_database_that_is_not_there_is_unavailable(any_postgres_url: str) -> None:
    database = Database(any_postgres_url.replace("test_", "no_such_"))

    with pytest.raises(DatabaseUnavailableError, match="does not exist"):
        await database.ping()
    await database.aclose()


async def test_a_file_that_is_no_database_is_unavailable(tmp_path: Path) -> None:
    path = tmp_path / "rindle.db"
    path.write_bytes(b"something else" * 1000)
    database = Database(f"sqlite:///{path}")

    with pytest.raises(DatabaseUnavailableError, match="not a database"):
        await database.ping()
    await database.aclose()


async def test_a_read_on_a_connection_that_died_in_the_pool_is_done_on_another(
    any_postgres_url: str, postgres_server: PostgresServer
) -> None:
    database = Database(any_postgres_url, DatabaseOptions(pool_size=3))
    await asyncio.gather(*(database.read(text("SELECT pg_sleep(0.05)")) for _ in range(3)))
    terminate(postgres_server, any_postgres_url)

    assert await asyncio.gather(*(count_nodes(database) for _ in range(3))) == [0, 0, 0]
    await database.aclose()


async def test_a_write_on_a_connection_that_died_is_unavailable_and_the_next_one_works(
    postgres: Database, any_postgres_url: str, postgres_server: PostgresServer
) -> None:
    await repository_on(postgres).beat("n", "first")
    terminate(postgres_server, any_postgres_url)

    with pytest.raises(DatabaseUnavailableError):
        await repository_on(postgres).beat("n", "second")

    await repository_on(postgres).beat("n", "third")
    assert await name_of_node(postgres, "n") == "third"


async def test_a_connection_that_dies_in_a_transaction_makes_it_unavailable(
    postgres: Database, any_postgres_url: str, postgres_server: PostgresServer
) -> None:
    async def work(connection: AsyncConnection) -> None:
        await insert_node(connection, "a")
        terminate(postgres_server, any_postgres_url)
        await insert_node(connection, "b")

    with pytest.raises(DatabaseUnavailableError):
        await postgres.transaction(work)

    assert await count_nodes(postgres) == 0


async def test_a_statement_that_takes_too_long_is_ended(any_postgres_url: str) -> None:
    database = Database(any_postgres_url, DatabaseOptions(statement_timeout=_SHORT))

    with pytest.raises(DatabaseUnavailableError, match="statement timeout"):
        await database.read(text("SELECT pg_sleep(60)"))
    await database.ping()
    await database.aclose()


async def test_a_lock_that_is_not_to_be_had_is_not_waited_for_long(any_postgres_url: str) -> None:
    database = Database(any_postgres_url, DatabaseOptions(lock_timeout=_SHORT))
    await repository_on(database).beat("n", "first")

    async def work(connection: AsyncConnection) -> None:
        await connection.execute(_RENAME, {"id": "n", "name": "second"})
        with pytest.raises(DatabaseUnavailableError, match="lock timeout"):
            await repository_on(database).beat("n", "third")

    await database.transaction(work)
    assert await name_of_node(database, "n") == "second"
    await database.aclose()


async def test_a_pool_without_a_free_connection_is_unavailable(any_postgres_url: str) -> None:
    database = Database(any_postgres_url, DatabaseOptions(pool_size=1, pool_timeout=_SHORT))

    async def work(_connection: AsyncConnection) -> None:
        with pytest.raises(DatabaseUnavailableError):
            await database.ping()

    await database.transaction(work)
    await database.ping()
    await database.aclose()


async def test_a_server_that_takes_no_writes_is_unavailable_until_another_takes_its_place(
    any_postgres_url: str, postgres_server: PostgresServer
) -> None:
    name = name_of(any_postgres_url)
    postgres_server.execute("ALTER DATABASE {} SET default_transaction_read_only = on", name)
    database = Database(any_postgres_url, DatabaseOptions(pool_size=2))
    await asyncio.gather(*(database.read(text("SELECT pg_sleep(0.05)")) for _ in range(2)))
    postgres_server.execute("ALTER DATABASE {} RESET default_transaction_read_only", name)

    with pytest.raises(DatabaseUnavailableError, match="read-only"):
        await repository_on(database).beat("n", "host")

    await asyncio.gather(*(repository_on(database).beat("n", "host") for _ in range(4)))
    await database.aclose()


async def test_the_server_is_told_who_asks_and_how_long_it_may_take(any_postgres_url: str) -> None:
    options = DatabaseOptions(
        application_name="rindle-test", statement_timeout=timedelta(seconds=7), lock_timeout=timedelta(seconds=2)
    )
    assert await shown(any_postgres_url, options) == ("rindle-test", "7s", "2s")
    assert await shown(any_postgres_url, DatabaseOptions(statement_timeout=None, lock_timeout=None)) == (
        "rindle",
        "0",
        "0",
    )


async def test_what_the_url_says_goes_before_the_defaults(postgres_url: str) -> None:
    url = postgres_url + "&application_name=mine&options=-c%20statement_timeout%3D9000"

    assert await shown(url, DatabaseOptions()) == ("mine", "9s", "3s")


async def shown(url: str, options: DatabaseOptions) -> tuple[str, ...]:
    database = Database(url, options)
    names = ("application_name", "statement_timeout", "lock_timeout")
    rows = [await database.read(text(f"SHOW {name}")) for name in names]
    await database.aclose()
    return tuple(row[0][0] for row in rows)
