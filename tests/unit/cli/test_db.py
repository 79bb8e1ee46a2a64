import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from rindle.cli.db import db
from rindle.db.schema import SCHEMA_REVISION
from rindle.errors import ConfigurationError


def run(*arguments: str | Path) -> str:
    result = CliRunner().invoke(db, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_from_nothing_to_the_newest(empty_sqlite_url: str) -> None:
    assert run("current", "--database", empty_sqlite_url) == "none\n"
    assert run("upgrade", "--database", empty_sqlite_url) == f"upgraded from nothing to {SCHEMA_REVISION}\n"
    assert run("upgrade", "--database", empty_sqlite_url) == f"already at {SCHEMA_REVISION}\n"
    assert run("current", "--database", empty_sqlite_url) == f"{SCHEMA_REVISION}\n"
    assert run("check", "--database", empty_sqlite_url) == "the schema is up to date\n"


def test_an_upgrade_makes_the_data_folder(tmp_path: Path) -> None:
    assert run("upgrade", "--data", tmp_path / "new" / "data").startswith("upgraded")
    assert (tmp_path / "new" / "data" / "rindle.db").exists()


def test_an_upgrade_makes_no_folder_that_is_not_its_own(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is not there; make it"):
        run("upgrade", "--data", tmp_path / "data", "--database", f"sqlite:///{tmp_path}/other/rindle.db")
    assert list(tmp_path.iterdir()) == []


def test_a_schema_that_is_missing(empty_sqlite_url: str) -> None:
    with pytest.raises(ConfigurationError, match="run `rindle db upgrade`"):
        run("check", "--database", empty_sqlite_url)


@pytest.mark.parametrize("command", ["upgrade", "check"])
def test_a_schema_of_a_newer_rindle(sqlite_url: str, command: str) -> None:
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as connection, connection:
        connection.execute("UPDATE rindle_schema SET version_num = '9999'")
    with pytest.raises(ConfigurationError, match="newer than this rindle"):
        run(command, "--database", sqlite_url)
    assert run("current", "--database", sqlite_url) == "9999\n"


def test_a_schema_that_was_changed_by_hand(sqlite_url: str) -> None:
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as connection, connection:
        connection.execute("ALTER TABLE rindle_uploads ADD COLUMN extra TEXT")
    with pytest.raises(ConfigurationError, match="changed by hand"):
        run("check", "--database", sqlite_url)
