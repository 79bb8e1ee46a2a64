"""Attributes, tags, checksums and objects as Google's APIs spell them."""

import binascii
import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from rindle.objectstore.headers import NO_CONTENT_TYPE, read_text, spell_text
from rindle.objectstore.types import Attributes, ObjectMeta

WRITER = "rindle-writer"
"""Metadata that says which call wrote an object; it is not shown to anybody."""
TAGS = "rindle-tags"
"""Metadata that holds the tags of an object; it is shown as tags alone."""

_NAMES = {
    "content_type": ("Content-Type", "contentType"),
    "content_disposition": ("Content-Disposition", "contentDisposition"),
    "content_encoding": ("Content-Encoding", "contentEncoding"),
    "content_language": ("Content-Language", "contentLanguage"),
    "cache_control": ("Cache-Control", "cacheControl"),
}
_METADATA = "x-goog-meta-"

Headers = Mapping[str, str]
Resource = Mapping[str, Any]


def resource_of(attributes: Attributes, tags: Mapping[str, str], *, writer: str | None = None) -> dict[str, Any]:
    """What goes with a write by the JSON API, so that :func:`attributes_of` gives the same attributes."""
    given = {json_name: getattr(attributes, field) for field, (_, json_name) in _NAMES.items()}
    resource: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return {"contentType": NO_CONTENT_TYPE, **resource, "metadata": _metadata(attributes, tags, writer)}


def headers_of(attributes: Attributes, tags: Mapping[str, str]) -> dict[str, str]:
    """What goes with a write by the XML API, likewise."""
    given = {header: getattr(attributes, field) for field, (header, _) in _NAMES.items()}
    headers = {name: value for name, value in given.items() if value is not None}
    metadata = {_METADATA + name: value for name, value in _metadata(attributes, tags, None).items()}
    return {"Content-Type": NO_CONTENT_TYPE, **headers, **metadata}


def _metadata(attributes: Attributes, tags: Mapping[str, str], writer: str | None) -> dict[str, str]:
    metadata = {name: spell_text(value) for name, value in attributes.metadata.items()}
    if tags:
        metadata[TAGS] = spell_tags(tags)
    if writer is not None:
        metadata[WRITER] = writer
    return metadata


def attributes_of(headers: Headers) -> Attributes:
    """The attributes in an answer to HEAD or GET."""
    found = {field: headers.get(header) for field, (header, _) in _NAMES.items()}
    if found["content_type"] == NO_CONTENT_TYPE:
        found["content_type"] = None
    shown = {name: read_text(value) for name, value in metadata_of(headers).items() if name not in {WRITER, TAGS}}
    return Attributes(**found, metadata=shown)


def metadata_of(headers: Headers) -> Mapping[str, str]:
    """All metadata in an answer to HEAD or GET, as they are written."""
    lower = {name.lower(): value for name, value in headers.items()}
    return {name.removeprefix(_METADATA): value for name, value in lower.items() if name.startswith(_METADATA)}


def spell_tags(tags: Mapping[str, str]) -> str:
    """Tags as the text of one piece of metadata."""
    return json.dumps(dict(tags))


def read_tags(text: str | None) -> Mapping[str, str]:
    """What :func:`spell_tags` was given; nothing, if somebody else wrote it and meant another thing."""
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return {str(name): str(value) for name, value in found.items()} if isinstance(found, dict) else {}


def spell_checksum(crc32c: int) -> str:
    """A CRC-32C in Google's spelling."""
    return b64encode(crc32c.to_bytes(4, "big")).decode()


def checksum_of(headers: Headers) -> int | None:
    """The CRC-32C in an answer."""
    hashes = dict(each.strip().partition("=")[::2] for each in headers.get("x-goog-hash", "").split(","))
    try:
        return int.from_bytes(b64decode(hashes["crc32c"], validate=True), "big")
    except (KeyError, binascii.Error):
        return None


def meta_of(key: str, headers: Headers, *, versions: bool) -> ObjectMeta:
    """The object in an answer to HEAD or GET."""
    generation = headers["x-goog-generation"]
    return ObjectMeta(
        key=key,
        size=int(headers["x-goog-stored-content-length"]),
        last_modified=parsedate_to_datetime(headers["Last-Modified"]).astimezone(UTC),
        e_tag=generation,
        version=generation if versions else None,
    )


def listed_meta(key: str, resource: Resource) -> ObjectMeta:
    """The object in a line of a listing."""
    return ObjectMeta(
        key=key,
        size=int(resource["size"]),
        last_modified=datetime.fromisoformat(resource["updated"]).astimezone(UTC),
        e_tag=str(resource["generation"]),
    )
