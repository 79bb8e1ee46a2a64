"""A tus client that tries again as long as it is told to, and takes any other refusal for a broken promise."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from tests.http import Client, Response

CUT = 0
"""Stands for a status where the connection ended without an answer."""

# tus-js-client's rules: these it tries again with the upload it has.
RETRYABLE = {
    "POST": {CUT, 502, 503, 504},
    "HEAD": {CUT, 423},
    "PATCH": {CUT, 409, 423, 502, 503, 504},
}
_PAUSE = 0.1
_PATIENCE = 60.0


@dataclass(frozen=True)
class Answer:
    method: str
    status: int
    code: str


@dataclass
class Uploader:
    """One upload of ``content``, ``chunk`` bytes with each request."""

    client: Client
    content: bytes
    chunk: int
    location: str = ""
    offset: int = 0
    answers: list[Answer] = field(default_factory=list)

    @property
    def refusals(self) -> list[Answer]:
        return [answer for answer in self.answers if answer.status not in (200, 201, 204)]

    async def run(self) -> None:
        """All of it, from creation to end."""
        await self.create()
        await self.finish()

    async def create(self, *, first: int | None = None) -> None:
        """``first``: how many bytes go with the creation."""
        body = None if first is None else self.content[:first]
        headers = [("Upload-Length", str(len(self.content)))]
        if body is not None:
            headers.append(("Content-Type", "application/offset+octet-stream"))
        created = await self._insist("POST", lambda: self.client.post(*headers, body=body))
        self.location = created.location
        self.offset = 0 if body is None else created.offset

    async def finish(self) -> None:
        """The rest, however often it is refused for now."""
        async with asyncio.timeout(_PATIENCE):
            while self.offset < len(self.content):
                if (await self.step()).status != 204:
                    await asyncio.sleep(_PAUSE)
                    await self.look()

    async def step(self) -> Answer:
        """One PATCH."""
        body = self.content[self.offset : self.offset + self.chunk]
        answer, response = await self._ask("PATCH", lambda: self.client.patch(self.location, self.offset, body))
        if response is not None and answer.status == 204:
            self.offset = response.offset
        return answer

    async def reach(self, offset: int) -> None:
        """Return when the server has taken so many bytes, whatever this upload itself knows of it."""
        async with asyncio.timeout(_PATIENCE):
            while (await self.client.head(self.location)).offset < offset:
                pass

    async def look(self) -> None:
        """Ask for the offset until there is an answer."""
        found = await self._insist("HEAD", lambda: self.client.head(self.location))
        self.offset = found.offset

    async def _insist(self, method: str, request: Callable[[], Awaitable[Response]]) -> Response:
        async with asyncio.timeout(_PATIENCE):
            while True:
                answer, response = await self._ask(method, request)
                if response is not None and answer.status not in RETRYABLE[method]:
                    return response
                await asyncio.sleep(_PAUSE)

    async def _ask(self, method: str, request: Callable[[], Awaitable[Response]]) -> tuple[Answer, Response | None]:
        response = None
        try:
            response = await request()
            answer = Answer(method, response.status, response.code)
        except (ConnectionError, asyncio.IncompleteReadError) as error:
            answer = Answer(method, CUT, type(error).__name__)
        self.answers.append(answer)
        assert answer.status in {200, 201, 204} | RETRYABLE[method], (answer, response, self.answers)
        if response is not None and answer.status in (423, 503):
            assert "retry-after" in response.headers, response
        return answer, response


def noise(seed: int, size: int) -> bytes:
    """Bytes that no other seed gives."""
    return random.Random(seed).randbytes(size)
