"""Upload ids: made by the server, unguessable, one spelling each, safe in a URL, a key and a file name."""

import re
import secrets
from datetime import datetime

from rindle.clock import utc_now

_ALPHABET = "0123456789abcdefghijklmnopqrstuv"
_TOKEN = re.compile(r"[0-9a-f]{16}", re.ASCII)
_UPLOAD_ID = re.compile(r"[0-9a-v]{32}", re.ASCII)


def new_upload_id() -> str:
    """32 characters of base32hex: 32 bits of seconds (so that new rows lie together in the index), 128 random bits."""
    return _spell(utc_now(), secrets.randbits(128))


def first_id_since(instant: datetime) -> str:
    """What no id that was made before this instant is greater than, nor any made later less than."""
    return _spell(instant, 0)


def _spell(made_at: datetime, rest: int) -> str:
    number = (int(made_at.timestamp()) & 0xFFFFFFFF) << 128 | rest
    return "".join(_ALPHABET[number >> shift & 31] for shift in range(155, -1, -5))


def is_upload_id(text: str) -> bool:
    """Whether the text could have come from :func:`new_upload_id`. Anything else is refused before any look-up."""
    return _UPLOAD_ID.fullmatch(text) is not None


def is_token(text: str) -> bool:
    """Whether the text could have come from :func:`new_token`."""
    return _TOKEN.fullmatch(text) is not None


def new_token() -> str:
    """64 random bits in hex: names that belong to one attempt, and lease tokens."""
    return secrets.token_hex(8)
