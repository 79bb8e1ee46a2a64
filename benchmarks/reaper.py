"""The reaper over many records and many stray multiparts: how long, how much memory, and by which plans.

    .venv/bin/python -m benchmarks.reaper [--rows 5000000] [--due 20000] [--strays 100000] [--plans]

It starts a PostgreSQL of its own, makes the records by SQL and the multiparts in memory, and says what each chore took
and what this process had in memory at most, before and after. ``--plans`` prints the plan of every statement instead.
"""

import argparse
import asyncio
import contextlib
import resource
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

from sqlalchemy import event, text

from rindle.db.engine import Database
from rindle.db.repository import SqlUploadRepository
from rindle.objectstore.disk import DiskExecutor
from rindle.objectstore.memory import MemoryStore
from rindle.reaper.report import Chore, Report
from rindle.reaper.service import Reaper, ReaperOptions
from rindle.uploads.engine import UploadEngine
from rindle.uploads.ids import new_token, new_upload_id
from rindle.uploads.node import NodeIdentity
from rindle.uploads.ports import Due
from rindle.uploads.tail import Tails
from tests.postgres import PostgresServer, start_postgres

_LEASE_TTL = timedelta(seconds=30)
_EXPIRES_IN = timedelta(days=7)
_RETENTION = timedelta(days=30)

_DIGITS = "0123456789abcdefghijklmnopqrstuv"
_EXPLAIN = "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) "

# As rindle leaves them: ids begin with the time. Made over 31 days; one in a thousand is active, and those of the last
# week are not due. The first ``due`` of all are, too.
_FILL = """
    INSERT INTO rindle_uploads (id, owner, state, upload_offset, upload_length, part_size, part_count,
        release_requested, generation, metadata, usecase, partial, pins, untidy, created_at, expires_at,
        state_changed_at, key)
    SELECT spelt.seconds || substr(md5(n::text), 1, 25),
        'owner-' || n % 1000, kind.state, 1000, 1000, 5242880, 0, FALSE, 3, '', 'default', FALSE, 0, FALSE,
        made, CASE WHEN kind.state = 'active' THEN made + interval '7 days' END, made, 'uploads/' || n
    FROM generate_series(1, :rows) AS n,
        LATERAL (SELECT now() - interval '31 days' + (n::float8 / :rows) * interval '31 days' AS made) AS made,
        LATERAL (
            SELECT string_agg(
                substr(:digits, ((made_at << 3 >> 5 * i) & 31)::int + 1, 1), '' ORDER BY i DESC
            ) AS seconds
            FROM generate_series(0, 6) AS i, LATERAL (SELECT extract(epoch FROM made)::bigint AS made_at) AS at
        ) AS spelt,
        LATERAL (SELECT CASE WHEN n <= :due THEN 'active' WHEN n % 1000 = 0 THEN 'active' ELSE 'complete' END AS state)
            AS kind
"""


def main() -> None:
    """Do as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reaper", description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--due", type=int, default=20_000, help="how many of them are past their time")
    parser.add_argument("--strays", type=int, default=100_000)
    parser.add_argument("--plans", action="store_true")
    arguments = parser.parse_args()
    with contextlib.contextmanager(start_postgres)() as server, server.database(migrated=True) as name:
        asyncio.run(_run(server, name, arguments))


async def _run(server: PostgresServer, name: str, arguments: argparse.Namespace) -> None:
    database = Database(server.url(name))
    with tempfile.TemporaryDirectory() as folder:
        try:
            began = perf_counter()
            await _fill(database, arguments)
            size = (await database.read(text("SELECT pg_total_relation_size('rindle_uploads')")))[0][0]
            print(f"{arguments.rows:,} records, {size / 2**20:,.0f} MiB, made in {perf_counter() - began:.0f} s")
            store = MemoryStore()
            reaper, repository = _make(database, store, Path(folder))
            if arguments.plans:
                await _print_plans(database, repository)
            else:
                await _reap(reaper, store, arguments.strays)
        finally:
            await database.aclose()


async def _fill(database: Database, arguments: argparse.Namespace) -> None:
    async with database.engine.connect() as connection:
        await connection.execute(text("SET statement_timeout = 0"))
        await connection.execute(text(_FILL), {"rows": arguments.rows, "due": arguments.due, "digits": _DIGITS})
        await connection.execute(text("VACUUM ANALYZE rindle_uploads"))


def _make(database: Database, store: MemoryStore, folder: Path) -> tuple[Reaper, SqlUploadRepository]:
    repository = SqlUploadRepository(database, lease_ttl=_LEASE_TTL, expires_in=_EXPIRES_IN)
    tails = Tails(NodeIdentity(folder), DiskExecutor("tails"))
    engine = UploadEngine(store=store, repository=repository, tails=tails)
    options = ReaperOptions(grace=timedelta(0), retention=_RETENTION)
    return Reaper(engine=engine, store=store, repository=repository, tails=tails, options=options), repository


async def _reap(reaper: Reaper, store: MemoryStore, strays: int) -> None:
    print(f"{'chore':<12}{'done':>9}{'seconds':>9}{'CPU':>7}{'peak MiB':>10}")
    for chore in Chore:
        if chore is Chore.MULTIPARTS:  # only now: this store looks through all of them for those of one upload
            for _ in range(strays):
                await store.create_multipart(f"uploads/{new_upload_id()}/{new_token()}")
        before = _peak_mib()
        began, worked = perf_counter(), process_time()
        report: Report = await reaper.run([chore])
        took, cpu = perf_counter() - began, process_time() - worked
        peak = f"{before:.0f}→{_peak_mib():.0f}"
        print(f"{chore:<12}{report[chore].done:>9}{took:>9.1f}{cpu:>7.1f}{peak:>10}")
    again = await reaper.run()
    print(f"a second run finds {sum(tally.found for _, tally in again)}")


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def _print_plans(database: Database, repository: SqlUploadRepository) -> None:
    hold = timedelta(minutes=2)
    for due in Due:
        await _explain(database, f"take what is {due}", repository.take_due(due, limit=100, hold=hold))
    await _explain(database, "whose are these multiparts", repository.find_states([new_upload_id() for _ in range(3)]))
    await _explain(database, "purge", repository.purge(_RETENTION, limit=100))


async def _explain(database: Database, name: str, call: Any) -> None:  # noqa: ANN401 - what a coroutine returns
    with _recorded(database) as statements:
        await call
    for statement, parameters in statements:
        if "rindle_uploads" in statement:
            async with database.engine.connect() as connection:
                rows = await connection.exec_driver_sql(
                    "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) " + statement, parameters
                )
                print(f"\n{name}:")
                print("\n".join(f"    {row[0]}" for row in rows))


@contextmanager
def _recorded(database: Database) -> Iterator[Sequence[tuple[str, Any]]]:
    statements: list[tuple[str, Any]] = []

    def record(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:  # noqa: ANN401
        statements.append((statement, parameters))

    event.listen(database.engine.sync_engine, "before_cursor_execute", record)
    try:
        yield statements
    finally:
        event.remove(database.engine.sync_engine, "before_cursor_execute", record)


if __name__ == "__main__":
    main()
