"""The grammar of Upload-Metadata (tus 1.0, "Creation"): ``key SP base64, key SP base64``.

Strict, because what is echoed and stored must mean one thing: unique non-empty ASCII keys, canonical base64, nothing
between the pairs but a comma. A value may be empty, and its space then left out.
"""

import base64
import binascii
import re
from collections.abc import Mapping

from rindle.protocols.errors import HeaderTooLargeError, MalformedHeaderError

MAX_METADATA = 8 * 1024
_NAME = "Upload-Metadata"
_NAMED = r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}"
_MEDIA_TYPE = re.compile(rf"{_NAMED}/{_NAMED}( *; *{_NAMED}={_NAMED}){{0,4}}", re.ASCII)
_KEY = re.compile(r"[!-+\--~]+", re.ASCII)  # visible ASCII but the comma


def parse_metadata(text: str) -> dict[str, bytes]:
    """The pairs of the header. The empty header, which some clients always send, has none."""
    if len(text) > MAX_METADATA:
        msg = f"{_NAME} is {len(text)} bytes long; this server keeps at most {MAX_METADATA}."
        raise HeaderTooLargeError(msg)
    pairs: dict[str, bytes] = {}
    for element in text.split(",") if text else ():
        key, _, encoded = element.partition(" ")
        if not _KEY.fullmatch(key):
            raise MalformedHeaderError(_NAME, "every pair must start with a key of visible ASCII characters")
        if key in pairs:
            raise MalformedHeaderError(_NAME, f"the key {key} comes twice")
        pairs[key] = _decode(key, encoded)
    return pairs


def find_filename(pairs: Mapping[str, bytes]) -> str | None:
    """What the client calls its file, as text, under one of the names that clients use; the first that is not empty."""
    return _find_text(pairs, "filename", "name")


def find_content_type(pairs: Mapping[str, bytes]) -> str | None:
    """The media type that the client gives its file, if it is one (RFC 9110 §8.3.1)."""
    text = _find_text(pairs, "filetype", "type")
    return text if text is not None and _MEDIA_TYPE.fullmatch(text) else None


def _find_text(pairs: Mapping[str, bytes], *names: str) -> str | None:
    found = (pairs[name].decode(errors="replace") for name in names if pairs.get(name))
    return next(found, None)


def _decode(key: str, encoded: str) -> bytes:
    try:
        value = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        value = None
    if value is None or base64.b64encode(value).decode() != encoded:
        raise MalformedHeaderError(_NAME, f"the value of {key} must be base64")
    return value
