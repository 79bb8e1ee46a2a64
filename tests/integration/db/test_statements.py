"""What PostgreSQL and SQLite are asked, how often, and how they go about it."""

from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event, text

from rindle.db.engine import Database, DatabaseOptions
from rindle.db.repository import SqlUploadRepository
from rindle.objectstore.types import MultipartRef
from rindle.testing.repository import EXPIRES_IN, LEASE_TTL, claim_of, claimed, get, new_upload, part
from rindle.uploads.model import EventType, Tail, UploadState
from rindle.uploads.ports import Due
from tests.postgres import PostgresServer

_MANY = """
    INSERT INTO rindle_uploads (id, owner, state, upload_offset, part_size, part_count, release_requested, generation,
                                metadata, usecase, partial, pins, untidy, created_at, expires_at, state_changed_at,
                                tail_name, tail_node,
                                tail_length, tail_crc64nvme)
    WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 5000)
    SELECT 'id-' || n, 'alice',
           CASE n % 50 WHEN 0 THEN 'finalizing' WHEN 1 THEN 'aborting' WHEN 2 THEN 'concatenating' WHEN 3 THEN 'active'
                       ELSE 'complete' END,
           1, 1, 0, FALSE, 0, '', 'default', FALSE, 0, FALSE, {now},
           CASE WHEN n % 50 = 3 THEN {now} END, {now},
           CASE WHEN n % 50 = 3 THEN 'tail-' || n END, CASE WHEN n % 50 = 3 THEN 'node-' || (n % 7) END,
           CASE WHEN n % 50 = 3 THEN 1 END, CASE WHEN n % 50 = 3 THEN '0000000000000000' END
    FROM numbers
"""


@pytest.fixture
def repository(database: Database) -> SqlUploadRepository:
    return SqlUploadRepository(database, lease_ttl=LEASE_TTL, expires_in=EXPIRES_IN)


@contextmanager
def recorded(database: Database) -> Iterator[list[tuple[str, Any]]]:
    """The statements that are executed while the block runs, with their parameters."""
    statements: list[tuple[str, Any]] = []

    def record(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        statements.append((statement, parameters))

    event.listen(database.engine.sync_engine, "before_cursor_execute", record)
    try:
        yield statements
    finally:
        event.remove(database.engine.sync_engine, "before_cursor_execute", record)


async def count(database: Database, call: Awaitable[Any]) -> int:
    with recorded(database) as statements:
        await call
    return len(statements)


async def explain(database: Database, call: Awaitable[Any]) -> str:
    """How the database goes about the one statement of this call."""
    with recorded(database) as statements:
        await call
    ((statement, parameters),) = statements
    prefix = "EXPLAIN QUERY PLAN " if database.dialect == "sqlite" else "EXPLAIN "
    async with database.engine.connect() as connection:
        rows = await connection.exec_driver_sql(prefix + statement, parameters)
        return "\n".join(str(row[-1]) for row in rows)


async def fill(database: Database) -> None:
    now = "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')" if database.dialect == "sqlite" else "now()"
    await database.write(text(_MANY.format(now=now)))
    await database.write(text("ANALYZE"))


async def test_each_step_of_an_append_is_one_statement(database: Database, repository: SqlUploadRepository) -> None:
    upload = await repository.add(new_upload(length=None))
    postgres = database.dialect == "postgresql"

    assert await count(database, repository.find(upload.id)) == 1
    assert await count(database, repository.claim(claim_of(upload, token="t"))) == 1
    held = await get(repository, upload)
    with recorded(database) as statements:
        row = await repository.commit(
            held,
            replace(held, offset=5, part_count=1, multipart=MultipartRef("k", "m"), key="k"),
            parts=[part(1)],
        )
        row = await repository.commit(row, replace(row, offset=10, part_count=2), parts=[part(2)])
        assert len(statements) == (2 if postgres else 8)  # on SQLite with BEGIN and COMMIT
    tail = Tail(name="a", node="n", length=1, crc64nvme=1)
    released = replace(row, offset=11, tail=tail, lease=None)
    assert await count(database, repository.commit(row, released)) == 1


async def test_an_upload_is_created_with_its_event_in_one_statement_on_postgresql(
    database: Database, repository: SqlUploadRepository
) -> None:
    counted = await count(database, repository.add(new_upload(), events=[EventType.CREATED]))

    assert counted == (1 if database.dialect == "postgresql" else 4)


async def test_a_completion_with_its_event_is_one_statement_on_postgresql(
    database: Database, repository: SqlUploadRepository
) -> None:
    upload = await repository.add(new_upload())
    done = replace(upload, state=UploadState.COMPLETE, offset=10, key="k")

    counted = await count(database, repository.commit(upload, done, parts=[part(1)], events=[EventType.FINISHED]))

    assert counted == (1 if database.dialect == "postgresql" else 5)


async def test_the_reaper_finds_its_work_by_the_partial_indexes(
    database: Database, repository: SqlUploadRepository
) -> None:
    await fill(database)

    hold = timedelta(minutes=1)
    expired = await explain(database, repository.take_due(Due.EXPIRED, limit=10, hold=hold))
    unfinished = await explain(database, repository.take_due(Due.UNFINISHED, limit=10, hold=hold))
    untidy = await explain(database, repository.take_due(Due.UNTIDY, limit=10, hold=hold))
    tails = await explain(database, repository.find_tail_names("node-1", ["tail-3"]))

    assert "ix_rindle_uploads_expiring" in expired
    assert ("expires_at<" if database.dialect == "sqlite" else "Index Cond: (expires_at <= ") in expired
    assert "ix_rindle_uploads_unfinished" in unfinished
    assert "ix_rindle_uploads_untidy" in untidy
    assert "ix_rindle_uploads_tail_node" in tails
    assert "Sort" not in expired + unfinished
    assert "TEMP B-TREE" not in expired + unfinished


async def test_leases_are_found_by_the_ids_of_their_uploads(
    database: Database, repository: SqlUploadRepository
) -> None:
    await fill(database)
    leases = {f"token-{number}": f"id-{number}" for number in range(20)}
    by_id = "(id=?)" if database.dialect == "sqlite" else "pk_rindle_uploads"

    assert by_id in await explain(database, repository.renew(leases))
    assert by_id in await explain(database, repository.find_release_requests(leases))
    assert by_id in await explain(database, repository.request_release("id-1", "token-1"))


@pytest.fixture
async def lone_database(postgres_url: str) -> AsyncIterator[Database]:
    """With one connection, so that its statistics are all there are."""
    database = Database(postgres_url, DatabaseOptions(pool_size=1))
    yield database
    await database.aclose()


async def test_appends_are_heap_only_updates_on_postgresql(
    lone_database: Database, postgres_server: PostgresServer
) -> None:
    repository = SqlUploadRepository(lone_database, lease_ttl=LEASE_TTL, expires_in=EXPIRES_IN)
    row = await repository.add(new_upload(length=None))
    row = await claimed(repository, row)
    tail = Tail(name="tail-0", node="n", length=1, crc64nvme=0)
    row = await repository.commit(
        row, replace(row, offset=1, tail=tail, multipart=MultipartRef("k", "m"), key="k"), events=[EventType.CREATED]
    )
    before = await _updates(lone_database)

    for number in range(1, 31):
        row = await repository.commit(
            row,
            replace(row, offset=row.offset + 5, part_count=number, tail=replace(tail, name=f"tail-{number}")),
            parts=[part(number)],
        )
        row = await repository.commit(row, replace(row, lease=None))
        row = await claimed(repository, row, node="n")

    total, heap_only = (now - then for now, then in zip(await _updates(lone_database), before, strict=True))
    assert (total, heap_only) == (90, 90)


async def _updates(database: Database) -> tuple[int, int]:
    await database.read(text("SELECT pg_stat_force_next_flush()"))
    query = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'rindle_uploads'"
    (row,) = await database.read(text(query))
    return row.n_tup_upd, row.n_tup_hot_upd
