"""Reading an object: what is asked of the service, and its bytes as they come."""

from collections.abc import AsyncIterator
from typing import Protocol

from typing_extensions import override

from rindle.objectstore.headers import one_e_tag, spell_range
from rindle.objectstore.s3.errors import translated
from rindle.objectstore.types import ByteRange, GetOptions, SuffixRange

_READ_SIZE = 1 << 20
_NOTHING: tuple[bytes, ...] = ()


class Body(Protocol):
    """The SDK's streaming body, as far as it is needed."""

    async def read(self, amt: int) -> bytes:
        """At most so many bytes; none at the end."""

    def close(self) -> None:
        """Cut the connection."""


class ObjectStream(AsyncIterator[bytes]):
    """The body of an answer. Reading to the end gives its connection back; closing it before cuts it."""

    def __init__(self, key: str, body: Body) -> None:
        self._key = key
        self._body = body

    @override
    async def __anext__(self) -> bytes:
        with translated(self._key):
            chunk = await self._body.read(_READ_SIZE)
        if not chunk:
            raise StopAsyncIteration
        return chunk

    async def aclose(self) -> None:
        """Let go of the connection; harmless when done twice."""
        self._body.close()


async def no_bytes() -> AsyncIterator[bytes]:
    """The body of an answer that has none."""
    for chunk in _NOTHING:
        yield chunk


def range_parameters(requested: ByteRange | SuffixRange | None) -> dict[str, str]:
    """The range that is asked for."""
    return {} if requested is None else {"Range": spell_range(requested)}


def condition_parameters(options: GetOptions) -> dict[str, str]:
    """The one condition that saves a body: whether the caller has it already.

    All conditions are looked at in the answer, as services differ in how they read lists and several at once.
    """
    alone = options.if_match is None and options.if_unmodified_since is None
    one = one_e_tag(options.if_none_match)
    return {"IfNoneMatch": f'"{one}"'} if alone and one else {}
