"""Rows and the values that they are: the only place that knows both."""

from typing import Any

from sqlalchemy import Row
from sqlalchemy.sql.elements import ColumnElement

from rindle.db.models import FORMAT, uploads
from rindle.db.sql import db_now
from rindle.objectstore.types import MultipartRef
from rindle.uploads.errors import RepositoryError
from rindle.uploads.model import Lease, Part, Tail, Upload, UploadState
from rindle.uploads.ports import NewUpload, Node

_UNREAD = {"lease_until", "state_changed_at", "retry_at", "failures", "failure"}

EXPIRED = (uploads.c.expires_at <= db_now()).label("expired")

UPLOAD_COLUMNS: tuple[ColumnElement[Any], ...] = (
    *(column for column in uploads.c if column.name not in _UNREAD),
    EXPIRED,
    (uploads.c.lease_until > db_now()).label("lease_live"),
)
"""What :func:`to_upload` needs. Whether a lease lives and an upload is expired, only the database says."""

_DESCRIPTION = ("id", "owner", "metadata", "partial", "concat", "usecase", "content_type")
_FIXED = (*_DESCRIPTION, "pins", "generation", "created_at", "expires_at")

NEW_COLUMNS = (*_DESCRIPTION, "state", "upload_length", "part_size", "target")


def to_upload(row: Row[Any]) -> Upload:
    """The upload that a row of UPLOAD_COLUMNS is. RepositoryError if a newer rindle wrote it."""
    if row.format > FORMAT:
        raise RepositoryError(
            f"upload {row.id} was written by a newer rindle (format {row.format}, this one reads {FORMAT}): upgrade it"
        )
    return Upload(
        **{name: getattr(row, name) for name in _DESCRIPTION},
        state=UploadState(row.state),
        offset=row.upload_offset,
        length=row.upload_length,
        part_size=row.part_size,
        part_count=row.part_count,
        multipart=None if row.multipart_id is None else MultipartRef(row.key, row.multipart_id),
        tail=_to_tail(row),
        key=row.key,
        e_tag=row.e_tag,
        crc64nvme=row.crc64nvme,
        lease=_to_lease(row),
        generation=row.generation,
        pins=row.pins,
        untidy=row.untidy,
        reason=row.reason,
        target=row.target,
        created_at=row.created_at,
        expires_at=row.expires_at,
        expired=bool(row.expired),
    )


def _to_tail(row: Row[Any]) -> Tail | None:
    if row.tail_name is None:
        return None
    return Tail(name=row.tail_name, node=row.tail_node, length=row.tail_length, crc64nvme=row.tail_crc64nvme)


def _to_lease(row: Row[Any]) -> Lease | None:
    if row.lease_token is None:
        return None
    return Lease(
        token=row.lease_token, holder=row.lease_holder, live=row.lease_live, release_requested=row.release_requested
    )


def to_part(row: Row[Any]) -> Part:
    """The part that a row of ``parts`` is."""
    return Part(part_number=row.part_number, size=row.size, e_tag=row.e_tag, crc64nvme=row.crc64nvme)


def to_node(row: Row[Any]) -> Node:
    """The node that a row of ``nodes`` is."""
    return Node(id=row.id, name=row.name, seen_at=row.seen_at, retired_at=row.retired_at)


def new_values(new: NewUpload) -> dict[str, Any]:
    """The columns of a new row that the caller decides."""
    return {
        **{name: getattr(new, name) for name in _DESCRIPTION},
        "state": str(new.state),
        "upload_length": new.length,
        "part_size": new.part_size,
        "target": new.target,
    }


def mutable_values(upload: Upload) -> dict[str, Any]:
    """The columns that a commit may change, but for its instants."""
    multipart, tail, lease = upload.multipart, upload.tail, upload.lease
    return {
        "state": str(upload.state),
        "upload_offset": upload.offset,
        "upload_length": upload.length,
        "part_size": upload.part_size,
        "part_count": upload.part_count,
        "multipart_id": multipart and multipart.multipart_id,
        "key": upload.key,
        "e_tag": upload.e_tag,
        "crc64nvme": upload.crc64nvme,
        "tail_name": tail and tail.name,
        "tail_node": tail and tail.node,
        "tail_length": tail and tail.length,
        "tail_crc64nvme": tail and tail.crc64nvme,
        "lease_token": lease and lease.token,
        "lease_holder": lease and lease.holder,
        "untidy": upload.untidy,
        "reason": upload.reason,
        "target": upload.target,
    }


def check_commit(before: Upload, after: Upload) -> None:
    """ValueError if ``after`` says what no commit can make true: that is a mistake of the caller's."""
    for name in _FIXED:
        if getattr(before, name) != getattr(after, name):
            raise ValueError(f"a commit does not change {name}")
    if after.multipart is not None and after.multipart.key != after.key:
        raise ValueError("the key of an upload is that of its multipart")
