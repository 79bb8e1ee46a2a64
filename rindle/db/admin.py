"""What operators ask of the records, and no server does: lists with filters, nodes, events."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Integer, Row, Select, Text, bindparam, case, func, literal, select, text, update
from sqlalchemy.sql.elements import ColumnElement

from rindle.db.engine import Database
from rindle.db.leases import given
from rindle.db.models import UNFINISHED, in_states, nodes, outbox, uploads
from rindle.db.models import parts as part_rows
from rindle.db.rows import UPLOAD_COLUMNS, to_node, to_part, to_upload
from rindle.db.sql import TextList, any_of, db_now
from rindle.uploads.model import Part, Upload, UploadState
from rindle.uploads.ports import Node

_row = uploads.c
_PAGE = 1000

_SIZE = func.coalesce(_row.upload_length, _row.upload_offset)
_COLUMNS = (
    *UPLOAD_COLUMNS,
    _row.lease_until,
    _row.state_changed_at,
    _row.retry_at,
    _row.failures,
    _row.failure,
)
_FIND = select(*_COLUMNS).where(_row.id == bindparam("given_id", type_=Text()))
_FIND_EVENTS = (
    select(outbox)
    .where(outbox.c.id > bindparam("given_after", type_=outbox.c.id.type))
    .order_by(outbox.c.id)
    .limit(bindparam("given_limit", type_=Integer()))
)
_RETIRE = (
    update(nodes)
    .where(nodes.c.id == bindparam("given_id", type_=Text()))
    .values(retired_at=func.coalesce(nodes.c.retired_at, db_now()))
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """An upload with what only operators want to know.

    ``retry_at``: before that the reaper leaves it alone, because it failed ``failures`` times, the last time for the
    reason ``failure``, or because somebody is at it.
    """

    upload: Upload
    state_changed_at: datetime
    lease_until: datetime | None
    retry_at: datetime | None
    failures: int
    failure: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which uploads; whatever is None does not matter. Ages are those of the making, sizes bytes."""

    states: Sequence[UploadState] = ()
    owner: str | None = None
    usecase: str | None = None
    key_prefix: str | None = None
    older_than: timedelta | None = None
    younger_than: timedelta | None = None
    larger_than: int | None = None
    smaller_than: int | None = None
    tail_node: str | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """As SQL."""
        wanted: list[ColumnElement[bool]] = []
        if self.states:
            wanted.append(any_of(_row.state, literal([str(state) for state in self.states], TextList())))
        for column, value in (
            (_row.owner, self.owner),
            (_row.usecase, self.usecase),
            (_row.tail_node, self.tail_node),
        ):
            if value is not None:
                wanted.append(column == value)
        if self.key_prefix is not None:
            wanted.append(func.coalesce(_row.key, "").startswith(self.key_prefix, autoescape=True))
        if self.older_than is not None:
            wanted.append(_row.created_at <= select(db_now(-self.older_than)).scalar_subquery())
        if self.younger_than is not None:
            wanted.append(_row.created_at >= select(db_now(-self.younger_than)).scalar_subquery())
        if self.larger_than is not None:
            wanted.append(self.larger_than <= _SIZE)
        if self.smaller_than is not None:
            wanted.append(self.smaller_than >= _SIZE)
        return wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event as it was recorded."""

    id: int
    created_at: datetime
    payload: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRecord:
    """A node; ``age``: how long ago it was heard of; the uploads whose tails lie on it, and their bytes."""

    node: Node
    age: timedelta
    tails: int
    tail_bytes: int


class UploadAdmin:
    """Questions about all uploads, and the few changes that only an operator makes. The database stays the caller's.

    DatabaseUnavailableError when there is no answer.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, upload_id: str) -> Record | None:
        """All that is recorded of one upload."""
        rows = await self._database.read(_FIND, given(id=upload_id))
        return _to_record(rows[0]) if rows else None

    async def list(self, wanted: Filter, *, limit: int | None = None) -> AsyncIterator[Record]:
        """Uploads by their ids, oldest first, fetched page by page as they are read; at most ``limit``."""
        after = ""
        while limit is None or limit > 0:
            size = _PAGE if limit is None else min(limit, _PAGE)
            page = select(*_COLUMNS).where(_row.id > after, *wanted.conditions()).order_by(_row.id).limit(size)
            rows = await self._database.read(page)
            for row in rows:
                yield _to_record(row)
            if len(rows) < size:
                return
            after = rows[-1].id
            limit = None if limit is None else limit - size

    async def find_failing(self, *, limit: int) -> Sequence[Record]:
        """Uploads whose finishing or removal failed, at most ``limit``, by their ids."""
        failing = select(*_COLUMNS).where(_row.failures > 0, in_states(UNFINISHED)).order_by(_row.id).limit(limit)
        return [_to_record(row) for row in await self._database.read(failing)]

    async def now(self) -> datetime:
        """The database's clock."""
        instant: datetime = (await self._database.read(select(db_now().label("now"))))[0].now
        return instant

    async def find_commit_mode(self) -> str | None:
        """What PostgreSQL's synchronous_commit is for us; None where there is no such thing."""
        if self._database.dialect != "postgresql":
            return None
        return str((await self._database.read(text("SHOW synchronous_commit")))[0][0])

    async def count(self, wanted: Filter) -> Mapping[UploadState, tuple[int, int]]:
        """By state: how many, and how many bytes they hold."""
        number, size = func.count().label("number"), func.sum(_row.upload_offset).label("size")
        counting = select(_row.state, number, size).where(*wanted.conditions()).group_by(_row.state)
        rows = await self._database.read(counting)
        return {UploadState(row.state): (row.number, int(row.size)) for row in rows}

    async def extend(self, upload_id: str, lives: timedelta) -> datetime | None:
        """Let an upload live so long from now, or longer if it would anyway; when it expires then.

        None, and nothing is changed, if it is not there or not ACTIVE, or never expires.
        """
        rows = await self._database.write(
            update(uploads)
            .where(_row.id == upload_id, _row.state == UploadState.ACTIVE.value, _row.expires_at.is_not(None))
            .values(expires_at=case((_row.expires_at > db_now(lives), _row.expires_at), else_=db_now(lives)))
            .returning(_row.expires_at)
        )
        return rows[0].expires_at if rows else None

    async def nodes(self) -> Sequence[NodeRecord]:
        """All nodes, the last heard of first."""
        tails = (
            select(_row.tail_node, func.count().label("tails"), func.sum(_row.tail_length).label("tail_bytes"))
            .where(_row.tail_node.is_not(None))
            .group_by(_row.tail_node)
            .subquery()
        )
        listed: Select[Any] = (
            select(nodes, tails.c.tails, tails.c.tail_bytes, db_now().label("now"))
            .outerjoin(tails, tails.c.tail_node == nodes.c.id)
            .order_by(nodes.c.seen_at.desc(), nodes.c.id)
        )
        return [
            NodeRecord(
                node=to_node(row),
                age=row.now - row.seen_at,
                tails=row.tails or 0,
                tail_bytes=int(row.tail_bytes or 0),
            )
            for row in await self._database.read(listed)
        ]

    async def retire(self, node: str) -> None:
        """Declare the tails of a node gone for good. Uploads that rest on them end, or rewind where that is allowed."""
        await self._database.write(_RETIRE, given(id=node))

    async def parts_of(self, upload_id: str) -> Sequence[Part]:
        """The committed parts of an upload, by number."""
        found = select(part_rows).where(part_rows.c.upload_id == upload_id).order_by(part_rows.c.part_number)
        return [to_part(row) for row in await self._database.read(found)]

    async def events(self, *, after: int, limit: int = _PAGE) -> Sequence[Event]:
        """The events that were recorded after this one, in order."""
        rows = await self._database.read(_FIND_EVENTS, given(after=after, limit=limit))
        return [Event(id=row.id, created_at=row.created_at, payload=row.payload) for row in rows]

    async def last_event(self) -> int:
        """The newest event's id; 0 if there is none."""
        rows = await self._database.read(select(func.coalesce(func.max(outbox.c.id), 0)))
        return int(rows[0][0])

    async def events_of(self, upload_id: str) -> Sequence[Event]:
        """The events of one upload, in order. It looks through all that are kept: not for servers."""
        rows = await self._database.read(select(outbox).where(outbox.c.upload_id == upload_id).order_by(outbox.c.id))
        return [Event(id=row.id, created_at=row.created_at, payload=row.payload) for row in rows]


def _to_record(row: Row[Any]) -> Record:
    return Record(
        upload=to_upload(row),
        state_changed_at=row.state_changed_at,
        lease_until=row.lease_until,
        retry_at=row.retry_at,
        failures=row.failures,
        failure=row.failure,
    )
