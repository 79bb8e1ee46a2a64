"""What a store gives to whoever reads an object."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from types import TracebackType
from typing import Self

from rindle.objectstore.types import NO_ATTRIBUTES, Attributes, ObjectMeta


class GetResult:
    """An object that is being read: what it is, and its bytes as a stream.

    Iterate once, or call :meth:`read`. Whoever got it closes it: it is an async context manager, and reading to
    the end closes it too. ``range`` is the part that the stream gives, half-open; the whole object without one.
    """

    def __init__(
        self,
        *,
        meta: ObjectMeta,
        attributes: Attributes = NO_ATTRIBUTES,
        range: tuple[int, int] | None = None,  # noqa: A002 - the word of the HTTP and object_store APIs
        stream: AsyncIterator[bytes],
    ) -> None:
        self.meta = meta
        self.attributes = attributes
        self.range = (0, meta.size) if range is None else range
        self._stream = stream

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._stream

    async def read(self) -> bytes:
        """All bytes of the range at once, in memory."""
        async with aclosing(self):
            return b"".join([chunk async for chunk in self])

    async def aclose(self) -> None:
        """Let go of the file or connection behind the stream; harmless when done twice."""
        close = getattr(self._stream, "aclose", None)
        if close is not None:
            await close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
