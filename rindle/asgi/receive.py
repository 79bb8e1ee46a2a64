"""From ASGI messages to the chunks of a body."""

from starlette.types import Receive

from rindle.uploads.body import ReadChunk
from rindle.uploads.errors import ClientDisconnectedError


def chunks_of(receive: Receive) -> ReadChunk:
    """Chunks until the message that says it is the last. ``http.disconnect`` is an error, never the end of a body."""
    more = True

    async def read_chunk() -> bytes | None:
        nonlocal more
        if not more:
            return None
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnectedError
        more = message.get("more_body", False)
        chunk: bytes = message.get("body", b"")
        return chunk if chunk or more else None

    return read_chunk
