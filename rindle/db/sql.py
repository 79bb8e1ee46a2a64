"""The few pieces of SQL that PostgreSQL and SQLite spell differently."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from sqlalchemy import ARRAY, Boolean, DateTime, Dialect, Float, String, Text, TypeDecorator, literal
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.operators import OperatorType
from sqlalchemy.types import TypeEngine
from typing_extensions import override


class Instant(TypeDecorator[datetime]):
    """An aware instant in UTC that only :func:`db_now` makes: Python's clock never reaches a row.

    timestamptz on PostgreSQL; on SQLite text of one fixed width (``2026-01-31T23:59:59.123Z``), so that comparing
    texts compares instants.
    """

    impl = Text
    cache_ok = True

    @override
    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(Text() if dialect.name == "sqlite" else DateTime(timezone=True))

    @override
    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        msg = "instants are made by the database's clock, see db_now"
        raise TypeError(msg)

    @override
    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        instant = datetime.fromisoformat(value) if isinstance(value, str) else value
        return instant.astimezone(UTC)


class Crc64(TypeDecorator[int]):
    """An unsigned number of 64 bits as 16 hex digits: no database here has such an integer."""

    impl = String(16)
    cache_ok = True

    @override
    def process_bind_param(self, value: int | None, dialect: Dialect) -> str | None:
        return None if value is None else f"{value:016x}"

    @override
    def process_result_value(self, value: str | None, dialect: Dialect) -> int | None:
        return None if value is None else int(value, 16)


class TextList(TypeDecorator[Sequence[str]]):
    """Any number of texts as one parameter, for :func:`any_of`: an array on PostgreSQL, JSON on SQLite."""

    impl = Text
    cache_ok = True

    @override
    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(Text() if dialect.name == "sqlite" else ARRAY(Text()))

    @override
    def process_bind_param(self, value: Sequence[str] | None, dialect: Dialect) -> str | Sequence[str] | None:
        return json.dumps(value) if dialect.name == "sqlite" else value


class _Now(FunctionElement[datetime]):
    name = "db_now"
    type = Instant()
    inherit_cache = True


class _Notify(FunctionElement[str]):
    name = "notify"
    type = Text()
    inherit_cache = True


class _AnyOf(FunctionElement[bool]):
    name = "any_of"
    type = Boolean()
    inherit_cache = True

    @override
    def self_group(self, against: OperatorType | None = None) -> Self:
        return self  # else SQLite gets "(... IN ...) = 1", for which it uses no index


def db_now(offset: timedelta | None = None) -> ColumnElement[datetime]:
    """The database's clock at the moment of evaluation, moved by ``offset``."""
    return _Now() if offset is None else _Now(literal(offset.total_seconds(), Float()))


def any_of(column: ColumnElement[str], texts: ColumnElement[Sequence[str]]) -> ColumnElement[bool]:
    """Whether the column is one of the texts: one statement and one parameter, however many there are."""
    return _AnyOf(column, texts)


def notify(channel: str, payload: ColumnElement[str]) -> ColumnElement[str]:
    """Tell whoever listens on the channel, when the transaction is committed. On SQLite nobody can: nothing."""
    return _Notify(literal(channel), payload)


@compiles(_Now, "postgresql")
def _now_on_postgresql(element: _Now, compiler: SQLCompiler, **kwargs: object) -> str:
    if not len(element.clauses):
        return "clock_timestamp()"
    return f"(clock_timestamp() + make_interval(secs => {compiler.process(element.clauses, **kwargs)}))"


@compiles(_Now, "sqlite")
def _now_on_sqlite(element: _Now, compiler: SQLCompiler, **kwargs: object) -> str:
    if not len(element.clauses):
        return "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')"
    seconds = compiler.process(element.clauses, **kwargs)
    return f"strftime('%Y-%m-%dT%H:%M:%fZ', 'now', printf('%.3f seconds', {seconds}))"


@compiles(_Notify, "postgresql")
def _notify_on_postgresql(element: _Notify, compiler: SQLCompiler, **kwargs: object) -> str:
    return f"pg_notify({compiler.process(element.clauses, **kwargs)})"


@compiles(_Notify, "sqlite")
def _notify_on_sqlite(_element: _Notify, _compiler: SQLCompiler, **_kwargs: object) -> str:
    return "NULL"


@compiles(_AnyOf, "postgresql")
def _any_of_on_postgresql(element: _AnyOf, compiler: SQLCompiler, **kwargs: object) -> str:
    column, texts = (compiler.process(clause, **kwargs) for clause in element.clauses)
    return f"({column} = ANY ({texts}))"


@compiles(_AnyOf, "sqlite")
def _any_of_on_sqlite(element: _AnyOf, compiler: SQLCompiler, **kwargs: object) -> str:
    column, texts = (compiler.process(clause, **kwargs) for clause in element.clauses)
    return f"({column} IN (SELECT value FROM json_each({texts})))"  # noqa: S608 - both are parameters
