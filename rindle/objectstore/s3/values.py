"""Attributes, tags and objects as S3's API spells them."""

import re
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, urlencode

from rindle.objectstore.headers import NO_CONTENT_TYPE, read_text, spell_text, unquoted
from rindle.objectstore.types import Attributes, ObjectMeta

WRITER = "rindle-writer"
"""Metadata that says which call wrote an object; it is not shown to anybody."""

_NAMES = {
    "content_type": "ContentType",
    "content_disposition": "ContentDisposition",
    "content_encoding": "ContentEncoding",
    "content_language": "ContentLanguage",
    "cache_control": "CacheControl",
}
_CONTENT_RANGE = re.compile(r"bytes \d+-\d+/(\d+)")


def attribute_parameters(attributes: Attributes, *, writer: str | None = None) -> dict[str, Any]:
    """What goes with a write, so that :func:`attributes_of` gives the same attributes."""
    parameters = {name: value for field, name in _NAMES.items() if (value := getattr(attributes, field)) is not None}
    metadata = {name: spell_text(value) for name, value in attributes.metadata.items()}
    if writer is not None:
        metadata[WRITER] = writer
    return {"ContentType": NO_CONTENT_TYPE, **parameters, "Metadata": metadata}


def attributes_of(answer: Mapping[str, Any]) -> Attributes:
    """The attributes in an answer to HEAD or GET."""
    found = {field: answer.get(name) for field, name in _NAMES.items()}
    if found["content_type"] == NO_CONTENT_TYPE:
        found["content_type"] = None
    metadata = {name: read_text(value) for name, value in answer.get("Metadata", {}).items() if name != WRITER}
    return Attributes(**found, metadata=metadata)


def tag_parameters(tags: Mapping[str, str]) -> dict[str, str]:
    """Tags that go with a write."""
    # Not every service takes a plus for the space that it is to others.
    return {"Tagging": urlencode(tags, quote_via=quote)} if tags else {}


def spell_checksum(crc64nvme: int) -> str:
    """A CRC-64/NVME in S3's spelling."""
    return b64encode(crc64nvme.to_bytes(8, "big")).decode()


def checksum_of(answer: Mapping[str, Any]) -> int | None:
    """The CRC-64/NVME in an answer."""
    spelt = answer.get("ChecksumCRC64NVME")
    return None if spelt is None else int.from_bytes(b64decode(spelt), "big")


def abort_rules(answer: Mapping[str, Any], root: str) -> Iterator[timedelta]:
    """How old multiparts become by the rules of a bucket, under some of the keys that begin with ``root``."""
    for rule in answer.get("Rules", ()):
        wanted = rule.get("Filter", rule)
        prefix = wanted.get("Prefix", wanted.get("And", {}).get("Prefix", ""))
        days = rule.get("AbortIncompleteMultipartUpload", {}).get("DaysAfterInitiation")
        if rule["Status"] == "Enabled" and days is not None and (root.startswith(prefix) or prefix.startswith(root)):
            yield timedelta(days=days)


def utc(instant: datetime) -> datetime:
    """The SDK has its own time zones."""
    return instant.astimezone(UTC)


def meta_of(key: str, answer: Mapping[str, Any], *, versions: bool) -> ObjectMeta:
    """The object in an answer to HEAD or GET."""
    ranged = _CONTENT_RANGE.fullmatch(answer.get("ContentRange") or "")
    return ObjectMeta(
        key=key,
        size=int(ranged[1]) if ranged else answer["ContentLength"],
        last_modified=utc(answer["LastModified"]),
        e_tag=unquoted(answer.get("ETag")),
        version=answer.get("VersionId") if versions else None,
    )
