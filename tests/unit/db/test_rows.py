from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Result, Row, select
from sqlalchemy.engine.result import IteratorResult, SimpleResultMetaData

from rindle.db.rows import UPLOAD_COLUMNS, check_commit, mutable_values, to_upload
from rindle.objectstore.types import MultipartRef
from rindle.uploads.errors import RepositoryError
from rindle.uploads.model import Lease, Tail, Upload, UploadState

_AT = datetime(2026, 1, 1, tzinfo=UTC)
_PLAIN: dict[str, Any] = {
    "id": "u",
    "owner": "alice",
    "state": "active",
    "upload_offset": 8,
    "upload_length": None,
    "part_size": 5,
    "part_count": 1,
    "multipart_id": None,
    "key": None,
    "e_tag": None,
    "crc64nvme": None,
    "tail_name": None,
    "tail_node": None,
    "tail_length": None,
    "tail_crc64nvme": None,
    "lease_token": None,
    "lease_holder": None,
    "release_requested": False,
    "generation": 3,
    "metadata": "",
    "partial": False,
    "concat": None,
    "pins": 0,
    "untidy": False,
    "reason": None,
    "usecase": "default",
    "content_type": None,
    "target": None,
    "format": 1,
    "created_at": _AT,
    "expires_at": None,
    "expired": None,
    "lease_live": None,
}
_UPLOAD = Upload(
    id="u",
    owner="alice",
    state=UploadState.ACTIVE,
    offset=8,
    length=None,
    part_size=5,
    part_count=1,
    generation=3,
    created_at=_AT,
)


def row(**changes: Any) -> Row[Any]:
    values = _PLAIN | changes
    result: Result[Any] = IteratorResult(SimpleResultMetaData(list(values)), iter([tuple(values.values())]))
    return result.one()


def test_the_columns_that_are_selected_are_the_ones_that_are_read() -> None:
    assert [column.name for column in select(*UPLOAD_COLUMNS).selected_columns] == list(_PLAIN)


def test_a_plain_row_is_a_plain_upload() -> None:
    assert to_upload(row()) == _UPLOAD


@pytest.mark.parametrize(
    ("columns", "attributes"),
    [
        ({"upload_length": 0, "upload_offset": 0}, {"length": 0, "offset": 0}),
        ({"key": "k"}, {"key": "k"}),
        ({"key": "k", "multipart_id": "m"}, {"key": "k", "multipart": MultipartRef("k", "m")}),
        ({"key": "k", "multipart_id": ""}, {"key": "k", "multipart": MultipartRef("k", "")}),
        (
            {"tail_name": "", "tail_node": "", "tail_length": 1, "tail_crc64nvme": 0},
            {"tail": Tail(name="", node="", length=1, crc64nvme=0)},
        ),
        (
            {"lease_token": "t", "lease_holder": "h", "lease_live": False, "release_requested": True},
            {"lease": Lease(token="t", holder="h", live=False, release_requested=True)},
        ),
        ({"release_requested": True}, {}),
        ({"expires_at": _AT, "expired": False}, {"expires_at": _AT}),
        ({"expires_at": _AT, "expired": True}, {"expires_at": _AT, "expired": True}),
        ({"concat": "", "partial": True, "e_tag": ""}, {"concat": "", "partial": True, "e_tag": ""}),
        *(({"state": str(state)}, {"state": state}) for state in UploadState),
    ],
)
def test_odd_rows_are_read_as_they_are(columns: dict[str, Any], attributes: dict[str, Any]) -> None:
    assert to_upload(row(**columns)) == replace(_UPLOAD, **attributes)


def test_a_row_of_a_newer_format_is_refused_before_anything_of_it_is_read() -> None:
    with pytest.raises(RepositoryError, match="upload u was written by a newer rindle"):
        to_upload(row(format=2, state="a state of the future"))


def test_every_field_is_fixed_or_mutable_or_the_databases() -> None:
    computed = {"expired"}
    said = {"owner", "metadata", "partial", "concat", "usecase", "content_type"}
    fixed = {"id", *said, "pins", "generation", "created_at", "expires_at"}
    columns = {"upload_offset": "offset", "upload_length": "length", "multipart_id": "multipart"}
    mutable = {
        columns.get(name, name.partition("_")[0] if name[:5] in {"tail_", "lease"} else name)
        for name in mutable_values(_UPLOAD)
    }

    assert fixed | mutable | computed == {field.name for field in fields(Upload)}


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "v"},
        {"owner": "bob"},
        {"metadata": "x"},
        {"partial": True},
        {"concat": "final;"},
        {"usecase": "avatars"},
        {"content_type": "text/plain"},
        {"pins": 1},
        {"generation": 4},
        {"created_at": _AT.replace(year=2027)},
        {"expires_at": _AT},
    ],
)
def test_what_no_commit_changes_is_a_mistake(changes: dict[str, Any]) -> None:
    (name,) = changes
    with pytest.raises(ValueError, match=f"a commit does not change {name}"):
        check_commit(_UPLOAD, replace(_UPLOAD, **changes))


def test_a_multipart_under_another_key_than_the_uploads_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="key"):
        check_commit(_UPLOAD, replace(_UPLOAD, multipart=MultipartRef("k", "m")))
