from collections.abc import AsyncIterator

import pytest

from rindle.db.engine import Database
from rindle.db.schema import SCHEMA_REVISION, classify, create_schema, require_schema, schema_state
from rindle.errors import ConfigurationError


@pytest.fixture
async def database() -> AsyncIterator[Database]:
    database = Database("sqlite://")
    yield database
    await database.aclose()


def test_a_database_without_revisions_is_empty() -> None:
    assert classify([]) == "empty"


def test_a_revision_that_nobody_knows_is_newer_even_beside_a_known_one() -> None:
    assert classify(["9999"]) == "newer"
    assert classify([SCHEMA_REVISION, "9999"]) == "newer"


async def test_a_database_in_memory_can_be_made_at_once(database: Database) -> None:
    assert await schema_state(database) == "empty"
    with pytest.raises(ConfigurationError):
        await require_schema(database)

    await create_schema(database)

    assert await schema_state(database) == "current"
    await require_schema(database)
