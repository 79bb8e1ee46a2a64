"""What goes wrong in the database, said in rindle's words: the one place where that is decided."""

from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from rindle.errors import ConfigurationError, RindleError
from rindle.uploads.errors import DatabaseUnavailableError, DuplicateUploadError, RepositoryError

_DRIVERS = frozenset({"sqlalchemy", "psycopg", "asyncpg", "aiosqlite", "sqlite3"})

_READ_ONLY = "25006"
# PostgreSQL: connection, resources, operator intervention, system; then read-only (a replica after a failover), not
# authorized or no such database (rotated, or not there yet), a database that takes no connections, lock_timeout,
# serialization failure and deadlock.
_UNAVAILABLE_CLASSES = ("08", "53", "57", "58")
_UNAVAILABLE = frozenset({_READ_ONLY, "28000", "28P01", "3D000", "55000", "55P03", "40001", "40P01"})
_CONFLICTS = frozenset({"40001", "40P01"})
_UNIQUE_VIOLATION = "23505"
_MISSING = frozenset({"42P01", "42703"})  # table, column

# SQLite: PERM BUSY LOCKED NOMEM READONLY INTERRUPT IOERR CORRUPT FULL CANTOPEN PROTOCOL NOTADB
_SQLITE_UNAVAILABLE = frozenset({3, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15, 26})
_SQLITE_BUSY = frozenset({5, 6})
_SQLITE_UNIQUE = frozenset({1555, 2067})  # extended: PRIMARYKEY, UNIQUE
_SQLITE_MISSING = ("no such table", "no such column", "has no column named")


class SchemaMissingError(ConfigurationError):
    """A table or a column that this rindle needs is not there."""


def is_foreign(error: Exception) -> bool:
    """Whether this came from the database or on the way to it, and not from a mistake of ours."""
    # A driver refuses what does not fit into a column, before it asks the database, with errors of Python's own.
    if isinstance(error, OSError | TimeoutError | OverflowError | UnicodeError):
        return True
    return type(error).__module__.partition(".")[0] in _DRIVERS


def is_conflict(error: Exception) -> bool:
    """Whether the database itself says that nothing was done and that the same may work if tried again."""
    return _sqlstate(error) in _CONFLICTS or _sqlite_code(error) & 0xFF in _SQLITE_BUSY


def is_stale_connection(error: Exception) -> bool:
    """Whether a pooled connection turned out to be dead."""
    return isinstance(error, DBAPIError) and error.connection_invalidated


def is_read_only(error: BaseException) -> bool:
    """Whether the server takes no writes, as a replica does."""
    return _sqlstate(error) == _READ_ONLY


def translate(error: Exception) -> RindleError:
    """The error of rindle's that says this; the caller raises it ``from`` the foreign one."""
    text = first_line(error)
    if _sqlstate(error) == _UNIQUE_VIOLATION or _sqlite_code(error) in _SQLITE_UNIQUE:
        return DuplicateUploadError(f"a row of this id exists: {text}")
    if _sqlstate(error) in _MISSING or any(sign in text for sign in _SQLITE_MISSING):
        return SchemaMissingError(f"the database lacks what this rindle needs ({text}): run `rindle db upgrade`")
    if _is_unavailable(error):
        return DatabaseUnavailableError(f"the database gave no answer: {text}")
    return RepositoryError(f"the database refused a statement: {text}")


def _is_unavailable(error: Exception) -> bool:
    state, code = _sqlstate(error), _sqlite_code(error)
    if state:
        return state in _UNAVAILABLE or state.startswith(_UNAVAILABLE_CLASSES)
    if code:
        return code & 0xFF in _SQLITE_UNAVAILABLE
    # No code: the failure was met on this side of the wire.
    return is_stale_connection(error) or isinstance(error, OSError | TimeoutError | OperationalError | PoolTimeoutError)


def _sqlstate(error: BaseException) -> str:
    return getattr(_original(error), "sqlstate", None) or ""


def _sqlite_code(error: Exception) -> int:
    return getattr(_original(error), "sqlite_errorcode", None) or 0


def _original(error: BaseException) -> BaseException:
    return error.orig if isinstance(error, StatementError) and error.orig is not None else error


def first_line(error: Exception) -> str:
    """What may be logged of an error: the lines after it are the driver's DETAIL, values that clients have sent."""
    original = _original(error)
    if isinstance(original, SQLAlchemyError):
        return type(original).__name__
    return str(original).partition("\n")[0] or type(original).__name__
