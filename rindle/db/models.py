"""The tables, as the newest migration leaves them.

What is indexed is chosen with care. PostgreSQL rewrites every index entry of a row when one indexed column of it
changes (no HOT update), so nothing that an append changes is indexed: not the offset, the lease or the tail's name.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    literal_column,
    text,
)
from sqlalchemy.sql.elements import ColumnElement

from rindle.db.sql import Crc64, Instant
from rindle.uploads.model import UploadState

FORMAT = 1
"""How rows of ``uploads`` are to be read. A row with a higher number was written by a newer rindle."""

EXPIRING = (UploadState.ACTIVE, UploadState.COMPLETE)
UNFINISHED = (UploadState.FINALIZING, UploadState.CONCATENATING, UploadState.ABORTING)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def in_states(states: tuple[UploadState, ...]) -> ColumnElement[bool]:
    """A condition with the states written out: with parameters no planner knows that a partial index will do."""
    return uploads.c.state.in_([literal_column(f"'{state}'") for state in states])


# Written out, too: SQLAlchemy's own spelling for SQLite (untidy = 1) is none that PostgreSQL knows.
UNTIDY: ColumnElement[bool] = literal_column("untidy")


def _all_or_none(*names: str) -> str:
    first, *others = names
    return " AND ".join(f"({first} IS NULL) = ({name} IS NULL)" for name in others)


uploads = Table(
    "rindle_uploads",
    metadata,
    Column("id", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("upload_offset", BigInteger, nullable=False),
    Column("upload_length", BigInteger),
    Column("part_size", BigInteger, nullable=False),
    Column("part_count", Integer, nullable=False),
    Column("multipart_id", Text),
    Column("key", Text),
    Column("e_tag", Text),
    Column("crc64nvme", Crc64),
    Column("tail_name", Text),
    Column("tail_node", Text),
    Column("tail_length", BigInteger),
    Column("tail_crc64nvme", Crc64),
    Column("lease_token", Text),
    Column("lease_holder", Text),
    Column("lease_until", Instant),
    Column("release_requested", Boolean, nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("metadata", Text, nullable=False),
    Column("partial", Boolean, nullable=False),
    Column("concat", Text),
    Column("pins", Integer, nullable=False),
    Column("untidy", Boolean, nullable=False),
    Column("reason", Text),
    Column("usecase", Text, nullable=False),
    Column("content_type", Text),
    Column("target", Text),
    Column("format", Integer, nullable=False, server_default=text("1")),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant),
    Column("state_changed_at", Instant, nullable=False),
    Column("retry_at", Instant),
    Column("failures", Integer, nullable=False, server_default=text("0")),
    Column("failure", Text),
    CheckConstraint(f"state IN ({', '.join(repr(str(state)) for state in UploadState)})", name="state"),
    CheckConstraint("upload_offset >= 0", name="offset"),
    CheckConstraint("upload_length IS NULL OR upload_offset <= upload_length", name="length"),
    CheckConstraint("part_size > 0 AND part_count >= 0", name="parts"),
    CheckConstraint("multipart_id IS NULL OR key IS NOT NULL", name="multipart"),
    CheckConstraint(_all_or_none("tail_name", "tail_node", "tail_length", "tail_crc64nvme"), name="tail"),
    CheckConstraint(
        "tail_length IS NULL OR (tail_length > 0 AND tail_length <= upload_offset)",
        name="tail_length",
    ),
    CheckConstraint(_all_or_none("lease_token", "lease_holder", "lease_until"), name="lease"),
    CheckConstraint("pins >= 0", name="pins"),
    postgresql_with={"fillfactor": 85},  # room for the next version of a row on its own page
)

parts = Table(
    "rindle_parts",
    metadata,
    Column("upload_id", Text, ForeignKey(uploads.c.id, ondelete="CASCADE"), primary_key=True),
    Column("part_number", Integer, primary_key=True, autoincrement=False),
    Column("size", BigInteger, nullable=False),
    Column("e_tag", Text, nullable=False),
    Column("crc64nvme", Crc64),
    CheckConstraint("part_number > 0 AND size > 0", name="part"),
)

sources = Table(
    "rindle_sources",
    metadata,
    Column("final_id", Text, ForeignKey(uploads.c.id, ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("partial_id", Text, ForeignKey(uploads.c.id), nullable=False, index=True),
)

# An event outlives the row that it tells of: no foreign key. Its id is what receivers know it by: never used twice.
outbox = Table(
    "rindle_outbox",
    metadata,
    Column("id", BigInteger().with_variant(Integer(), "sqlite"), Identity(), primary_key=True),
    Column("upload_id", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("payload", JSON, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("sent_at", Instant),
    Column("attempts", Integer, nullable=False),
    sqlite_autoincrement=True,
)

nodes = Table(
    "rindle_nodes",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("seen_at", Instant, nullable=False),
    Column("retired_at", Instant),
)

marks = Table(
    "rindle_marks",
    metadata,
    Column("name", Text, primary_key=True),
    Column("at", Instant, nullable=False),
)


def _partial_index(name: str, *columns: ColumnElement[object], where: ColumnElement[bool]) -> None:
    Index(name, *columns, postgresql_where=where, sqlite_where=where)


_partial_index(
    "ix_rindle_uploads_expiring",
    uploads.c.expires_at,
    uploads.c.id,
    where=uploads.c.expires_at.is_not(None) & in_states(EXPIRING),
)
_partial_index("ix_rindle_uploads_unfinished", uploads.c.state_changed_at, uploads.c.id, where=in_states(UNFINISHED))
_partial_index("ix_rindle_uploads_untidy", uploads.c.id, where=UNTIDY)
_partial_index("ix_rindle_uploads_tail_node", uploads.c.tail_node, where=uploads.c.tail_node.is_not(None))
_partial_index("ix_rindle_outbox_unsent", outbox.c.id, where=outbox.c.sent_at.is_(None))
