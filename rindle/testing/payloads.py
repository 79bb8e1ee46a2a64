"""Bodies that misbehave, for tests of what a store makes of them."""

import asyncio
from collections.abc import AsyncIterator

from typing_extensions import override

from rindle.objectstore.payload import Payload


class SourceFailedError(Exception):
    """What a :class:`FailingPayload` raises."""


class FailingPayload(Payload):
    """Gives its bytes, in one chunk, and then raises instead of the ``missing`` ones."""

    def __init__(self, begun: bytes, *, missing: int = 1) -> None:
        super().__init__(len(begun) + missing)
        self._begun = begun

    @override
    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._begun
        raise SourceFailedError


class HeldPayload(Payload):
    """Gives its first bytes, says so by ``begun``, and gives the rest when ``go_on`` is set."""

    def __init__(self, first: bytes, rest: bytes = b"") -> None:
        super().__init__(len(first) + len(rest))
        self._first = first
        self._rest = rest
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()

    @override
    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._first
        self.begun.set()
        await self.go_on.wait()
        yield self._rest


class MislabelledPayload(Payload):
    """Says that it has another size than it gives."""

    def __init__(self, data: bytes, *, size: int) -> None:
        super().__init__(size)
        self._data = data

    @override
    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._data


class UntouchablePayload(Payload):
    """Fails the test when it is read: nothing may be sent of it."""

    def __init__(self) -> None:
        super().__init__(1)

    @override
    def __aiter__(self) -> AsyncIterator[bytes]:
        msg = "the payload was read"
        raise AssertionError(msg)
