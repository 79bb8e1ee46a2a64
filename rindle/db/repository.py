"""The upload repository in SQL: on PostgreSQL for many nodes, on SQLite for the processes of one machine."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, Select, Text, bindparam, insert, null, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.dml import Insert, ReturningInsert
from typing_extensions import override

from rindle.db.chores import (
    FIND_STATES,
    count_due,
    count_purgeable,
    purge_events,
    purge_uploads,
    put_off,
    take_due,
)
from rindle.db.commits import Commit
from rindle.db.engine import Database
from rindle.db.leases import (
    FIND_RELEASE_REQUESTS,
    REFUSE_RELEASE,
    REQUEST_RELEASE,
    claim_statement,
    claim_work_statement,
    given,
    renew_statement,
)
from rindle.db.listening import Listener
from rindle.db.models import FORMAT, marks, nodes, parts, sources, uploads
from rindle.db.outbox import INSERT_EVENTS, event_arrays, event_rows, insert_events_after
from rindle.db.pins import pin_sources
from rindle.db.rows import NEW_COLUMNS, UPLOAD_COLUMNS, new_values, to_node, to_part, to_upload
from rindle.db.sql import TextList, any_of, db_now
from rindle.observability.observer import NOBODY, Observer
from rindle.observability.tracing import span
from rindle.uploads.errors import StaleUploadError
from rindle.uploads.model import EventType, Part, Upload, UploadState
from rindle.uploads.observing import tell
from rindle.uploads.ports import Claim, Due, DueUpload, NewUpload, Node, SignalReceiver, UploadRepository

_ID = bindparam("given_id", type_=uploads.c.id.type)

_FIND = select(*UPLOAD_COLUMNS).where(uploads.c.id == _ID)
_FIND_SOURCES = (
    select(*UPLOAD_COLUMNS)
    .join(sources, sources.c.partial_id == uploads.c.id)
    .where(sources.c.final_id == _ID)
    .order_by(sources.c.position)
)
_FIND_PARTS = select(parts).where(parts.c.upload_id == _ID).order_by(parts.c.part_number)

_FIND_TAIL_NAMES = select(uploads.c.tail_name).where(
    uploads.c.tail_node == bindparam("given_node", type_=uploads.c.tail_node.type),
    any_of(uploads.c.tail_name, bindparam("given_names", type_=TextList())),
)
_NAME = bindparam("given_name", type_=Text())
_REAPED = "reaped"
_FIND_MARK = select(marks).where(marks.c.name == _NAME)
_FIND_NODE = select(nodes).where(nodes.c.id == _ID)


class SqlUploadRepository(UploadRepository):
    """Upload rows in a database whose schema is current. The database stays the caller's to close.

    ``lease_ttl``: how long a lease lives without renewal. ``expires_in``: how long an upload lives without an append;
    None: for ever. ``listener`` hears what others signal; without it nobody does. ``observer`` is told of what is
    committed here.
    """

    def __init__(
        self,
        database: Database,
        *,
        lease_ttl: timedelta,
        expires_in: timedelta | None,
        listener: Listener | None = None,
        observer: Observer = NOBODY,
    ) -> None:
        self._database = database
        self._listener = listener
        self._observer = observer
        self._lease_ttl = lease_ttl
        self._expires_in = expires_in
        self._insert = _insert_upload(expires_in)
        self._insert_with_events = _insert_with_events(self._insert)
        self._claim = claim_statement(lease_ttl, expires_in)
        self._claim_work = claim_work_statement(lease_ttl)
        self._renew = renew_statement(lease_ttl)
        self._beat = _upsert_node(database.dialect)
        self._note = _upsert_mark(database.dialect)

    @override
    async def add(self, new: NewUpload, *, events: Sequence[EventType] = ()) -> Upload:
        values = {f"new_{name}": value for name, value in new_values(new).items()}

        async def work(connection: AsyncConnection) -> Sequence[Row[Any]]:
            if new.sources:
                await pin_sources(connection, new)
            rows: Sequence[Row[Any]] = (await connection.execute(self._insert, values)).all()
            if new.sources:
                await connection.execute(insert(sources), _source_rows(new))
            if events:
                await connection.execute(INSERT_EVENTS, event_rows(new, events))
            return rows

        if new.sources or (events and self._database.dialect == "sqlite"):
            rows = await self._database.transaction(work)
        elif events:
            rows = await self._database.write(self._insert_with_events, values | event_arrays(new, events))
        else:
            rows = await self._database.write(self._insert, values)
        upload = Upload(
            id=new.id,
            owner=new.owner,
            state=new.state,
            length=new.length,
            part_size=new.part_size,
            metadata=new.metadata,
            partial=new.partial,
            concat=new.concat,
            usecase=new.usecase,
            content_type=new.content_type,
            target=new.target,
            created_at=rows[0].created_at,
            expires_at=rows[0].expires_at,
        )
        tell(self._observer, upload, events)
        return upload

    @override
    async def find(self, upload_id: str) -> Upload | None:
        return _first(await self._database.read(_FIND, given(id=upload_id)))

    @override
    async def find_sources(self, upload_id: str) -> Sequence[Upload]:
        return [to_upload(row) for row in await self._database.read(_FIND_SOURCES, given(id=upload_id))]

    @override
    async def find_parts(self, upload_id: str) -> Sequence[Part]:
        return [to_part(row) for row in await self._database.read(_FIND_PARTS, given(id=upload_id))]

    @override
    async def claim(self, claim: Claim) -> Upload | None:
        parameters = given(
            upload_id=claim.upload_id,
            owner=claim.owner,
            offset=claim.offset,
            body_length=claim.body_length,
            length=claim.length,
            token=claim.token,
            holder=claim.holder,
            node=claim.node,
            take_over=claim.take_over,
        )
        with span("rindle.claim", upload_id=claim.upload_id, offset=claim.offset):
            return _first(await self._database.write(self._claim, parameters))

    @override
    async def claim_work(
        self, upload_id: str, state: UploadState, *, token: str, holder: str, take_over: str | None = None
    ) -> Upload | None:
        parameters = given(upload_id=upload_id, state=str(state), token=token, holder=holder, take_over=take_over)
        return _first(await self._database.write(self._claim_work, parameters))

    @override
    async def commit(
        self, before: Upload, after: Upload, *, parts: Sequence[Part] = (), events: Sequence[EventType] = ()
    ) -> Upload:
        commit = Commit(
            before, after, parts=parts, events=events, lease_ttl=self._lease_ttl, expires_in=self._expires_in
        )
        with span("rindle.commit", upload_id=after.id, state=after.state.value, offset=after.offset):
            try:
                upload = await commit.run(self._database)
            except StaleUploadError:
                self._observer.fence_rejected()
                raise
        tell(self._observer, upload, events)
        return upload

    @override
    async def renew(self, leases: Mapping[str, str]) -> None:
        if leases:
            await self._database.write(self._renew, _given_leases(leases))

    @override
    async def request_release(self, upload_id: str, token: str) -> None:
        await self._database.write(REQUEST_RELEASE, given(upload_id=upload_id, token=token))

    @override
    async def refuse_release(self, upload_id: str, token: str) -> None:
        await self._database.write(REFUSE_RELEASE, given(upload_id=upload_id, token=token))

    @override
    async def find_release_requests(self, leases: Mapping[str, str]) -> Sequence[str]:
        if not leases:
            return ()
        rows = await self._database.read(FIND_RELEASE_REQUESTS, _given_leases(leases))
        return [row.lease_token for row in rows]

    @override
    async def listen(self, receiver: SignalReceiver) -> None:
        if self._listener is not None:
            await self._listener.listen(receiver)

    @override
    async def take_due(self, due: Due, *, limit: int, hold: timedelta) -> Sequence[DueUpload]:
        rows = await self._database.write(take_due(due, hold), given(limit=limit))
        return [DueUpload(upload=to_upload(row), failures=row.failures) for row in rows]

    @override
    async def count_due(self, due: Due) -> int:
        return await self._count(count_due(due))

    @override
    async def put_off(self, upload_id: str, *, by: timedelta, reason: str) -> None:
        await self._database.write(put_off(by), given(id=upload_id, reason=reason))

    @override
    async def find_states(self, upload_ids: Collection[str]) -> Mapping[str, UploadState]:
        if not upload_ids:
            return {}
        rows = await self._database.read(FIND_STATES, given(upload_ids=list(upload_ids)))
        return {row.id: UploadState(row.state) for row in rows}

    @override
    async def purge(self, older_than: timedelta, *, limit: int) -> int:
        statement = purge_uploads(await self._instant(-older_than), older_than)
        gone = await self._database.write(statement, given(limit=limit))
        await self._database.write(purge_events(older_than), given(limit=limit))
        return len(gone)

    @override
    async def count_purgeable(self, older_than: timedelta) -> int:
        return await self._count(count_purgeable(await self._instant(-older_than), older_than))

    @override
    async def note_reaped(self) -> None:
        await self._database.write(self._note, given(name=_REAPED))

    @override
    async def find_reaped(self) -> datetime | None:
        rows = await self._database.read(_FIND_MARK, given(name=_REAPED))
        return rows[0].at if rows else None

    @override
    async def find_tail_names(self, node: str, names: Collection[str]) -> Collection[str]:
        if not names:
            return ()
        rows = await self._database.read(_FIND_TAIL_NAMES, given(node=node, names=list(names)))
        return {row.tail_name for row in rows}

    @override
    async def beat(self, node: str, name: str) -> None:
        await self._database.write(self._beat, given(id=node, name=name))

    @override
    async def find_node(self, node: str) -> Node | None:
        rows = await self._database.read(_FIND_NODE, given(id=node))
        return to_node(rows[0]) if rows else None

    async def _count(self, statement: Select[Any]) -> int:
        return int((await self._database.read(statement))[0][0])

    async def _instant(self, offset: timedelta) -> datetime:
        instant: datetime = (await self._database.read(select(db_now(offset).label("instant"))))[0].instant
        return instant


def _first(rows: Sequence[Row[Any]]) -> Upload | None:
    return to_upload(rows[0]) if rows else None


def _given_leases(leases: Mapping[str, str]) -> dict[str, object]:
    return given(tokens=list(leases), upload_ids=list(set(leases.values())))


def _source_rows(new: NewUpload) -> list[dict[str, Any]]:
    return [{"final_id": new.id, "position": n, "partial_id": partial} for n, partial in enumerate(new.sources)]


def _insert_upload(expires_in: timedelta | None) -> ReturningInsert[Any]:
    return (
        insert(uploads)
        .values({name: bindparam(f"new_{name}", type_=uploads.c[name].type) for name in NEW_COLUMNS})
        .values(
            upload_offset=0,
            part_count=0,
            release_requested=False,
            generation=0,
            pins=0,
            untidy=False,
            format=FORMAT,
            created_at=db_now(),
            expires_at=null() if expires_in is None else db_now(expires_in),
            state_changed_at=db_now(),
        )
        .returning(uploads.c.id, uploads.c.owner, uploads.c.created_at, uploads.c.expires_at)
    )


def _insert_with_events(insert_upload: ReturningInsert[Any]) -> Select[Any]:
    added = insert_upload.cte("added")
    return select(added.c.created_at, added.c.expires_at).add_cte(insert_events_after(added))


def _upsert_mark(dialect: str) -> Insert:
    insert_into = postgresql.insert if dialect == "postgresql" else sqlite.insert
    new = insert_into(marks).values(name=_NAME, at=db_now())
    return new.on_conflict_do_update(index_elements=["name"], set_={"at": db_now()})


def _upsert_node(dialect: str) -> Insert:
    insert_into = postgresql.insert if dialect == "postgresql" else sqlite.insert
    new = insert_into(nodes).values(id=_ID, name=_NAME, seen_at=db_now())
    return new.on_conflict_do_update(index_elements=["id"], set_={"name": new.excluded.name, "seen_at": db_now()})
