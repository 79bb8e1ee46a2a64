"""Which schema a database has, asked without alembic."""

from typing import Literal

from sqlalchemy import column, insert, select, table, text
from sqlalchemy.ext.asyncio import AsyncConnection

from rindle.db.engine import Database
from rindle.db.errors import SchemaMissingError
from rindle.db.models import metadata
from rindle.errors import ConfigurationError

REVISIONS = ("0001",)
"""The migrations, oldest first."""

SCHEMA_REVISION = REVISIONS[-1]

VERSION_TABLE = "rindle_schema"
"""Where the revision stands. All names begin with rindle's, so that a database can be shared with an app."""

SchemaState = Literal["empty", "behind", "current", "newer"]

_VERSIONS = table(VERSION_TABLE, column("version_num"))

_MENDS = {
    "empty": "the database has no schema yet: run `rindle db upgrade`",
    "behind": "the database schema is older than this rindle: run `rindle db upgrade`",
    "newer": (
        f"the database schema is newer than this rindle (which knows {SCHEMA_REVISION}): "
        "upgrade rindle, or restore the database from before its upgrade"
    ),
}


def classify(revisions: list[str]) -> SchemaState:
    """What the rows of the version table mean. A revision that this rindle does not know was made by a later one."""
    if not revisions:
        return "empty"
    if not set(revisions) <= set(REVISIONS):
        return "newer"
    return "current" if SCHEMA_REVISION in revisions else "behind"


def refuse(state: SchemaState) -> None:
    """ConfigurationError, with the mend, unless the schema is current."""
    if state != "current":
        raise ConfigurationError(_MENDS[state])


async def find_revisions(database: Database) -> list[str]:
    """The revision of this database, in a list: empty when there is no schema."""
    try:
        rows = await database.read(select(_VERSIONS))
    except SchemaMissingError:
        return []
    return [row.version_num for row in rows]


async def schema_state(database: Database) -> SchemaState:
    """How the schema of this database stands to this rindle. DatabaseUnavailableError if there is no answer."""
    return classify(await find_revisions(database))


async def require_schema(database: Database) -> None:
    """ConfigurationError, with the mend, unless the schema of this database is this rindle's."""
    refuse(await schema_state(database))


async def create_schema(database: Database) -> None:
    """Make all tables at once: for a database in memory, which no migration can reach."""

    async def work(connection: AsyncConnection) -> None:
        await connection.run_sync(metadata.create_all)
        await connection.execute(text(f"CREATE TABLE {VERSION_TABLE} (version_num TEXT PRIMARY KEY)"))
        await connection.execute(insert(_VERSIONS).values(version_num=SCHEMA_REVISION))

    await database.transaction(work)
