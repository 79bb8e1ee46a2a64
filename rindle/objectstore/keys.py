"""What a key may be: the same on every backend, so that none of them can read it as something else."""

from pathlib import PurePosixPath

from rindle.objectstore.errors import InvalidKeyError

MAX_KEY_BYTES = 1024  # S3's limit, the shortest of the backends'
_FORBIDDEN_SEGMENTS = frozenset({"", ".", ".."})


def validate_key(key: str | PurePosixPath, *, store: str) -> str:
    """The key as text; InvalidKeyError says what is wrong with it."""
    text = str(key)
    if text == "":
        msg = "a key must not be empty"
        raise InvalidKeyError(msg, store=store)
    _check_text(text, store=store)
    if not _FORBIDDEN_SEGMENTS.isdisjoint(text.split("/")):
        msg = "a key must not start or end with '/', nor hold '//', '.' or '..' as a segment"
        raise InvalidKeyError(msg, store=store, key=text)
    return text


def validate_prefix(prefix: str, *, store: str) -> str:
    """A prefix is any text that a key could start with, '' included."""
    _check_text(prefix, store=store)
    return prefix


def _check_text(text: str, *, store: str) -> None:
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        msg = "a key must be valid Unicode text"
        raise InvalidKeyError(msg, store=store, key=ascii(text)) from None
    if size > MAX_KEY_BYTES:
        msg = f"a key must not be longer than {MAX_KEY_BYTES} bytes, this one has {size}"
        raise InvalidKeyError(msg, store=store)
    if any(character < " " or character == "\x7f" for character in text):
        msg = "a key must not hold control characters"
        raise InvalidKeyError(msg, store=store, key=text)


def is_key(name: str, *, store: str) -> bool:
    """Whether a name that others may have given could be a key."""
    try:
        validate_key(name, store=store)
    except InvalidKeyError:
        return False
    return True
