"""Attributes, tags, keys and objects as Azure's API spells them."""

import re
from base64 import b64encode
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode

from rindle.objectstore.azure.errors import STORE
from rindle.objectstore.errors import InvalidKeyError
from rindle.objectstore.headers import NO_CONTENT_TYPE, read_text, spell_text
from rindle.objectstore.types import Attributes

OWN = ".rindle"
"""Where the journals of multiparts lie, and no objects."""

WRITER = "rindle_writer"
"""Metadata that says which call wrote an object; it is not shown to anybody. No encoded name is like it."""

_HEADERS = {
    "content_type": "Content-Type",
    "content_disposition": "Content-Disposition",
    "content_encoding": "Content-Encoding",
    "content_language": "Content-Language",
    "cache_control": "Cache-Control",
}
_METADATA = "x-ms-meta-"
_ESCAPED = re.compile(r"_([0-7][0-9a-f])")
_NOT_PLAIN = re.compile(r"^[0-9]|[^a-z0-9]")


def check_name(key: str) -> None:
    """InvalidKeyError for a key that the service would take for another one, or that is this store's own."""
    segments = key.split("/")
    if segments[0] == OWN:
        msg = f"keys under {OWN}/ are this store's own"
    elif "\\" in key:
        msg = "Azure takes a backslash for a slash: use another character"
    elif any(segment.endswith(".") for segment in segments):
        msg = "Azure does not keep a dot at the end of a name or of a segment: use another character"
    else:
        return
    raise InvalidKeyError(msg, store=STORE, key=key)


def is_name(key: str) -> bool:
    """Whether a key is one that :func:`check_name` lets pass."""
    try:
        check_name(key)
    except InvalidKeyError:
        return False
    return True


def attribute_headers(attributes: Attributes, *, writer: str | None = None) -> dict[str, str]:
    """What goes with a write, so that :func:`attributes_of` gives the same attributes."""
    given = {"Content-Type": NO_CONTENT_TYPE}
    given |= {name: value for field, name in _HEADERS.items() if (value := getattr(attributes, field)) is not None}
    headers = {f"x-ms-blob-{name.lower()}": value for name, value in given.items()}
    return headers | metadata_headers(attributes, writer=writer)


def metadata_headers(attributes: Attributes, *, writer: str | None) -> dict[str, str]:
    """All metadata of what is written, or of a copy, which has it instead of its source's."""
    headers = {_METADATA + spell_name(name): spell_text(value) for name, value in attributes.metadata.items()}
    return headers if writer is None else {**headers, _METADATA + WRITER: writer}


def attributes_of(headers: Mapping[str, str]) -> Attributes:
    """The attributes in the headers of an answer to HEAD or GET."""
    found = {field: headers.get(name) for field, name in _HEADERS.items()}
    if found["content_type"] == NO_CONTENT_TYPE:
        found["content_type"] = None
    lower = {name.lower(): value for name, value in headers.items()}
    metadata = {
        read_name(name.removeprefix(_METADATA)): read_text(value)
        for name, value in lower.items()
        if name.startswith(_METADATA) and name != _METADATA + WRITER
    }
    return Attributes(**found, metadata=metadata)


def spell_name(name: str) -> str:
    """A name of metadata as the identifier of C# that Azure wants: ``a-b`` is ``a_2db``."""
    return _NOT_PLAIN.sub(lambda found: f"_{ord(found[0]):02x}", name)


def read_name(name: str) -> str:
    """What :func:`spell_name` was given; what others have written stays as it is."""
    plain = _ESCAPED.sub(lambda found: chr(int(found[1], 16)), name)
    return plain if spell_name(plain) == name else name


def tag_headers(tags: Mapping[str, str]) -> dict[str, str]:
    """Tags that go with a write."""
    return {"x-ms-tags": urlencode(tags, quote_via=quote)} if tags else {}


def spell_checksum(crc64nvme: int) -> str:
    """A CRC-64/NVME in Azure's spelling: it is the CRC-64 of Azure Storage, with its least byte first."""
    return b64encode(crc64nvme.to_bytes(8, "little")).decode()


def utc(instant: datetime) -> datetime:
    """The SDK's instants are aware, of a time zone of their own."""
    return instant.astimezone(UTC)


def storage_headers(tier: str | None, encryption_scope: str | None) -> dict[str, Any]:
    """How what is written is to be kept."""
    named = {"x-ms-access-tier": tier, "x-ms-encryption-scope": encryption_scope}
    return {name: value for name, value in named.items() if value is not None}
