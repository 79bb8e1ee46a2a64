"""The compare-and-set that every change of an upload is.

On PostgreSQL the update, its part rows and its events are one statement; on SQLite, and where a concatenation lets go
of its sources, they are one transaction.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import ARRAY, CTE, Executable, Row, bindparam, column, func, insert, null, select, true, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.dml import ReturningUpdate

from rindle.db.engine import Database
from rindle.db.leases import TELL_RELEASED, slide_expiry
from rindle.db.models import parts as part_rows
from rindle.db.models import uploads
from rindle.db.outbox import INSERT_EVENTS, event_arrays, event_rows, insert_events_after
from rindle.db.pins import unpin_sources
from rindle.db.rows import EXPIRED, check_commit, mutable_values
from rindle.db.sql import db_now
from rindle.uploads.errors import DuplicateUploadError, StaleUploadError
from rindle.uploads.model import EventType, Part, Upload, UploadState

_CONCATENATION = frozenset({UploadState.CONCATENATING, UploadState.FINALIZING})

# Together the whole predecessor state: with less, a database that fell back to an older state (a failover to a
# replica that lagged) or a holder that was taken for dead could be written over.
_COMPARED = ("id", "state", "upload_offset", "part_count", "generation", "pins")
_COMPARED_OR_NULL = ("lease_token", "multipart_id", "tail_name")


class Shape(NamedTuple):
    """What the statement of a commit is made of; commits of one shape differ in parameters only."""

    columns: tuple[str, ...]
    lease_ttl: timedelta | None
    expires_in: timedelta | None
    ends_expiry: bool
    parts: bool = False
    events: bool = False


class Commit:
    """Make ``before`` into ``after``, as :class:`rindle.uploads.ports.UploadRepository` promises."""

    def __init__(
        self,
        before: Upload,
        after: Upload,
        *,
        parts: Sequence[Part],
        events: Sequence[EventType],
        lease_ttl: timedelta,
        expires_in: timedelta | None,
    ) -> None:
        """ValueError if ``after`` changes what no commit changes."""
        check_commit(before, after)
        self._before = before
        self._after = after
        self._parts = parts
        self._events = events
        old, new = mutable_values(before), mutable_values(after)
        changed = tuple(name for name in new if new[name] != old[name])
        self._shape = Shape(
            columns=changed,
            lease_ttl=lease_ttl if after.lease is not None else None,
            expires_in=expires_in if after.state is UploadState.ACTIVE else None,
            ends_expiry=after.state is UploadState.COMPLETE and not after.partial,
        )
        old |= {"id": before.id, "generation": before.generation, "pins": before.pins}
        self._parameters = {f"old_{name}": old[name] for name in (*_COMPARED, *_COMPARED_OR_NULL)}
        self._parameters |= {f"new_{name}": new[name] for name in changed}

    async def run(self, database: Database) -> Upload:
        """Do it. StaleUploadError if the row is not ``before``; then nothing was changed."""
        try:
            if database.dialect == "postgresql" and not self._unpins:
                rows = await database.write(*self._in_one_statement())
            elif self._parts or self._events or self._unpins:
                rows = await database.transaction(self._in_one_transaction)
            else:
                rows = await database.write(update_if_unchanged(self._shape), self._parameters)
        except DuplicateUploadError as error:
            msg = f"upload {self._before.id} has a part of this number already"
            raise StaleUploadError(msg) from error
        if not rows:
            raise StaleUploadError(f"upload {self._before.id} is not in the state that was to be changed")
        return self._result(rows[0])

    @property
    def _unpins(self) -> bool:
        before, after = self._before, self._after
        return before.is_final and before.state in _CONCATENATION and after.state not in _CONCATENATION

    def _in_one_statement(self) -> tuple[Executable, dict[str, Any]]:
        parameters = dict(self._parameters)
        if self._parts:
            parameters |= _part_arrays(self._parts)
        if self._events:
            parameters |= event_arrays(self._after, self._events)
        return commit_at_once(self._shape._replace(parts=bool(self._parts), events=bool(self._events))), parameters

    async def _in_one_transaction(self, connection: AsyncConnection) -> Sequence[Row[Any]]:
        rows: Sequence[Row[Any]] = (await connection.execute(update_if_unchanged(self._shape), self._parameters)).all()
        if not rows:
            return rows
        if self._parts:
            await connection.execute(insert(part_rows), _part_rows(self._before.id, self._parts))
        if self._events:
            await connection.execute(INSERT_EVENTS, event_rows(self._after, self._events))
        if self._unpins:
            await unpin_sources(connection, self._before.id)
        return rows

    def _result(self, row: Row[Any]) -> Upload:
        after = self._after
        return replace(
            after,
            generation=self._before.generation + 1,
            lease=after.lease and replace(after.lease, live=True, release_requested=row.release_requested),
            expires_at=row.expires_at,
            expired=bool(row.expired),
        )


@lru_cache(maxsize=256)
def update_if_unchanged(shape: Shape) -> ReturningUpdate[Any]:
    """The compare-and-set of all commits of one shape; it returns a row if it was done."""
    row = uploads.c
    values: dict[str, Any] = {name: bindparam(f"new_{name}", type_=row[name].type) for name in shape.columns}
    values["generation"] = row.generation + 1
    if shape.lease_ttl is not None:
        values["lease_until"] = db_now(shape.lease_ttl)
    returned = [row.id, row.owner, row.release_requested, row.expires_at, EXPIRED]
    if "lease_token" in shape.columns and shape.lease_ttl is not None:
        values["release_requested"] = False
    elif "lease_token" in shape.columns:
        # What was asked for stays on record until the next claim, for this statement to see.
        values["lease_until"] = null()
        returned.append(TELL_RELEASED.label("told"))
    if "state" in shape.columns:
        values |= {"state_changed_at": db_now(), "retry_at": null(), "failures": 0, "failure": null()}
    values |= {"expires_at": null()} if shape.ends_expiry else slide_expiry(shape.expires_in)
    return (
        update(uploads)
        .where(*(row[name] == bindparam(f"old_{name}", type_=row[name].type) for name in _COMPARED))
        .where(
            *(
                row[name].is_not_distinct_from(bindparam(f"old_{name}", type_=row[name].type))
                for name in _COMPARED_OR_NULL
            )
        )
        .values(values)
        .returning(*returned)
    )


@lru_cache(maxsize=256)
def commit_at_once(shape: Shape) -> Executable:
    """The update and the rows that belong to it, in one statement of PostgreSQL's."""
    updated = update_if_unchanged(shape).cte("updated")
    statement = select(updated.c.release_requested, updated.c.expires_at, updated.c.expired)
    if shape.parts:
        statement = statement.add_cte(_insert_parts_after(updated))
    if shape.events:
        statement = statement.add_cte(insert_events_after(updated))
    return statement


_PART_COLUMNS = tuple(part_rows.c[name] for name in ("part_number", "size", "e_tag", "crc64nvme"))


def _part_rows(upload_id: str, parts: Sequence[Part]) -> list[dict[str, Any]]:
    return [{"upload_id": upload_id, **{c.name: getattr(part, c.name) for c in _PART_COLUMNS}} for part in parts]


def _part_arrays(parts: Sequence[Part]) -> dict[str, Any]:
    return {f"part_{c.name}s": [getattr(part, c.name) for part in parts] for c in _PART_COLUMNS}


def _insert_parts_after(updated: CTE) -> CTE:
    arrays = (bindparam(f"part_{c.name}s", type_=ARRAY(c.type)) for c in _PART_COLUMNS)
    parts = (
        func.unnest(*arrays)
        .table_valued(*(column(c.name, c.type) for c in _PART_COLUMNS))
        .render_derived(name="new_parts")
    )
    rows = select(updated.c.id, *parts.c).select_from(updated.join(parts, true()))
    return insert(part_rows).from_select(["upload_id", *parts.c.keys()], rows).cte("inserted_parts")
