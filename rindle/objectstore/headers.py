"""What is said in the headers of HTTP, as several services want it."""

import re
from base64 import b64encode
from email.errors import HeaderParseError
from email.header import decode_header, make_header

from rindle.objectstore.types import ByteRange, SuffixRange

NO_CONTENT_TYPE = "binary/octet-stream"
"""Of an object that has none: S3's own. Said, because HTTP clients and other services would say another."""

_ENCODED = re.compile(r"=\?[^?\s]+\?[bqBQ]\?[^?\s]*\?=")
_ONE_E_TAG = re.compile(r'"?([^\s",*]+)"?')


def spell_text(value: str) -> str:
    """Any text for a header. What is not ASCII as S3 itself spells it: RFC 2047, in one word however long."""
    if value.isascii() and value.isprintable() and value == value.strip() and not _ENCODED.search(value):
        return value
    return f"=?UTF-8?B?{b64encode(value.encode()).decode()}?="


def read_text(value: str) -> str:
    """What :func:`spell_text` was given."""
    if not _ENCODED.search(value):
        return value
    try:
        return str(make_header(decode_header(value)))
    except (HeaderParseError, LookupError, ValueError):
        return value  # somebody else's, and no RFC 2047 after all


def spell_range(requested: ByteRange | SuffixRange) -> str:
    """A range as HTTP spells it: both ends are in it."""
    match requested:
        case SuffixRange(length):
            return f"bytes=-{length}"
        case ByteRange(start, end):
            return f"bytes={start}-{'' if end is None else end - 1}"


def one_e_tag(condition: str | None) -> str | None:
    """The e_tag of a condition that names just one: services differ in how they read lists."""
    one = _ONE_E_TAG.fullmatch(condition or "")
    return one[1] if one else None


def unquoted(e_tag: str | None) -> str | None:
    """An e_tag as the object store has it; an empty one is none."""
    return (e_tag or "").strip('"') or None
