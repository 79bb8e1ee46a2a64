import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import text

from rindle.db import migrate
from rindle.db.engine import Database
from rindle.db.models import metadata
from rindle.db.schema import REVISIONS, SCHEMA_REVISION, SchemaState, create_schema, require_schema, schema_state
from rindle.errors import ConfigurationError
from rindle.uploads.errors import DatabaseUnavailableError

_ROOT = Path(migrate.__file__).parents[2]

# What a schema is made of, as the database itself describes it.
_POSTGRES_SCHEMA = """
    SELECT 'column', table_name, column_name,
           concat_ws(' ', data_type, character_maximum_length, is_nullable, column_default, identity_generation)
    FROM information_schema.columns WHERE table_schema = 'public'
    UNION ALL SELECT 'index', tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
    UNION ALL SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid)
    FROM pg_constraint WHERE connamespace = 'public'::regnamespace
    UNION ALL SELECT 'options', relname, '', array_to_string(reloptions, ',')
    FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
"""
_SQLITE_SCHEMA = "SELECT type, tbl_name, name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'"


@pytest.fixture(params=["sqlite", "psycopg", "asyncpg"])
def empty_url(request: pytest.FixtureRequest) -> str:
    if request.param == "sqlite":
        return str(request.getfixturevalue("empty_sqlite_url"))
    return str(request.getfixturevalue("empty_postgres_url")).replace("psycopg", request.param)


def on_database(url: str, work: Callable[[Database], Any]) -> Any:
    async def run() -> Any:
        database = Database(url)
        try:
            return await work(database)
        finally:
            await database.aclose()

    return asyncio.run(run())


def execute(url: str, statement: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in on_database(url, lambda database: database.write(text(statement)))]


def describe(url: str) -> set[tuple[Any, ...]]:
    rows = execute(url, _SQLITE_SCHEMA if url.startswith("sqlite") else _POSTGRES_SCHEMA)
    return {tuple(" ".join(str(value).split()) for value in row) for row in rows if row[1] != "rindle_schema"}


def state(url: str) -> SchemaState:
    found: SchemaState = on_database(url, schema_state)
    return found


def require(url: str) -> None:
    on_database(url, require_schema)


def test_the_migrations_are_one_line_and_the_schema_module_knows_them() -> None:
    scripts = ScriptDirectory.from_config(migrate.alembic_config("sqlite://"))

    assert scripts.get_heads() == [SCHEMA_REVISION]
    assert [script.revision for script in scripts.walk_revisions()][::-1] == list(REVISIONS)


def test_no_package_in_the_migrations_shadows_alembic() -> None:
    assert not list((_ROOT / "alembic").rglob("__init__.py"))


def test_upgrade_down_and_up_again(empty_url: str) -> None:
    migrate.upgrade(empty_url)
    first = describe(empty_url)
    assert {row[1] for row in first} >= set(metadata.tables)

    command.downgrade(migrate.alembic_config(empty_url), "base")
    assert describe(empty_url) == set()
    assert migrate.current(empty_url) is None

    migrate.upgrade(empty_url)
    assert describe(empty_url) == first
    assert migrate.current(empty_url) == SCHEMA_REVISION


def test_the_migrated_schema_is_exactly_what_the_models_describe(empty_url: str) -> None:
    migrate.upgrade(empty_url)
    migrate.check(empty_url)
    migrated = describe(empty_url)
    command.downgrade(migrate.alembic_config(empty_url), "base")
    execute(empty_url, "DROP TABLE rindle_schema")

    on_database(empty_url, create_schema)

    assert describe(empty_url) == migrated
    assert state(empty_url) == "current"


def test_an_upgrade_of_a_current_schema_changes_nothing(empty_url: str) -> None:
    migrate.upgrade(empty_url)
    execute(empty_url, "INSERT INTO rindle_nodes (id, name, seen_at) VALUES ('n', 'host', '2026-01-01T00:00:00.000Z')")

    migrate.upgrade(empty_url)

    assert execute(empty_url, "SELECT id FROM rindle_nodes") == [("n",)]


def test_an_empty_database_is_told_and_how_to_mend_it(empty_url: str) -> None:
    assert migrate.current(empty_url) is None
    assert state(empty_url) == "empty"
    for ask in (migrate.check, require):
        with pytest.raises(ConfigurationError, match="no schema yet: run `rindle db upgrade`"):
            ask(empty_url)


def test_a_current_schema_is_told(empty_url: str) -> None:
    migrate.upgrade(empty_url)

    assert migrate.current(empty_url) == SCHEMA_REVISION
    assert state(empty_url) == "current"
    migrate.check(empty_url)
    require(empty_url)


def test_a_schema_that_a_newer_rindle_made_is_refused_and_left_alone(empty_url: str) -> None:
    migrate.upgrade(empty_url)
    execute(empty_url, "UPDATE rindle_schema SET version_num = '9999'")

    assert migrate.current(empty_url) == "9999"
    assert state(empty_url) == "newer"
    for ask in (migrate.check, migrate.upgrade, require):
        with pytest.raises(ConfigurationError, match=r"newer than this rindle .*: upgrade rindle"):
            ask(empty_url)
    assert migrate.current(empty_url) == "9999"


def test_an_older_schema_is_told_and_how_to_mend_it(empty_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    migrate.upgrade(empty_url)
    monkeypatch.setattr("rindle.db.schema.REVISIONS", (*REVISIONS, "9999"))
    monkeypatch.setattr("rindle.db.schema.SCHEMA_REVISION", "9999")

    assert state(empty_url) == "behind"
    for ask in (migrate.check, require):
        with pytest.raises(ConfigurationError, match="older than this rindle: run `rindle db upgrade`"):
            ask(empty_url)


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE rindle_uploads ADD COLUMN extra INTEGER",
        "DROP INDEX ix_rindle_uploads_expiring",
        "DROP TABLE rindle_nodes",
    ],
)
def test_a_schema_that_was_changed_by_hand_is_told(empty_url: str, change: str) -> None:
    migrate.upgrade(empty_url)
    execute(empty_url, change)

    with pytest.raises(ConfigurationError, match="changed by hand"):
        migrate.check(empty_url)


def test_tables_of_others_in_the_same_database_are_no_change(empty_url: str) -> None:
    execute(empty_url, "CREATE TABLE theirs (id INTEGER PRIMARY KEY)")
    migrate.upgrade(empty_url)

    migrate.check(empty_url)


def test_upgrades_at_the_same_time_wait_for_each_other(empty_url: str) -> None:
    # In processes of their own, for alembic keeps its context in globals; all set off at the same moment.
    program = (
        "import alembic.command, alembic.autogenerate; from rindle.db import migrate\n"
        f"print('ready', flush=True); input(); migrate.upgrade({empty_url!r}); migrate.check({empty_url!r})"
    )
    with ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-W", "error", "-c", program],
                    cwd=_ROOT,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
            for _ in range(4)
        ]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        results = [(*process.communicate(), process.returncode) for process in processes]

    assert results == [("", "", 0)] * 4
    assert state(empty_url) == "current"


def test_an_upgrade_that_fails_leaves_nothing_behind(empty_url: str) -> None:
    execute(empty_url, "CREATE TABLE rindle_outbox (id INTEGER PRIMARY KEY)")

    with pytest.raises(Exception, match="rindle_outbox"):
        migrate.upgrade(empty_url)

    assert {row[1] for row in describe(empty_url)} == {"rindle_outbox"}
    assert migrate.current(empty_url) is None


_REBUILD = """
from alembic import op
import sqlalchemy as sa

revision = "9999"
down_revision = "{head}"


def upgrade() -> None:
    with op.batch_alter_table("rindle_uploads", recreate="auto") as batch:
        batch.alter_column("owner", existing_type=sa.Text(), nullable=True)
"""


def test_a_later_migration_that_rebuilds_a_table_keeps_the_rows_that_refer_to_it(
    empty_url: str, tmp_path: Path
) -> None:
    migrate.upgrade(empty_url)
    execute(
        empty_url,
        "INSERT INTO rindle_uploads (id, owner, state, upload_offset, part_size, part_count, release_requested,"
        " generation, metadata, usecase, partial, pins, untidy, created_at, state_changed_at)"
        " VALUES ('u', 'o', 'active', 0, 1, 1, FALSE, 0,"
        " '', 'default', FALSE, 0, FALSE, '2026-01-01T00:00:00.000Z', '2026-01-01T00:00:00.000Z')",
    )
    execute(empty_url, "INSERT INTO rindle_parts VALUES ('u', 1, 1, 'e', NULL)")
    (tmp_path / "9999_later.py").write_text(_REBUILD.format(head=SCHEMA_REVISION))
    config = migrate.alembic_config(empty_url)
    config.set_main_option("path_separator", "os")
    config.set_main_option("version_locations", f"{_ROOT / 'alembic' / 'versions'}{os.pathsep}{tmp_path}")

    command.upgrade(config, "head")

    assert migrate.current(empty_url) == "9999"
    assert execute(empty_url, "SELECT upload_id, part_number FROM rindle_parts") == [("u", 1)]


def test_a_server_that_is_not_there_is_told(tmp_path: Path) -> None:
    for ask in (migrate.upgrade, migrate.current, migrate.check):
        with pytest.raises(DatabaseUnavailableError):
            ask(f"postgresql://postgres@/rindle?host={tmp_path}")


def test_alembic_itself_works_from_the_checkout(empty_url: str) -> None:
    done = _run(sys.executable, "-m", "alembic", "-x", f"url={empty_url}", "upgrade", "head")
    assert done.returncode == 0, done.stderr
    assert migrate.current(empty_url) == SCHEMA_REVISION

    done = _run(sys.executable, "-m", "alembic", "-x", f"url={empty_url}", "check")
    assert done.returncode == 0, done.stderr


def test_alembic_without_a_database_says_how_to_name_one() -> None:
    done = _run(sys.executable, "-m", "alembic", "upgrade", "head")

    assert done.returncode != 0
    assert "say which database: alembic -x url=" in done.stderr


def test_a_server_that_asks_for_the_schema_does_not_load_alembic() -> None:
    program = (
        "import sys, rindle.db.repository, rindle.db.schema, rindle.db.migrate\n"
        "assert 'alembic' not in sys.modules, 'loaded'"
    )
    done = _run(sys.executable, "-c", program)
    assert done.returncode == 0, done.stderr


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments, check=False, cwd=_ROOT, capture_output=True, text=True)
