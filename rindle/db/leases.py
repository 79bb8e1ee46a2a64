"""The statements by which leases are taken, prolonged and asked for; each is a transaction of its own.

What processes tell each other about leases is told by the statement that makes it true.
"""

from datetime import timedelta
from typing import Any

from sqlalchemy import Update, bindparam, case, func, literal, or_, select, update
from sqlalchemy.sql.dml import ReturningUpdate
from sqlalchemy.sql.elements import ColumnElement

from rindle.db.models import FORMAT, uploads
from rindle.db.rows import UPLOAD_COLUMNS
from rindle.db.sql import TextList, any_of, db_now, notify
from rindle.uploads.model import IN_STORE, UploadState
from rindle.uploads.ports import LeaseSignal

CHANNEL = "rindle_leases"
"""Where leases are told of. A channel belongs to a database, not to a schema: rindles that share one hear each other,
and none knows the uploads of another."""

_row = uploads.c

NOT_LIVE = or_(_row.lease_token.is_(None), _row.lease_until <= db_now())
"""Nobody holds the lease, or not any more."""


def given(**values: object) -> dict[str, object]:
    """The parameters of the statements in here. Their names are no columns', which SQLAlchemy would set."""
    return {f"given_{name}": value for name, value in values.items()}


def _given(name: str, column: ColumnElement[Any]) -> ColumnElement[Any]:
    return bindparam(f"given_{name}", type_=column.type)


_OF_UPLOAD = _row.id == _given("upload_id", _row.id)
_OF_LEASE = (_OF_UPLOAD, _row.lease_token == _given("token", _row.lease_token))
# A token is drawn for one lease of one upload, so that two lists say as much as a list of pairs; rows are found by id.
_OF_LEASES = (
    any_of(_row.id, bindparam("given_upload_ids", type_=TextList())),
    any_of(_row.lease_token, bindparam("given_tokens", type_=TextList())),
)


def claim_statement(lease_ttl: timedelta, expires_in: timedelta | None) -> ReturningUpdate[Any]:
    """Take the lease of an upload to append to it, if the conditions of a :class:`rindle.uploads.ports.Claim` hold."""
    body_length = _given("body_length", _row.upload_length)
    declared = _given("length", _row.upload_length)
    length = func.coalesce(_row.upload_length, declared)
    return (
        _take(lease_ttl)
        .where(
            _row.state == UploadState.ACTIVE.value,
            _row.owner == _given("owner", _row.owner),
            _row.upload_offset == _given("offset", _row.upload_offset),
            or_(_row.tail_node.is_(None), _row.tail_node.in_([_given("node", _row.tail_node), IN_STORE])),
            or_(declared.is_(None), length == declared),
            # Subtracted, for the sum may be more than an integer holds.
            or_(length.is_(None), length - _row.upload_offset >= func.coalesce(body_length, 0)),
            or_(_row.expires_at.is_(None), _row.expires_at > db_now()),
        )
        .values(slide_expiry(expires_in))
        .returning(*UPLOAD_COLUMNS)
    )


def claim_work_statement(lease_ttl: timedelta) -> ReturningUpdate[Any]:
    """Take the lease of an upload that is in a given state, to go on with what that state is about."""
    return _take(lease_ttl).where(_row.state == _given("state", _row.state)).returning(*UPLOAD_COLUMNS)


def renew_statement(lease_ttl: timedelta) -> Update:
    """Prolong the leases that still have their tokens."""
    return update(uploads).where(*_OF_LEASES).values(lease_until=db_now(lease_ttl))


def _tell(signal: LeaseSignal) -> ColumnElement[str]:
    return notify(CHANNEL, literal(f"{signal} ") + _row.id)


TELL_RELEASED = case((_row.release_requested, _tell(LeaseSignal.RELEASED)))
"""Only those who wait are told: on PostgreSQL, commits that notify somebody wait for each other."""

REQUEST_RELEASE = (
    update(uploads).where(*_OF_LEASE).values(release_requested=True).returning(_tell(LeaseSignal.REQUESTED))
)
REFUSE_RELEASE = update(uploads).where(*_OF_LEASE).values(release_requested=False)
FIND_RELEASE_REQUESTS = select(_row.lease_token).where(*_OF_LEASES, _row.release_requested)


def _take(lease_ttl: timedelta) -> Update:
    return (
        update(uploads)
        .where(
            _OF_UPLOAD,
            or_(_row.lease_token.is_(None), _row.lease_token == _given("take_over", _row.lease_token)),
            _row.format <= FORMAT,  # what cannot be read is not touched
        )
        .values(
            lease_token=_given("token", _row.lease_token),
            lease_holder=_given("holder", _row.lease_holder),
            lease_until=db_now(lease_ttl),
            release_requested=False,
            untidy=or_(_row.untidy, _row.lease_token.is_not(None)),
        )
    )


def slide_expiry(expires_in: timedelta | None) -> dict[str, ColumnElement[Any]]:
    """What moves the expiry of an upload that has less than half its time left.

    Not every time, for it is indexed: an update that leaves it as it is rewrites no index entry.
    """
    if expires_in is None:
        return {}
    is_due_soon = _row.expires_at < db_now(expires_in / 2)
    return {"expires_at": case((is_due_soon, db_now(expires_in)), else_=_row.expires_at)}
