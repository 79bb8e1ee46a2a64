"""The statements by which work is found that no client does, and handed out."""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Integer, Select, Text, Update, and_, bindparam, delete, exists, func, or_, select, update
from sqlalchemy.sql.dml import ReturningDelete, ReturningUpdate
from sqlalchemy.sql.elements import ColumnElement

from rindle.db.leases import NOT_LIVE
from rindle.db.models import EXPIRING, FORMAT, UNFINISHED, UNTIDY, in_states, outbox, sources, uploads
from rindle.db.rows import UPLOAD_COLUMNS
from rindle.db.sql import TextList, any_of, db_now
from rindle.uploads.ids import first_id_since
from rindle.uploads.model import UploadState
from rindle.uploads.ports import Due

_row = uploads.c

# In a subquery the clock is read once: no index is of use in comparing with a function that changes from row to row.
_NOW = select(db_now()).scalar_subquery()
_LIMIT = bindparam("given_limit", type_=Integer())
_ENDED = (UploadState.COMPLETE, UploadState.ABORTED, UploadState.FAILED)
_SKEW = timedelta(days=1)

# Each condition is that of a partial index, and each order the index's.
_CONDITIONS: dict[Due, ColumnElement[bool]] = {
    Due.UNFINISHED: in_states(UNFINISHED),
    Due.UNTIDY: and_(UNTIDY, _row.state == UploadState.COMPLETE.value),
    Due.EXPIRED: and_(_row.expires_at <= _NOW, in_states(EXPIRING), _row.pins == 0),
}
_ORDERS = {
    Due.UNFINISHED: (_row.state_changed_at, _row.id),
    Due.UNTIDY: (_row.id,),
    Due.EXPIRED: (_row.expires_at, _row.id),
}

FIND_STATES = select(_row.id, _row.state).where(any_of(_row.id, bindparam("given_upload_ids", type_=TextList())))


def _due(due: Due) -> tuple[ColumnElement[bool], ...]:
    return _CONDITIONS[due], NOT_LIVE, _row.format <= FORMAT


def take_due(due: Due, hold: timedelta) -> ReturningUpdate[Any]:
    """Hand out uploads; what others are just being given is passed by (on SQLite writers take turns anyway)."""
    taken = (
        select(_row.id)
        .where(*_due(due), or_(_row.retry_at.is_(None), _row.retry_at <= _NOW))
        .order_by(*_ORDERS[due])
        .limit(_LIMIT)
        .with_for_update(skip_locked=True)
    )
    return (
        update(uploads)
        .where(_row.id.in_(taken.cte("taken").select()))
        .values(retry_at=db_now(hold))
        .returning(*UPLOAD_COLUMNS, _row.failures)
    )


def count_due(due: Due) -> Select[Any]:
    """How many there are."""
    return select(func.count()).select_from(uploads).where(*_due(due))


def put_off(by: timedelta) -> Update:
    """Let nobody be given this upload for so long."""
    return (
        update(uploads)
        .where(_row.id == bindparam("given_id", type_=_row.id.type))
        .values(retry_at=db_now(by), failures=_row.failures + 1, failure=bindparam("given_reason", type_=Text()))
    )


def _purgeable(before: datetime, older_than: timedelta) -> tuple[ColumnElement[bool], ...]:
    # Ids begin with the time: whoever came to an end before an instant was made before it, so that the rows that may go
    # lie at one end of the primary key, and no index of ends is needed.
    return (
        _row.id < first_id_since(before + _SKEW),
        in_states(_ENDED),
        _row.state_changed_at <= select(db_now(-older_than)).scalar_subquery(),
        or_(_row.state != UploadState.COMPLETE.value, ~UNTIDY),
        ~exists().where(sources.c.partial_id == _row.id),
        _row.format <= FORMAT,
    )


def purge_uploads(before: datetime, older_than: timedelta) -> ReturningDelete[Any]:
    """Remove rows whose end is older than that, which is since ``before``; their parts go with them."""
    old = select(_row.id).where(*_purgeable(before, older_than)).order_by(_row.id).limit(_LIMIT)
    old = old.with_for_update(skip_locked=True)
    return delete(uploads).where(_row.id.in_(old.cte("old").select())).returning(_row.id)


def count_purgeable(before: datetime, older_than: timedelta) -> Select[Any]:
    """How many rows there are to remove."""
    return select(func.count()).select_from(uploads).where(*_purgeable(before, older_than))


def purge_events(older_than: timedelta) -> ReturningDelete[Any]:
    """Remove the oldest events that are older than that."""
    # All before them are gone, so that these are the first of the primary key.
    first = select(outbox.c.id, outbox.c.created_at).order_by(outbox.c.id).limit(_LIMIT).subquery()
    old = select(first.c.id).where(first.c.created_at <= select(db_now(-older_than)).scalar_subquery())
    return delete(outbox).where(outbox.c.id.in_(old)).returning(outbox.c.id)
