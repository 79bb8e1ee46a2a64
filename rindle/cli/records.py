"""How a record reads: for programs, field by field (docs/reference/commands.md), and for people."""

from datetime import datetime
from typing import Any

from rindle.cli.output import spell_age, spell_size
from rindle.clock import utc_now
from rindle.db.admin import Event, Record
from rindle.uploads.model import Part, Upload

HEAD = ("id", "state", "offset", "of", "age", "expires in", "owner", "key")


def to_row(record: Record) -> tuple[object, ...]:
    """One line of a table."""
    upload = record.upload
    length = "" if upload.length is None else spell_size(upload.length)
    now = utc_now()
    left = None if upload.expires_at is None or upload.gone else spell_age(upload.expires_at - now)
    age = spell_age(now - upload.created_at)
    return (upload.id, upload.state, spell_size(upload.offset), length, age, left, upload.owner, upload.key)


def to_json(record: Record) -> dict[str, Any]:
    """All of it."""
    upload = record.upload
    return {
        "id": upload.id,
        "owner": upload.owner,
        "usecase": upload.usecase,
        "state": str(upload.state),
        "offset": upload.offset,
        "length": upload.length,
        "metadata": upload.metadata,
        "content_type": upload.content_type,
        "kind": "partial" if upload.partial else "final" if upload.is_final else "plain",
        "pins": upload.pins,
        "key": upload.key,
        "target": upload.target,
        "e_tag": upload.e_tag,
        "crc64nvme": None if upload.crc64nvme is None else f"{upload.crc64nvme:016x}",
        "part_size": upload.part_size,
        "part_count": upload.part_count,
        "multipart_id": upload.multipart and upload.multipart.multipart_id,
        "tail": upload.tail and {"node": upload.tail.node, "name": upload.tail.name, "length": upload.tail.length},
        "lease": _lease(record),
        "generation": upload.generation,
        "untidy": upload.untidy,
        "reason": upload.reason,
        "created_at": _at(upload.created_at),
        "state_changed_at": _at(record.state_changed_at),
        "expires_at": _at(upload.expires_at),
        "failures": record.failures,
        "failure": record.failure,
        "retry_at": _at(record.retry_at),
    }


def _lease(record: Record) -> dict[str, Any] | None:
    lease = record.upload.lease
    if lease is None:
        return None
    # Not its token, which is the right to write.
    return {"holder": lease.holder, "live": lease.live, "until": _at(record.lease_until)}


def part_to_json(part: Part) -> dict[str, Any]:
    """One committed part."""
    crc = None if part.crc64nvme is None else f"{part.crc64nvme:016x}"
    return {"part_number": part.part_number, "size": part.size, "e_tag": part.e_tag, "crc64nvme": crc}


def event_to_json(event: Event) -> dict[str, Any]:
    """One event."""
    return {"event": event.id, "at": _at(event.created_at), **event.payload}


def name_of(upload: Upload) -> str:
    """What a question calls it."""
    return f"{upload.id} ({upload.state}, {spell_size(upload.offset)})"


def _at(instant: datetime | None) -> str | None:
    return None if instant is None else instant.isoformat()
