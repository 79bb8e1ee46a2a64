"""Reading an object: what is asked of the service, and its bytes as they come."""

import re
from collections.abc import AsyncIterator
from datetime import UTC
from email.utils import parsedate_to_datetime

from typing_extensions import override

from rindle.objectstore.azure.container import Download, Headers
from rindle.objectstore.azure.errors import translated
from rindle.objectstore.headers import one_e_tag, spell_range, unquoted
from rindle.objectstore.types import GetOptions, ObjectMeta

_NOTHING: tuple[bytes, ...] = ()
_CONTENT_RANGE = re.compile(r"bytes \d+-\d+/(\d+)")


class ObjectStream(AsyncIterator[bytes]):
    """The body of an answer. Reading to the end gives its connection back; closing it before cuts it."""

    def __init__(self, key: str, download: Download) -> None:
        self._key = key
        self._download = download

    @override
    async def __anext__(self) -> bytes:
        with translated(self._key):
            return await anext(self._download.body)

    async def aclose(self) -> None:
        """Let go of the connection; harmless when done twice."""
        self._download.close()


async def no_bytes() -> AsyncIterator[bytes]:
    """The body of an answer that has none."""
    for chunk in _NOTHING:
        yield chunk


def request_headers(options: GetOptions) -> dict[str, str]:
    """The range, and the one condition that saves a body: whether the caller has it already.

    All conditions are looked at in the answer, so that every store reads them in the same way.
    """
    headers = {} if options.range is None else {"x-ms-range": spell_range(options.range)}
    alone = options.if_match is None and options.if_unmodified_since is None
    one = one_e_tag(options.if_none_match)
    return {**headers, "If-None-Match": f'"{one}"'} if alone and one else headers


def meta_of(key: str, headers: Headers, *, versions: bool) -> ObjectMeta:
    """The object in the headers of an answer to HEAD or GET."""
    ranged = _CONTENT_RANGE.fullmatch(headers.get("Content-Range") or "")
    return ObjectMeta(
        key=key,
        size=int(ranged[1] if ranged else headers["Content-Length"]),
        last_modified=parsedate_to_datetime(headers["Last-Modified"]).astimezone(UTC),
        e_tag=unquoted(headers.get("ETag")),
        version=headers.get("x-ms-version-id") if versions else None,
    )
