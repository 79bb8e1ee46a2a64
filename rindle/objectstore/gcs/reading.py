"""Reading an object: its bytes as they come."""

from collections.abc import AsyncIterator

import aiohttp
from typing_extensions import override

from rindle.objectstore.gcs.errors import translated

_NOTHING: tuple[bytes, ...] = ()


class ObjectStream(AsyncIterator[bytes]):
    """The body of an answer. Reading to the end gives its connection back; closing it before cuts it."""

    def __init__(self, key: str, response: aiohttp.ClientResponse) -> None:
        self._key = key
        self._response = response

    @override
    async def __anext__(self) -> bytes:
        with translated(self._key):
            chunk = await self._response.content.readany()
        if not chunk:
            raise StopAsyncIteration
        return chunk

    async def aclose(self) -> None:
        """Let go of the connection; harmless when done twice."""
        self._response.close()


async def no_bytes() -> AsyncIterator[bytes]:
    """The body of an answer that has none."""
    for chunk in _NOTHING:
        yield chunk
