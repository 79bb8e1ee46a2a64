"""A payload as the body of an HTTP request: neither joined nor copied, and sent again from its start on a retry."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Sequence
from contextlib import aclosing
from typing import Any, TypeVar

from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import Payload as HttpPayload
from typing_extensions import override

from rindle.objectstore.errors import StoreTimeoutError
from rindle.objectstore.payload import Payload, PayloadCheck, batches, crc64nvme
from rindle.objectstore.tasks import outlast

Result = TypeVar("Result")

_STEP = 1 << 18  # what is sent before others get their turn in the event loop


class RequestBody(HttpPayload):
    """What SDKs take for a file that they can rewind, and aiohttp for a body that writes itself.

    The last bytes are not sent before the payload has proved to be as long as it said, and, with ``digest``, to have
    the CRC-64/NVME that it said: a request that is cut short writes nothing. ``failed`` gets what the payload raises,
    which an SDK would take for a broken connection and try again.

    ``patience``: seconds until a service that takes no more bytes is given up. Neither SDKs nor aiohttp have a bound
    for that, nor for how long a service may think about a request's head before it wants the body.
    """

    def __init__(self, payload: Payload, *, store: str, key: str, digest: bool, patience: float) -> None:
        super().__init__(payload)
        self._size = payload.size
        self.failed: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
        self._payload = payload
        self._store = store
        self._key = key
        self._digest = digest
        self._patience = patience
        self._timer: asyncio.TimerHandle | None = None

    def offer(self) -> None:
        """A request begins whose body this is: the service has to want it soon, or to answer."""
        self.settle()
        self._timer = asyncio.get_running_loop().call_later(self._patience, self._give_up)

    def settle(self) -> None:
        """The service wants it, or has answered."""
        if self._timer is not None:
            self._timer.cancel()

    def _give_up(self) -> None:
        if not self.failed.done():
            msg = "the service does not take the request"
            self.failed.set_result(StoreTimeoutError(msg, store=self._store, key=self._key))

    def __len__(self) -> int:
        return self.size or 0

    def tell(self) -> int:
        """Where a file would be: every sending starts at the beginning."""
        return 0

    def seek(self, offset: int, whence: int = 0) -> int:  # noqa: ARG002 - a file's signature
        """Rewind, which needs no doing."""
        return 0

    def read(self, size: int = -1) -> bytes:
        """Nobody reads it: SDKs only look whether this is there, to know a file by it."""
        raise NotImplementedError

    @override
    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        raise NotImplementedError

    @override
    async def write(self, writer: AbstractStreamWriter) -> None:
        await self.write_with_length(writer, None)

    @override
    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        self.settle()
        async with aclosing(self.checked()) as steps:
            async for chunks in steps:
                async with asyncio.timeout(self._patience):
                    for chunk in chunks:
                        await writer.write(chunk)
                await asyncio.sleep(0)

    async def checked(self) -> AsyncGenerator[Sequence[bytes], None]:
        """The payload's chunks, in lists; the last of them when all are known to be right."""
        check = PayloadCheck(self._payload, store=self._store, key=self._key, digest=self._digest)
        try:
            async with aclosing(batches(self._payload, _STEP)) as lists:
                held: Sequence[bytes] = ()
                async for chunks in lists:
                    check.update(chunks)
                    yield held
                    held = chunks
            check.finish()
        except Exception as error:
            if not self.failed.done():
                self.failed.set_result(error)
            raise
        yield held


async def checksum(payload: Payload, *, store: str, key: str) -> int:
    """The CRC-64/NVME of a payload; one that does not know its own is read for it."""
    crc = payload.crc64nvme
    if crc is None:
        crc = 0
        check = PayloadCheck(payload, store=store, key=key, digest=False)
        async with aclosing(batches(payload)) as lists:
            async for chunks in lists:
                check.update(chunks)
                for chunk in chunks:
                    crc = crc64nvme(chunk, crc)
        check.finish()
    return crc


async def transmit(body: RequestBody, request: Awaitable[Result]) -> Result:
    """The answer to a request with this body. What the payload raises comes through as it is, and ends the request."""
    sending = asyncio.ensure_future(request)
    first: list[asyncio.Future[Any]] = [sending, body.failed]
    try:
        await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
        if body.failed.done():
            raise body.failed.result()
        return await sending
    finally:
        body.settle()
        sending.cancel()
        await outlast(sending)
