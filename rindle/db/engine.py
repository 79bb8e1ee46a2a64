"""Connections: which database, with which settings, and how one statement or one transaction is run on it."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, TypeVar

from sqlalchemy import URL, AsyncAdaptedQueuePool, Executable, Row, event, make_url, text
from sqlalchemy.engine.interfaces import DBAPIConnection, ExceptionContext
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from rindle.db.errors import is_conflict, is_foreign, is_read_only, is_stale_connection, translate
from rindle.errors import ConfigurationError
from rindle.objectstore.tasks import outlast

T = TypeVar("T")

_DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "sqlite+aiosqlite": "sqlite+aiosqlite",
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
    "postgresql+asyncpg": "postgresql+asyncpg",
}
_PACKAGES = {
    "sqlite+aiosqlite": "aiosqlite",
    "postgresql+psycopg": "'rindle-uploads[postgres]'",
    "postgresql+asyncpg": "'rindle-uploads[asyncpg]'",
}
_TAKEN = (
    "sqlite:///relative/path.db, sqlite:////absolute/path.db, "
    "postgresql://user@host/name or postgresql+asyncpg://user@host/name"
)

_CONNECT_TIMEOUT_S = 10
_BUSY_TIMEOUT_MS = 10_000
_ATTEMPTS = 4
_PATIENCE_S = 10.0
_PAUSE_S = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseOptions:
    """``pool_size`` connections at most; ``pool_timeout``: how long to wait for one of them.

    On PostgreSQL the server ends a statement after ``statement_timeout`` and a wait for a lock after
    ``lock_timeout``. None leaves that to the server (a pooler such as PgBouncer may refuse to pass them on).
    """

    pool_size: int = 10
    pool_timeout: timedelta = timedelta(seconds=10)
    statement_timeout: timedelta | None = timedelta(seconds=5)
    lock_timeout: timedelta | None = timedelta(seconds=3)
    application_name: str = "rindle"


_DEFAULTS = DatabaseOptions()


def normalise_url(url: str) -> URL:
    """The URL with the driver that rindle uses for it. ConfigurationError if it names no database rindle can use."""
    try:
        parsed = make_url(url)
        driver = _DRIVERS[parsed.drivername]
    except (ArgumentError, ValueError, KeyError):
        # Not chained: what does not parse may still hold a password, and these errors repeat it.
        raise ConfigurationError(f"not a database that rindle can use; give {_TAKEN}") from None
    if driver == "sqlite+aiosqlite" and parsed.host:
        raise ConfigurationError(f"a SQLite URL has three slashes, or four before an absolute path; give {_TAKEN}")
    if driver == "postgresql+asyncpg" and "sslmode" in parsed.query:
        # libpq's word, so that one URL serves both drivers.
        parsed = parsed.update_query_dict({"ssl": parsed.query["sslmode"]}).difference_update_query(["sslmode"])
    return parsed.set(drivername=driver)


class Database:
    """One database and its pool of connections. None is opened before the first statement.

    Single statements commit by themselves; :meth:`transaction` is for those that belong together. Whoever is cancelled
    here is so once the statement or transaction has come to its end. Errors are rindle's, whatever the driver. To be
    used in one event loop, and closed.
    """

    def __init__(self, url: str, options: DatabaseOptions = _DEFAULTS) -> None:
        """ConfigurationError if the URL cannot be used, its driver is not installed or its folder is not there."""
        self.url = normalise_url(url)
        _check_folder(self.url)
        self.engine = _create_engine(self.url, options)
        self.in_memory = _is_in_memory(self.url)
        self.dialect: Literal["postgresql", "sqlite"] = "postgresql"
        self._begin_with = "BEGIN"
        self._writer: AbstractAsyncContextManager[None] = nullcontext()
        if self.url.get_backend_name() == "sqlite":
            self.dialect = "sqlite"
            self._begin_with = "BEGIN IMMEDIATE"
            # One writer at a time: in here they queue, between processes they poll (busy_timeout), which is slower.
            self._writer = asyncio.Lock()

    async def read(self, statement: Executable, parameters: Mapping[str, Any] | None = None) -> Sequence[Row[Any]]:
        """The rows of one statement that changes nothing; tried once more when a pooled connection was dead."""

        async def attempt() -> Sequence[Row[Any]]:
            async with self.engine.connect() as connection:
                return await _execute(connection, statement, parameters)

        return await self._run(attempt, reading=True)

    async def write(self, statement: Executable, parameters: Mapping[str, Any] | None = None) -> Sequence[Row[Any]]:
        """Run and commit one statement; the rows that it returns."""

        async def attempt() -> Sequence[Row[Any]]:
            async with self._writer, self.engine.connect() as connection:
                return await _execute(connection, statement, parameters)

        return await self._run(attempt)

    async def transaction(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Do ``work`` in one transaction, which ends with its return or its error.

        When the database gives up on a conflict, all of the work is done again: it must have no other effects, and
        wait for nothing but its statements.
        """

        async def attempt() -> T:
            async with self._begin() as connection:
                return await work(connection)

        return await self._run(attempt)

    async def ping(self) -> None:
        """DatabaseUnavailableError if there is no answer."""
        await self.read(text("SELECT 1"))

    async def aclose(self) -> None:
        """Close all connections."""
        await self.engine.dispose()

    @asynccontextmanager
    async def _begin(self) -> AsyncIterator[AsyncConnection]:
        async with self._writer, self.engine.connect() as connection:
            await connection.exec_driver_sql(self._begin_with)
            try:
                yield connection
                await connection.exec_driver_sql("COMMIT")
            except BaseException:
                await _roll_back(connection)
                raise

    async def _run(self, attempt: Callable[[], Coroutine[Any, Any, T]], *, reading: bool = False) -> T:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _PATIENCE_S
        failures = 0
        while True:
            try:
                return await _see_through(attempt())
            except Exception as error:
                if not is_foreign(error):
                    raise
                failures += 1
                # Of a write that met a dead connection nobody knows whether it was done.
                stale = reading and failures == 1 and is_stale_connection(error)
                conflict = is_conflict(error) and failures < _ATTEMPTS and loop.time() < deadline
                if not (stale or conflict):
                    raise translate(error) from error
            await asyncio.sleep(random.uniform(0, _PAUSE_S * 2**failures))  # noqa: S311 - jitter


async def _see_through(work: Coroutine[Any, Any, T]) -> T:
    """Do work to its end although its awaiter is cancelled.

    Cut off in the middle of a statement, SQLite's driver would keep the connection, and with it the write lock, until
    the garbage collector comes by.
    """
    task = asyncio.create_task(work)
    try:
        await asyncio.wait([task])
    except asyncio.CancelledError:
        await outlast(task)
        raise
    return task.result()


async def _execute(
    connection: AsyncConnection, statement: Executable, parameters: Mapping[str, Any] | None
) -> Sequence[Row[Any]]:
    result = await connection.execute(statement, parameters)
    return result.all() if result.returns_rows else ()


async def _roll_back(connection: AsyncConnection) -> None:
    if connection.invalidated:
        return
    try:
        await connection.exec_driver_sql("ROLLBACK")
    except Exception as error:
        # SQLite has rolled back already after some errors. Whatever it was: this connection is not used again, and
        # the error that matters is the one that led here.
        if not is_foreign(error):
            raise
        await connection.invalidate()


def _is_in_memory(url: URL) -> bool:
    return url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:")


def _check_folder(url: URL) -> None:
    # SQLite itself says no more than that it is "unable to open database file".
    if url.get_backend_name() == "sqlite" and not _is_in_memory(url):
        folder = Path(str(url.database)).absolute().parent
        if not folder.is_dir():
            raise ConfigurationError(f"the folder of the database, {folder}, is not there; make it")


def _create_engine(url: URL, options: DatabaseOptions) -> AsyncEngine:
    settings: dict[str, Any] = {
        # A statement is its own transaction, and a longer one is begun and ended in words: no round trip is spent on
        # BEGIN, ROLLBACK or a reset, which would double the price of a query by its key.
        "isolation_level": "AUTOCOMMIT",
        "skip_autocommit_rollback": True,
        "pool_reset_on_return": None,
        "poolclass": AsyncAdaptedQueuePool,
        "pool_size": 1 if _is_in_memory(url) else options.pool_size,  # each connection would have a memory of its own
        "max_overflow": 0,
        "pool_timeout": options.pool_timeout.total_seconds(),
        "hide_parameters": True,
    }
    match url.drivername:
        case "postgresql+psycopg":
            settings |= {"connect_args": _psycopg_arguments(url, options), "use_native_hstore": False}
        case "postgresql+asyncpg":
            settings["connect_args"] = _asyncpg_arguments(options)
    try:
        engine = create_async_engine(url, **settings)
    except ImportError as error:
        raise ConfigurationError(
            f"the driver of {url.drivername} is not installed ({error}): pip install {_PACKAGES[url.drivername]}"
        ) from error
    if url.get_backend_name() == "sqlite":
        event.listen(engine.sync_engine, "connect", _prepare_sqlite)
    else:
        event.listen(engine.sync_engine, "handle_error", _leave_read_only)
    return engine


def _psycopg_arguments(url: URL, options: DatabaseOptions) -> dict[str, Any]:
    timeouts = [f"-c {name}={value}" for name, value in _timeouts(options).items()]
    arguments: dict[str, Any] = {
        "connect_timeout": _CONNECT_TIMEOUT_S,
        "application_name": options.application_name,
        # A server that vanished without a word is noticed within a minute, also in the middle of a statement.
        "keepalives": 1,
        "keepalives_idle": 30,
        "keepalives_interval": 10,
        "keepalives_count": 3,
        "tcp_user_timeout": 30_000,
        "options": " ".join([*timeouts, *url.normalized_query.get("options", ())]),
    }
    return {name: value for name, value in arguments.items() if name == "options" or name not in url.query}


def _asyncpg_arguments(options: DatabaseOptions) -> dict[str, Any]:
    # asyncpg sets no keepalives; a limit on every answer does their work.
    patience = None if options.statement_timeout is None else options.statement_timeout.total_seconds() + 5
    return {
        "timeout": _CONNECT_TIMEOUT_S,
        "command_timeout": patience,
        "server_settings": {"application_name": options.application_name, **_timeouts(options)},
    }


def _timeouts(options: DatabaseOptions) -> dict[str, str]:
    limits = {"statement_timeout": options.statement_timeout, "lock_timeout": options.lock_timeout}
    return {name: str(round(limit.total_seconds() * 1000)) for name, limit in limits.items() if limit is not None}


def _leave_read_only(context: ExceptionContext) -> None:
    # After a failover the pool may be full of connections to what is a replica now: they have to be made anew.
    if is_read_only(context.original_exception):
        context.is_disconnect = True


def _prepare_sqlite(connection: DBAPIConnection, _record: object) -> None:
    cursor = connection.cursor()
    for pragma in (
        f"busy_timeout = {_BUSY_TIMEOUT_MS}",
        "journal_mode = WAL",
        "synchronous = FULL",  # in WAL, NORMAL may lose the last commits when the power goes
        "foreign_keys = ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
