"""Whether an object may be read under the caller's conditions, and which of its bytes: one answer for all stores."""

import re
from datetime import datetime

from rindle.objectstore.errors import InvalidRangeError, NotModifiedError, PreconditionFailedError
from rindle.objectstore.types import ByteRange, GetOptions, ObjectMeta, SuffixRange

_E_TAG = re.compile(r'(?P<weak>W/)?"(?P<quoted>[^"]*)"|(?P<bare>[^\s,"]+)')


def check_conditions(meta: ObjectMeta, options: GetOptions, *, store: str) -> None:
    """Let the object pass, or raise PreconditionFailedError or NotModifiedError, in the order of RFC 9110 §13.2.2."""
    if not _may_be_read(meta, options):
        msg = "the object is not in the state that was asked for"
        raise PreconditionFailedError(msg, store=store, key=meta.key)
    if not _is_news(meta, options):
        msg = "the object has not changed"
        raise NotModifiedError(msg, store=store, key=meta.key)


def _may_be_read(meta: ObjectMeta, options: GetOptions) -> bool:
    if options.if_match is not None:
        return _matches(meta.e_tag, options.if_match, weak=False)
    if options.if_unmodified_since is not None:
        return _whole_seconds(meta.last_modified) <= options.if_unmodified_since
    return True


def _is_news(meta: ObjectMeta, options: GetOptions) -> bool:
    if options.if_none_match is not None:
        return not _matches(meta.e_tag, options.if_none_match, weak=True)
    if options.if_modified_since is not None:
        return _whole_seconds(meta.last_modified) > options.if_modified_since
    return True


def _matches(e_tag: str | None, condition: str, *, weak: bool) -> bool:
    """Whether a list of e_tags names this one; a weak one (``W/"…"``) counts only where weak comparison is asked."""
    if condition.strip() == "*":
        return True
    named = (found for found in _E_TAG.finditer(condition) if weak or not found["weak"])
    return e_tag in {found["bare"] if found["quoted"] is None else found["quoted"] for found in named}


def _whole_seconds(instant: datetime) -> datetime:
    # A client sends back the Last-Modified that it was given, and that had no fraction.
    return instant.replace(microsecond=0)


def resolve_range(requested: ByteRange | SuffixRange | None, size: int, *, store: str, key: str) -> tuple[int, int]:
    """The half-open range of an object of ``size`` bytes; InvalidRangeError when it holds none of them."""
    start, end = 0, size
    if isinstance(requested, SuffixRange):
        start = max(0, size - requested.length)
    elif isinstance(requested, ByteRange):
        start = requested.start
        end = size if requested.end is None else min(requested.end, size)
    if requested is not None and start >= end:
        msg = f"the object has {size} bytes, none of them in {requested}"
        raise InvalidRangeError(msg, store=store, key=key)
    return start, end
