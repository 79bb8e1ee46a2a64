"""Requests to the service: authorized, with foreign errors translated, and made again while that may help."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import quote, urlencode

import aiohttp
from yarl import URL

from rindle.objectstore.errors import StoreUnavailableError, UnauthenticatedError
from rindle.objectstore.gcs.credentials import Identity
from rindle.objectstore.gcs.errors import STORE, Refusal, translated
from rindle.objectstore.gcs.options import GCSOptions
from rindle.objectstore.retry import persist
from rindle.objectstore.transfer import RequestBody, transmit

Headers = Mapping[str, str]
Query = Mapping[str, str | None]

Result = TypeVar("Result")
Reader = Callable[[aiohttp.ClientResponse], Awaitable[Result]]

GOOGLE = "https://storage.googleapis.com"

_FIRST_ERROR = 300
_LONGEST_ERROR = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request, about the object with this key, or about the bucket.

    ``body`` is made for every sending; ``read_timeout`` is for what takes longer.
    """

    method: str
    path: str
    key: str | None = None
    query: Query | None = None
    headers: Headers | None = None
    body: Callable[[], RequestBody | bytes] | None = None
    read_timeout: float | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that is a success, read to its end."""

    headers: Headers
    body: bytes


class Connection:
    """The connections to one service, and who asks. For one event loop."""

    def __init__(self, options: GCSOptions) -> None:
        self.identity = Identity(options)
        self.endpoint = (options.endpoint or GOOGLE).rstrip("/")
        self._options = options
        self._stack = AsyncExitStack()
        self._making = asyncio.Lock()
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    async def aclose(self) -> None:
        """Close all connections; harmless when done twice."""
        async with self._making:
            self._closed = True
            self.identity.close()
            await self._stack.aclose()

    async def ask(self, call: Call) -> Answer:
        """Make a request, and read its answer."""
        return await self._persist(call, _read)

    async def open(self, call: Call) -> aiohttp.ClientResponse:
        """Make a request, and leave its answer to be read, and closed."""
        return await self._persist(call, _leave)

    async def _persist(self, call: Call, read: Reader[Result]) -> Result:
        async def attempt() -> Result:
            try:
                return await self._attempt(call, read, await self.identity.headers())
            except UnauthenticatedError as error:
                # A token may be withdrawn before it runs out; what there is to get a new one with may be good.
                if not isinstance(error.__cause__, Refusal):
                    raise
            return await self._attempt(call, read, await self.identity.headers(renew=True))

        return await persist(attempt, attempts=self._options.attempts)

    async def _attempt(self, call: Call, read: Reader[Result], authorization: Headers) -> Result:
        body = None if call.body is None else call.body()

        async def send() -> Result:
            with translated(call.key):
                response = await self._send(call, authorization, body)
                try:
                    await _require_success(response, call)
                    return await read(response)
                except BaseException:
                    response.close()
                    raise

        return await (transmit(body, send()) if isinstance(body, RequestBody) else send())

    async def _send(
        self, call: Call, authorization: Headers, body: RequestBody | bytes | None
    ) -> aiohttp.ClientResponse:
        options = self._options
        headers = {**authorization, **(call.headers or {})}
        if options.user_project is not None:
            headers["x-goog-user-project"] = options.user_project
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=options.connect_timeout, sock_read=call.read_timeout or options.read_timeout
        )
        session = await self._connected()
        url = self.url(call.path, call.query)
        return await session.request(
            call.method, url, headers=headers, data=body, timeout=timeout, allow_redirects=False
        )

    async def _connected(self) -> aiohttp.ClientSession:
        async with self._making:
            if self._closed:
                msg = "the store is closed"
                raise StoreUnavailableError(msg, store=STORE)
            if self._session is None:
                # Objects come as they are kept: the service would decompress them for whoever does not take gzip.
                self._session = await self._stack.enter_async_context(
                    aiohttp.ClientSession(
                        connector=aiohttp.TCPConnector(limit=self._options.connections),
                        cookie_jar=aiohttp.DummyCookieJar(),
                        headers={"Accept-Encoding": "gzip"},
                        skip_auto_headers={"Content-Type"},
                        auto_decompress=False,
                        trust_env=True,
                    )
                )
            return self._session

    def url(self, path: str, query: Query | None = None) -> URL:
        """Where something is, with nothing left to be encoded."""
        given = {name: value for name, value in (query or {}).items() if value is not None}
        return URL(f"{self.endpoint}{path}{'?' if given else ''}{urlencode(given, quote_via=quote)}", encoded=True)


async def _require_success(response: aiohttp.ClientResponse, call: Call) -> None:
    if response.status >= _FIRST_ERROR:
        raise Refusal.of(response.status, await response.content.read(_LONGEST_ERROR), call.key)


async def _read(response: aiohttp.ClientResponse) -> Answer:
    async with response:
        return Answer(response.headers, await response.read())


async def _leave(response: aiohttp.ClientResponse) -> aiohttp.ClientResponse:
    return response
