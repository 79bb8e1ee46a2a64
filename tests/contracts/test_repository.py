from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Executable, select, update
from typing_extensions import override

from rindle.db.engine import Database
from rindle.db.listening import Listener
from rindle.db.models import nodes, outbox, uploads
from rindle.db.repository import SqlUploadRepository
from rindle.db.schema import create_schema
from rindle.db.sql import db_now
from rindle.testing.repository import (
    EXPIRES_IN,
    LEASE_TTL,
    Heard,
    RepositoryAdmin,
    SignallingRepositoryContract,
    UploadRepositoryContract,
)


class SqlAdmin(RepositoryAdmin):
    def __init__(self, database: Database) -> None:
        self._database = database

    @override
    async def set_time_left(self, upload_id: str, left: timedelta) -> None:
        await self._update(update(uploads).where(uploads.c.id == upload_id).values(expires_at=db_now(left)))

    @override
    async def end_lease(self, upload_id: str) -> None:
        past = db_now(timedelta(seconds=-1))
        await self._update(update(uploads).where(uploads.c.id == upload_id).values(lease_until=past))

    @override
    async def set_state_age(self, upload_id: str, age: timedelta) -> None:
        await self._update(update(uploads).where(uploads.c.id == upload_id).values(state_changed_at=db_now(-age)))

    @override
    async def end_wait(self, upload_id: str) -> None:
        past = db_now(timedelta(seconds=-1))
        await self._update(update(uploads).where(uploads.c.id == upload_id).values(retry_at=past))

    @override
    async def age(self, upload_id: str, by: timedelta) -> None:
        past = {"created_at": db_now(-by)}
        of_upload = update(uploads).where(uploads.c.id == upload_id)
        await self._update(of_upload.values(state_changed_at=db_now(-by), **past))
        await self._update(update(outbox).where(outbox.c.upload_id == upload_id).values(**past))

    @override
    async def retire_node(self, node: str) -> None:
        await self._update(update(nodes).where(nodes.c.id == node).values(retired_at=db_now()))

    @override
    async def find_events(self, upload_id: str) -> Sequence[Mapping[str, Any]]:
        statement = select(outbox).where(outbox.c.upload_id == upload_id).order_by(outbox.c.id)
        rows = await self._database.read(statement)
        assert all((row.payload["upload_id"], row.payload["type"]) == (upload_id, row.type) for row in rows)
        assert all((row.sent_at, row.attempts) == (None, 0) and row.owner == row.payload["owner"] for row in rows)
        return [row.payload for row in rows]

    async def _update(self, statement: Executable) -> None:
        await self._database.write(statement)


def repository_on(database: Database, url: str) -> SqlUploadRepository:
    listener = Listener(url, database) if database.dialect == "postgresql" else None
    return SqlUploadRepository(database, lease_ttl=LEASE_TTL, expires_in=EXPIRES_IN, listener=listener)


class SqlRepositoryContract(UploadRepositoryContract):
    @pytest.fixture
    def url(self) -> str:
        raise NotImplementedError

    @pytest.fixture
    async def database(self, url: str) -> AsyncIterator[Database]:
        database = Database(url)
        yield database
        await database.aclose()

    @pytest.fixture
    @override
    def repository(self, database: Database, url: str) -> SqlUploadRepository:
        return repository_on(database, url)

    @pytest.fixture
    @override
    async def rival(self, url: str) -> AsyncIterator[SqlUploadRepository]:
        database = Database(url)
        yield repository_on(database, url)
        await database.aclose()

    @pytest.fixture
    @override
    def admin(self, database: Database) -> SqlAdmin:
        return SqlAdmin(database)


class TestSqlite(SqlRepositoryContract):
    @pytest.fixture
    @override
    def url(self, sqlite_url: str) -> str:
        return sqlite_url

    async def test_nothing_is_heard_and_nobody_waits_for_it(self, repository: SqlUploadRepository) -> None:
        heard = Heard()
        await repository.listen(heard)
        assert not heard.live


class TestSqliteInMemory(SqlRepositoryContract):
    @pytest.fixture
    @override
    def url(self) -> str:
        return "sqlite://"

    @pytest.fixture
    @override
    async def database(self, url: str) -> AsyncIterator[Database]:
        database = Database(url)
        await create_schema(database)
        yield database
        await database.aclose()

    @pytest.fixture
    @override
    def rival(self, repository: SqlUploadRepository) -> SqlUploadRepository:
        return repository


class TestPsycopg(SqlRepositoryContract, SignallingRepositoryContract):
    @pytest.fixture
    @override
    def url(self, postgres_url: str) -> str:
        return postgres_url


class TestAsyncpg(SqlRepositoryContract, SignallingRepositoryContract):
    @pytest.fixture
    @override
    def url(self, postgres_url: str) -> str:
        return postgres_url.replace("+psycopg:", "+asyncpg:")
