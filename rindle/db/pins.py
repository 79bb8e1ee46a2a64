"""Pins: a partial upload that a concatenation joins is kept until the concatenation is made or given up.

Rows are always locked in the order of their ids, so that two concatenations of the same uploads never wait for each
other in a circle.
"""

from sqlalchemy import literal, select, update
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.elements import ColumnElement

from rindle.db.models import sources, uploads
from rindle.db.sql import TextList, any_of
from rindle.uploads.errors import StaleUploadError
from rindle.uploads.model import UploadState
from rindle.uploads.ports import NewUpload


async def pin_sources(connection: AsyncConnection, new: NewUpload) -> None:
    """Pin each of the sources once. StaleUploadError unless all are complete partial uploads of the same owner."""
    if new.partial or new.concat is None:
        raise ValueError("only a concatenation has sources")
    ids = sorted(set(new.sources))
    joined = any_of(uploads.c.id, literal(ids, TextList()))
    fit = (joined, uploads.c.owner == new.owner, uploads.c.partial, uploads.c.state == UploadState.COMPLETE.value)
    if await _lock(connection, *fit) != len(ids):
        raise StaleUploadError(f"not all sources of {new.id} are complete partial uploads of {new.owner}")
    await connection.execute(update(uploads).where(joined).values(pins=uploads.c.pins + 1))


async def unpin_sources(connection: AsyncConnection, final_id: str) -> None:
    """Let go of each of the sources once."""
    joined = uploads.c.id.in_(select(sources.c.partial_id).where(sources.c.final_id == final_id))
    await _lock(connection, joined)
    await connection.execute(update(uploads).where(joined).values(pins=uploads.c.pins - 1))


async def _lock(connection: AsyncConnection, *conditions: ColumnElement[bool]) -> int:
    rows = select(uploads.c.id).where(*conditions).order_by(uploads.c.id).with_for_update(key_share=True)
    return len((await connection.execute(rows)).all())
