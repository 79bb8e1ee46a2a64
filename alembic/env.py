"""Runs the migrations on one database, whichever it is, so that two upgrades at once do no harm.

The database comes from ``rindle db ...`` (rindle.db.migrate) or, with alembic's own command, from ``-x url=...``.
"""

import asyncio

from alembic import context
from sqlalchemy import Connection, func, select

from rindle.db.engine import Database, DatabaseOptions
from rindle.db.models import metadata
from rindle.db.schema import VERSION_TABLE
from rindle.errors import ConfigurationError

_OPTIONS = DatabaseOptions(pool_size=1, statement_timeout=None, lock_timeout=None, application_name="rindle-migrations")
_ADVISORY_LOCK = int.from_bytes(b"rindle", "big")


def _find_url() -> str:
    url = context.config.attributes.get("url") or context.get_x_argument(as_dictionary=True).get("url")
    if not url:
        msg = "say which database: alembic -x url=postgresql://... upgrade head"
        raise ConfigurationError(msg)
    return str(url)


async def _migrate(url: str) -> None:
    database = Database(url, _OPTIONS)
    try:
        async with database.engine.connect() as connection:
            if database.dialect == "postgresql":
                await connection.execution_options(isolation_level="READ COMMITTED")
                await connection.run_sync(_on_postgresql)
            else:
                await connection.run_sync(_on_sqlite)
    finally:
        await database.aclose()


def _on_postgresql(connection: Connection) -> None:
    """Each migration is a transaction. The lock ends with the connection, which must not go through a pooler."""
    connection.execute(select(func.pg_advisory_lock(_ADVISORY_LOCK)))
    # A migration that waits for a table makes all that come after it wait, too: better that it fails soon.
    connection.exec_driver_sql("SET lock_timeout = '2s'")
    connection.commit()
    _configure(connection)
    with context.begin_transaction():
        context.run_migrations()


def _on_sqlite(connection: Connection) -> None:
    """All migrations are one transaction, begun by hand, since Python's driver would commit at every DDL statement."""
    # Batch mode copies a table and drops the old one: with foreign keys on, the rows that refer to it would go, too.
    connection.exec_driver_sql("PRAGMA foreign_keys = OFF")
    connection.exec_driver_sql("BEGIN IMMEDIATE")
    _configure(connection)
    context.run_migrations()
    broken = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
    if broken:
        msg = f"a migration left rows without the rows they refer to, nothing was changed: {broken}"
        raise RuntimeError(msg)
    connection.exec_driver_sql("COMMIT")


def _configure(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=metadata,
        version_table=VERSION_TABLE,
        transaction_per_migration=True,
        render_as_batch=connection.dialect.name == "sqlite",
        include_name=_is_ours,
    )


def _is_ours(name: str | None, kind: str, _parents: object) -> bool:
    return kind != "table" or name in metadata.tables


asyncio.run(_migrate(_find_url()))
