"""Upload ids: made by the server, unguessable, one spelling each, safe in a URL, a key and a file name."""

import re
import secrets

from rindle.clock import utc_now

_ALPHABET = "0123456789abcdefghijklmnopqrstuv"
_UPLOAD_ID = re.compile(r"[0-9a-v]{32}", re.ASCII)


def new_upload_id() -> str:
    """32 characters of base32hex: 32 bits of seconds (so that new rows lie together in the index), 128 random bits."""
    number = (int(utc_now().timestamp()) & 0xFFFFFFFF) << 128 | secrets.randbits(128)
    return "".join(_ALPHABET[number >> shift & 31] for shift in range(155, -1, -5))


def is_upload_id(text: str) -> bool:
    """Whether the text could have come from :func:`new_upload_id`. Anything else is refused before any look-up."""
    return _UPLOAD_ID.fullmatch(text) is not None


def new_token() -> str:
    """64 random bits in hex: names that belong to one attempt, and lease tokens."""
    return secrets.token_hex(8)
