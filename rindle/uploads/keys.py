"""Names in the store.

While an upload lives, all of its names lie under two prefixes of its own, so that none can be lost sight of. Where
its object is published in the end, a template says.
"""

import re
import string
import unicodedata
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import PurePosixPath

from rindle.objectstore.keys import MAX_KEY_BYTES
from rindle.uploads.ids import is_token, is_upload_id, new_token

FILENAME_BYTES = 120
UNNAMED = "file"

_FIELDS = ("date", "day", "filename", "id", "month", "prefix", "usecase", "year")
_SEGMENT_BYTES = 255  # what file systems take
_LONGEST = {
    "date": "2026-11-21",
    "day": "21",
    "filename": "x" * FILENAME_BYTES,
    "id": "0" * 32,
    "month": "11",
    "year": "2026",
}
_UNSAFE = re.compile(r"[^\w.-]+")
_SUFFIX = re.compile(r"\.[^.]{1,15}")


def upload_prefix(root: str, upload_id: str) -> str:
    """What every key of this upload starts with."""
    return f"{root}/{upload_id}/" if root else f"{upload_id}/"


def upload_of(root: str, key: str) -> str | None:
    """The id of the upload that was given this key by :func:`new_key` under its prefix; None if it is no such key."""
    upload_id, _, token = key.removeprefix(f"{root}/" if root else "").partition("/")
    own = is_upload_id(upload_id) and key == f"{upload_prefix(root, upload_id)}{token}" and is_token(token)
    return upload_id if own else None


def tail_prefix(root: str, upload_id: str) -> str:
    """What the key of every spilled tail of this upload starts with: no place where anybody looks for objects."""
    return f"{root}.tails/{upload_id}/"


def new_key(prefix: str) -> str:
    """A key that no attempt has had before: a late write of a dead attempt can then never replace an object."""
    return prefix + new_token()


def safe_filename(name: str | None) -> str:
    """One segment of a key, made of what a client calls its file.

    Letters, digits, ``.``, ``_`` and ``-`` of any script stay, everything else becomes ``_``; no folder, no dot at
    either end, at most :data:`FILENAME_BYTES` of UTF-8, of which a suffix is kept. Without anything usable:
    :data:`UNNAMED`.
    """
    last = re.split(r"[/\\]", name or "")[-1]
    text = _UNSAFE.sub("_", unicodedata.normalize("NFC", last)).strip("._- ")
    stem, suffix = _split(text)
    return (_shorten(stem, FILENAME_BYTES - len(suffix.encode())) + suffix) or UNNAMED


def set_aside(key: str, upload_id: str) -> str:
    """The key that this upload takes when another object has the one it should have: with its id before the suffix."""
    parent, slash, name = key.rpartition("/")
    stem, suffix = _split(name)
    return f"{parent}{slash}{stem}.{upload_id}{suffix}"


def _split(name: str) -> tuple[str, str]:
    suffix = PurePosixPath(name).suffix
    return (name.removesuffix(suffix), suffix) if _SUFFIX.fullmatch(suffix) else (name, "")


def _shorten(text: str, size: int) -> str:
    return text.encode()[:size].decode(errors="ignore")


class KeyTemplate:
    """Where objects are published, such as ``{usecase}/{date}/{id}/{filename}``.

    The fields: ``prefix`` and ``usecase`` are the operator's; ``date``, ``year``, ``month``, ``day`` the upload's first
    day, in UTC; ``id`` its id; ``filename`` what :func:`safe_filename` makes of the client's name for the file. That
    one stands in the last segment only: no client ever chooses a folder.
    """

    def __init__(self, text: str, *, prefix: str, usecase: str) -> None:
        """ValueError says what is wrong with the template."""
        self._text = text
        self._fixed = {"prefix": prefix, "usecase": usecase}
        for field in _fields_of(text):
            _check_field(field)
        if "{filename}" in text.rpartition("/")[0]:
            raise ValueError("{filename} may stand after the last slash only: clients must not choose folders")
        if not {"{filename}", "{id}"} & {"{" + field + "}" for field in _fields_of(text)}:
            raise ValueError("put {id} or {filename} into it: without one every upload would get the same key")
        _check_key(self._fill(_LONGEST))

    def render(self, upload_id: str, created_at: datetime, filename: str | None) -> str:
        """The key for one upload. ``created_at`` in UTC; ``filename`` as the client gave it."""
        return self._fill(
            {
                "date": f"{created_at:%Y-%m-%d}",
                "day": f"{created_at:%d}",
                "filename": safe_filename(filename),
                "id": upload_id,
                "month": f"{created_at:%m}",
                "year": f"{created_at:%Y}",
            }
        )

    def _fill(self, values: Mapping[str, str]) -> str:
        return self._text.format(**self._fixed, **values)


def _fields_of(text: str) -> Iterator[str]:
    for _, field, form, conversion in string.Formatter().parse(text):
        if field is not None:
            if form or conversion:
                raise ValueError(f"a field is a name in braces and nothing else, unlike {{{field}}} here")
            yield field


def _check_field(field: str) -> None:
    if field not in _FIELDS:
        known = ", ".join(f"{{{name}}}" for name in _FIELDS)
        raise ValueError(f"there is no {{{field}}}; there are {known}")


def _check_key(key: str) -> None:
    segments = key.split("/")
    if not {"", ".", ".."}.isdisjoint(segments) or not key.isprintable():
        raise ValueError("give a key such as {usecase}/{id}/{filename}: no slash at its ends, nor '//', '.' or '..'")
    # An upload whose key is taken adds its id to the last segment.
    longest = max(len(segment.encode()) for segment in segments) + len(_LONGEST["id"]) + 1
    if longest > _SEGMENT_BYTES or len(key.encode()) + len(_LONGEST["id"]) + 1 > MAX_KEY_BYTES:
        raise ValueError(f"keys made of it could be too long: {MAX_KEY_BYTES} bytes, {_SEGMENT_BYTES} a segment")
