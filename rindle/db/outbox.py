"""Events: rows that are written in the transaction of the change that they tell of, and delivered later."""

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ARRAY, CTE, Text, bindparam, cast, column, func, insert, literal, select, true

from rindle.db.models import outbox
from rindle.db.sql import db_now
from rindle.uploads.model import EventType, Upload
from rindle.uploads.ports import NewUpload

INSERT_EVENTS = insert(outbox).values(created_at=db_now(), attempts=0)
"""To be executed with :func:`event_rows`."""


def event_rows(upload: Upload | NewUpload, events: Sequence[EventType]) -> list[dict[str, Any]]:
    """The rows of these events, which happened to the upload as it now is."""
    return [
        {"upload_id": upload.id, "owner": upload.owner, "type": str(event), "payload": _payload(upload, event)}
        for event in events
    ]


def event_arrays(upload: Upload | NewUpload, events: Sequence[EventType]) -> dict[str, Any]:
    """The same as parameters of :func:`insert_events_after`."""
    return {
        "event_types": [str(event) for event in events],
        "event_payloads": [json.dumps(_payload(upload, event)) for event in events],
    }


def insert_events_after(changed: CTE) -> CTE:
    """On PostgreSQL: insert them in the statement that changes the upload, if it does."""
    texts = ARRAY(Text())
    events = func.unnest(bindparam("event_types", type_=texts), bindparam("event_payloads", type_=texts)).table_valued(
        column("type", Text()), column("payload", Text())
    )
    events = events.render_derived(name="events")
    values = {
        "upload_id": changed.c.id,
        "owner": changed.c.owner,
        "type": events.c.type,
        "payload": cast(events.c.payload, outbox.c.payload.type),
        "created_at": db_now(),
        "attempts": literal(0),
    }
    rows = select(*values.values()).select_from(changed.join(events, true()))
    return insert(outbox).from_select([*values], rows).cte("inserted_events")


def _payload(upload: Upload | NewUpload, event: EventType) -> dict[str, Any]:
    about: dict[str, Any] = {"upload_id": upload.id, "owner": upload.owner, "type": str(event), "length": upload.length}
    if isinstance(upload, NewUpload):
        return about | {"offset": 0, "key": None, "reason": None}
    key = upload.key if event is EventType.FINISHED else None
    return about | {"offset": upload.offset, "key": key, "reason": upload.reason}
