from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

import pytest
from sqlalchemy import column, literal, make_url, select

from rindle.db.engine import Database
from rindle.db.sql import Crc64, Instant, TextList, any_of, db_now
from rindle.uploads.errors import RepositoryError

_POSTGRESQL = make_url("postgresql+psycopg://").get_dialect()()
_SQLITE = make_url("sqlite+aiosqlite://").get_dialect()()


@pytest.fixture
async def sqlite_database() -> AsyncIterator[Database]:
    database = Database("sqlite://")
    yield database
    await database.aclose()


@pytest.mark.parametrize("value", [0, 1, 2**63 - 1, 2**63, 2**64 - 1])
def test_a_checksum_of_64_bits_is_16_digits_and_comes_back(value: int) -> None:
    stored = Crc64().process_bind_param(value, _SQLITE)

    assert stored is not None
    assert len(stored) == 16
    assert Crc64().process_result_value(stored, _SQLITE) == value


async def test_instants_on_sqlite_have_one_width_so_that_text_compares_as_time(sqlite_database: Database) -> None:
    days = [-40_000, -365, -1, -0.5, 0, 0.001, 1, 365, 1_000_000]
    instants = [db_now(timedelta(days=offset)).label(f"at_{n}") for n, offset in enumerate(days)]
    ((*texts,),) = await sqlite_database.read(select(*(select(instant).scalar_subquery() for instant in instants)))
    ((*raw,),) = await sqlite_database.read(select(*(literal("") + instant for instant in instants)))

    assert {len(text) for text in raw} == {24}
    assert raw == sorted(raw)
    assert all(earlier < later for earlier, later in pairwise(texts))
    assert all(instant.tzinfo is UTC for instant in texts)


async def test_the_clock_of_the_database_can_be_moved_by_milliseconds(sqlite_database: Database) -> None:
    query = select(db_now().label("now"), db_now(timedelta(milliseconds=-1500)).label("then"))
    (row,) = await sqlite_database.read(query)

    assert row.now - row.then == timedelta(milliseconds=1500)


def test_instants_of_postgresql_come_back_in_utc() -> None:
    there = datetime(2026, 1, 31, 23, 59, 59, 123456, tzinfo=timezone(timedelta(hours=5, minutes=30)))

    found = Instant().process_result_value(there, _POSTGRESQL)

    assert found == there
    assert found is not None
    assert found.tzinfo is UTC


async def test_no_instant_of_python_reaches_the_database(sqlite_database: Database) -> None:
    with pytest.raises(RepositoryError):
        await sqlite_database.read(select(db_now() < literal(datetime(2026, 1, 1, tzinfo=UTC), Instant())))


@pytest.mark.parametrize("texts", [[], ["a"], ["a", "b", 'c"', "ü", "%", "\\"]])
async def test_any_of_takes_any_number_of_texts(sqlite_database: Database, texts: list[str]) -> None:
    given = literal(texts, TextList())

    for text in ["a", 'c"', "ü", "%", "\\", "other"]:
        (row,) = await sqlite_database.read(select(any_of(literal(text), given)))
        assert bool(row[0]) == (text in texts)


def test_any_of_is_one_parameter_on_each_dialect() -> None:
    condition = any_of(column("id"), literal(["a", "b"], TextList()))

    assert str(select(column("id")).where(condition).compile(dialect=_POSTGRESQL)).endswith(
        "(id = ANY (%(param_1)s::TEXT[]))"
    )
    assert str(select(column("id")).where(condition).compile(dialect=_SQLITE)).endswith(
        "(id IN (SELECT value FROM json_each(?)))"
    )
