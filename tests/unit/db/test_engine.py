import sys
from pathlib import Path

import pytest
from sqlalchemy import make_url

from rindle.db.engine import Database, normalise_url
from rindle.errors import ConfigurationError


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("sqlite:///rindle.db", "sqlite+aiosqlite:///rindle.db"),
        ("sqlite:///data/rindle.db", "sqlite+aiosqlite:///data/rindle.db"),
        ("sqlite:////var/lib/rindle.db", "sqlite+aiosqlite:////var/lib/rindle.db"),
        ("sqlite+aiosqlite:////var/lib/rindle.db", "sqlite+aiosqlite:////var/lib/rindle.db"),
        ("sqlite:///with space and ü.db", "sqlite+aiosqlite:///with space and ü.db"),
        ("sqlite://", "sqlite+aiosqlite://"),
        ("sqlite:///:memory:", "sqlite+aiosqlite:///:memory:"),
        ("postgres://u:p@h/d", "postgresql+psycopg://u:p@h/d"),
        ("postgresql://u:p%40ss@h:6432/d", "postgresql+psycopg://u:p%40ss@h:6432/d"),
        ("postgresql+psycopg://h/d", "postgresql+psycopg://h/d"),
        ("postgresql+asyncpg://h/d", "postgresql+asyncpg://h/d"),
        ("postgresql:///d?host=/run/postgresql", "postgresql+psycopg:///d?host=%2Frun%2Fpostgresql"),
        ("postgresql://h/d?sslmode=require", "postgresql+psycopg://h/d?sslmode=require"),
        ("postgresql+asyncpg://h/d?sslmode=require", "postgresql+asyncpg://h/d?ssl=require"),
    ],
)
def test_a_url_gets_the_driver_that_is_used_for_it(given: str, used: str) -> None:
    assert normalise_url(given) == make_url(used)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "rindle.db",
        "/var/lib/rindle.db",
        "mysql://u:secret@h/d",
        "postgresql+psycopg2://u:secret@h/d",
        "sqlite+pysqlite:///rindle.db",
        "postgresql://u:secret@h:port/d",
    ],
)
def test_what_rindle_cannot_use_is_refused_with_what_it_can_and_without_the_password(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"sqlite:///.* or postgresql\+asyncpg://") as caught:
        normalise_url(url)

    assert "secret" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_a_sqlite_url_with_two_slashes_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="three slashes"):
        normalise_url("sqlite://rindle.db")


@pytest.mark.parametrize(
    ("url", "driver", "extra"),
    [
        ("postgresql://h/d", "psycopg", "postgres"),
        ("postgresql+asyncpg://h/d", "asyncpg", "asyncpg"),
    ],
)
def test_a_missing_driver_is_told_with_the_extra_to_install(
    url: str, driver: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, driver, None)

    with pytest.raises(ConfigurationError, match=rf"pip install 'rindle-uploads\[{extra}\]'"):
        Database(url)


def test_a_sqlite_database_in_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no/such, is not there; make it"):
        Database(f"sqlite:///{tmp_path}/no/such/rindle.db")


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_a_database_in_memory_says_so(url: str) -> None:
    assert Database(url).in_memory


@pytest.mark.parametrize("url", ["sqlite:///rindle.db", "postgresql:///d", "postgresql://"])
def test_other_databases_are_not_in_memory(url: str) -> None:
    assert not Database(url).in_memory
