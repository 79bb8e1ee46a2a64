"""Fixtures: databases with the schema (or without), a fresh one for each test."""

import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from rindle.db import migrate
from rindle.db.engine import Database
from tests.postgres import PostgresServer, start_postgres


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    yield from start_postgres()


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    with postgres_server.database(migrated=True) as name:
        yield postgres_server.url(name)


@pytest.fixture(params=["psycopg", "asyncpg"])
def any_postgres_url(request: pytest.FixtureRequest, postgres_url: str) -> str:
    """On each of the drivers."""
    return postgres_url.replace("psycopg", request.param)


@pytest.fixture
def empty_postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    with postgres_server.database(migrated=False) as name:
        yield postgres_server.url(name)


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    migrate.upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    return f"sqlite:///{shutil.copy(sqlite_template, tmp_path / 'rindle.db')}"


@pytest.fixture
def empty_sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'rindle.db'}"


@pytest.fixture(params=["sqlite", "psycopg", "asyncpg"])
def database_url(request: pytest.FixtureRequest) -> str:
    """A database with the schema, on each of the drivers."""
    if request.param == "sqlite":
        return str(request.getfixturevalue("sqlite_url"))
    return str(request.getfixturevalue("postgres_url")).replace("psycopg", request.param)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    yield database
    await database.aclose()
