import sqlite3
from collections.abc import Callable
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]
import psycopg
import pytest
from sqlalchemy.exc import DBAPIError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from rindle.db.errors import SchemaMissingError, is_conflict, is_foreign, is_stale_connection, translate
from rindle.errors import ConfigurationError, RindleError
from rindle.uploads.errors import DatabaseUnavailableError, DuplicateUploadError, RepositoryError


def from_psycopg(sqlstate: str, message: str = "said the server") -> Exception:
    return wrapped(psycopg.errors.lookup(sqlstate)(message))


def from_asyncpg(sqlstate: str, message: str = "said the server") -> Exception:
    error: Exception = asyncpg.PostgresError.new({"C": sqlstate, "M": message})
    return error  # as it comes when connecting: not wrapped


def from_sqlite(*statements: str) -> Exception:
    connection = sqlite3.connect(":memory:")
    try:
        for statement in statements:
            connection.execute(statement)
    except sqlite3.Error as error:
        return wrapped(error)
    finally:
        connection.close()
    raise AssertionError(statements)


def wrapped(error: Exception, *, invalidated: bool = False) -> Exception:
    return DBAPIError(
        "SELECT secret", {"given": "secret"}, error, hide_parameters=True, connection_invalidated=invalidated
    )


@pytest.mark.parametrize("make", [from_psycopg, from_asyncpg])
@pytest.mark.parametrize(
    ("sqlstate", "expected"),
    [
        ("23505", DuplicateUploadError),
        ("42P01", SchemaMissingError),
        ("42703", SchemaMissingError),
        ("08006", DatabaseUnavailableError),
        ("08P01", DatabaseUnavailableError),
        ("25006", DatabaseUnavailableError),
        ("28P01", DatabaseUnavailableError),
        ("3D000", DatabaseUnavailableError),
        ("40001", DatabaseUnavailableError),
        ("40P01", DatabaseUnavailableError),
        ("53300", DatabaseUnavailableError),
        ("55000", DatabaseUnavailableError),
        ("55P03", DatabaseUnavailableError),
        ("57014", DatabaseUnavailableError),
        ("57P01", DatabaseUnavailableError),
        ("57P03", DatabaseUnavailableError),
        ("58030", DatabaseUnavailableError),
        ("22003", RepositoryError),
        ("23503", RepositoryError),
        ("23514", RepositoryError),
        ("42501", RepositoryError),
        ("42601", RepositoryError),
    ],
)
def test_each_error_of_postgresql_has_a_meaning(
    make: Callable[[str], Exception], sqlstate: str, expected: type[RindleError]
) -> None:
    error = make(sqlstate)

    assert is_foreign(error)
    assert type(translate(error)) is expected


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        (["SELECT * FROM nowhere"], SchemaMissingError),
        (["CREATE TABLE t (a)", "SELECT b FROM t"], SchemaMissingError),
        (["CREATE TABLE t (a)", "INSERT INTO t (b) VALUES (1)"], SchemaMissingError),
        (["CREATE TABLE t (a PRIMARY KEY)", "INSERT INTO t VALUES (1), (1)"], DuplicateUploadError),
        (["CREATE TABLE t (a INTEGER PRIMARY KEY)", "INSERT INTO t VALUES (1), (1)"], DuplicateUploadError),
        (["CREATE TABLE t (a UNIQUE)", "INSERT INTO t VALUES (1), (1)"], DuplicateUploadError),
        (["CREATE TABLE t (a CHECK (a > 1))", "INSERT INTO t VALUES (1)"], RepositoryError),
        (["CREATE TABLE t (a NOT NULL)", "INSERT INTO t VALUES (NULL)"], RepositoryError),
        (["SELECT"], RepositoryError),
        (["ATTACH '/no/such/folder/file' AS other"], DatabaseUnavailableError),
        (["PRAGMA query_only = ON", "CREATE TABLE t (a)"], DatabaseUnavailableError),
    ],
)
def test_each_error_of_sqlite_has_a_meaning(statements: list[str], expected: type[RindleError]) -> None:
    error = from_sqlite(*statements)

    assert is_foreign(error)
    assert type(translate(error)) is expected


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError("refused"),
        TimeoutError(),
        PoolTimeoutError("no connection free"),
        wrapped(psycopg.OperationalError("server closed the connection unexpectedly"), invalidated=True),
        wrapped(psycopg.InterfaceError("the connection is closed"), invalidated=True),
    ],
)
def test_no_answer_is_unavailable(error: Exception) -> None:
    assert is_foreign(error)
    assert type(translate(error)) is DatabaseUnavailableError


@pytest.mark.parametrize(
    "error",
    [
        OverflowError("int too large"),
        UnicodeEncodeError("utf-8", "\udc80", 0, 1, "surrogates not allowed"),
        StatementError("bad", "SELECT 1", {}, TypeError("instants are made by the database's clock")),
        wrapped(psycopg.DataError("cannot contain NUL")),
    ],
)
def test_what_the_driver_refuses_to_send_is_a_repository_error(error: Exception) -> None:
    assert is_foreign(error)
    assert type(translate(error)) is RepositoryError


@pytest.mark.parametrize("error", [ValueError("ours"), LookupError(), AssertionError(), ConfigurationError("ours")])
def test_our_own_errors_are_not_translated(error: Exception) -> None:
    assert not is_foreign(error)


def test_a_conflict_is_what_the_database_says_to_try_again() -> None:
    assert is_conflict(from_psycopg("40001"))
    assert is_conflict(from_asyncpg("40P01"))
    assert not is_conflict(from_psycopg("57014"))
    assert not is_conflict(ConnectionRefusedError())
    assert not is_conflict(from_sqlite("SELECT"))


def test_a_locked_sqlite_database_is_a_conflict(tmp_path: Path) -> None:
    holder = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    other = sqlite3.connect(tmp_path / "a.db", timeout=0)
    with pytest.raises(sqlite3.OperationalError) as caught:
        other.execute("BEGIN IMMEDIATE")
    other.close()
    holder.close()

    error = wrapped(caught.value)
    assert is_conflict(error)
    assert type(translate(error)) is DatabaseUnavailableError


def test_a_dead_connection_is_stale() -> None:
    assert is_stale_connection(wrapped(psycopg.OperationalError(), invalidated=True))
    assert not is_stale_connection(wrapped(psycopg.OperationalError()))
    assert not is_stale_connection(ConnectionRefusedError())


def test_a_message_holds_no_statement_no_parameter_and_no_row() -> None:
    error = from_psycopg("23514", 'new row violates "ck_rindle_uploads_offset"\nDETAIL: Failing row contains (secret)')

    assert str(translate(error)) == 'the database refused a statement: new row violates "ck_rindle_uploads_offset"'
    assert "secret" not in str(translate(PoolTimeoutError("secret")))
