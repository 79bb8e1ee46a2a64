"""One request: head to command, command to engine, result to response, whatever happens."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from rindle.asgi.cors import CorsOptions, cors_headers
from rindle.asgi.receive import chunks_of
from rindle.asgi.urls import Target, UrlOptions, collection_url
from rindle.errors import RindleError
from rindle.observability.context import RequestContext
from rindle.protocols.base import Headers, RequestHead, ResponseHead
from rindle.protocols.errors import NotAuthenticatedError, NotPermittedError
from rindle.protocols.tus import response as tus
from rindle.protocols.tus.request import CreateAndAppend, Discover, Inspect, effective_method, parse
from rindle.uploads.body import BodyReader
from rindle.uploads.commands import AppendBytes, ConcatenateUploads, CreateUpload, TerminateUpload
from rindle.uploads.engine import UploadEngine
from rindle.uploads.model import Upload

logger = logging.getLogger("rindle.asgi")

Authorize = Callable[[Request], Awaitable[str]]
"""Who asks: the name under which uploads are kept apart.

Raises NotAuthenticatedError or NotPermittedError, or Starlette's HTTPException with 401 or 403, as FastAPI's security
helpers do.
Called before anything else is looked at, and before any byte of the body is read; not for OPTIONS, which browsers
send without credentials.
"""

# A client that is refused while it sends must be let send a little more, or it sees a reset instead of the answer.
_DRAIN_BYTES = 8 << 20
_DRAIN_SECONDS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointOptions:
    """What the web side of uploads may be told. ``expires``: whether uploads are dropped some day."""

    expires: bool
    authorize: Authorize | None
    cors: CorsOptions
    urls: UrlOptions


class Exchange:
    """One request and its response."""

    def __init__(
        self,
        engine: UploadEngine,
        options: EndpointOptions,
        *,
        request: RequestContext,
        target: Target,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        self._engine = engine
        self._options = options
        self._request = request
        self._target = target
        self._scope = scope
        self._read_chunk = chunks_of(receive)
        self._send = send
        self._headers = Headers(scope["headers"])
        self._head = self._make_head(owner="")
        self._body = BodyReader(self._read_chunk, declared=self._declared_length(), pace=engine.options.pace)

    async def run(self) -> None:
        """Answer the request."""
        try:
            response = await self._answer()
        except Exception as error:  # noqa: BLE001 - whatever it is, it gets an answer
            response = _render_error(self._request, self._head, error)
        finally:
            self._body.close()
            self._request.received = self._body.received
        await self._respond(response)

    async def _answer(self) -> ResponseHead:  # noqa: PLR0911 - one for each command
        self._headers.find("Host")  # of two nobody knows which is meant (RFC 9112 §3.2)
        if self._options.authorize is not None and effective_method(self._head) != "OPTIONS":
            self._head = self._make_head(owner=await self._find_owner(self._options.authorize))
        match parse(self._head):
            case Discover():
                return tus.render_discovery(max_size=self._engine.options.max_size, expires=self._options.expires)
            case Inspect() as inspect:
                return tus.render_inspection(await self._engine.inspect(inspect.upload_id, inspect.owner))
            case CreateUpload() as create:
                upload = self._about(await self._engine.create(create))
                return tus.render_created(upload, self._locate(upload.id))
            case CreateAndAppend() as both:
                return await self._create_and_append(both)
            case ConcatenateUploads() as concatenate:
                upload = self._about(await self._engine.concatenate(concatenate))
                return tus.render_created(upload, self._locate(upload.id))
            case AppendBytes() as append:
                return tus.render_appended(await self._engine.append(append, self._body))
            case TerminateUpload() as terminate:
                await self._engine.terminate(terminate)
                return tus.render_terminated()

    async def _find_owner(self, authorize: Authorize) -> str:
        try:
            return await authorize(Request(self._scope))
        except HTTPException as error:
            if error.status_code == HTTPStatus.UNAUTHORIZED:
                challenge = (error.headers or {}).get("WWW-Authenticate", "Bearer")
                raise NotAuthenticatedError(str(error.detail), challenge=challenge) from error
            if error.status_code == HTTPStatus.FORBIDDEN:
                raise NotPermittedError(str(error.detail)) from error
            raise

    async def _create_and_append(self, both: CreateAndAppend) -> ResponseHead:
        upload = self._about(await self._engine.create(both.create))
        location = self._locate(upload.id)
        append = AppendBytes(
            upload_id=upload.id,
            owner=upload.owner,
            offset=0,
            body_length=both.create.body_length,
            checksum=both.checksum,
        )
        try:
            upload = await self._engine.append(append, self._body)
        except Exception as error:  # noqa: BLE001 - whatever it is, the client hears where its upload is
            return _render_error(self._request, self._head, error, location=location)
        return tus.render_created(upload, location)

    def _about(self, upload: Upload) -> Upload:
        self._request.upload_id = upload.id
        return upload

    async def _respond(self, response: ResponseHead) -> None:
        unread = self._has_unread_body()
        await self._send(_start(response, self._head, self._options.cors, close=unread))
        await self._send({"type": "http.response.body", "body": response.body, "more_body": unread})
        if unread:
            await self._drain()
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _drain(self) -> None:
        """Take what is on its way, within bounds. Who waits to be told to continue has sent nothing."""
        if self._body.received == 0 and self._headers.join("Expect").lower() == "100-continue":
            return
        rest = BodyReader(self._read_chunk, declared=None, pace=self._engine.options.pace)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_SECONDS):
                await rest.drain(_DRAIN_BYTES)
        rest.close()

    def _has_unread_body(self) -> bool:
        if self._body.complete and not self._body.overrun:
            return False
        return "transfer-encoding" in self._headers or self._headers.join("Content-Length") not in ("", "0")

    def _declared_length(self) -> int | None:
        try:
            return self._head.body_length
        except RindleError:  # parse() says it
            return None

    def _make_head(self, *, owner: str) -> RequestHead:
        return RequestHead(
            method=self._scope["method"], upload_id=self._target.upload_id, owner=owner, headers=self._headers
        )

    def _locate(self, upload_id: str) -> str:
        return f"{collection_url(self._scope, self._headers, self._target, self._options.urls)}/{upload_id}"


async def refuse(
    error: Exception, options: EndpointOptions, *, request: RequestContext, target: Target, scope: Scope, send: Send
) -> None:
    """Answer a request for which there is no engine: it could not be started."""
    head = RequestHead(method=scope["method"], upload_id=target.upload_id, owner="", headers=Headers(scope["headers"]))
    response = _render_error(request, head, error)
    await send(_start(response, head, options.cors, close=True))
    await send({"type": "http.response.body", "body": response.body, "more_body": False})


def _render_error(
    request: RequestContext, head: RequestHead, error: Exception, *, location: str | None = None
) -> ResponseHead:
    if isinstance(error, RindleError):
        request.code = error.code
        logger.log(error.log_level, "%s %s: %s", head.method, error.code, error.log_message, extra={"code": error.code})
        return tus.render_error(head, error, location=location)
    request.code = RindleError.code
    logger.error("a request failed in a way that nobody foresaw", exc_info=error, extra={"code": request.code})
    return tus.render_error(head, RindleError(repr(error)), location=location)


def _start(response: ResponseHead, head: RequestHead, cors: CorsOptions, *, close: bool) -> Message:
    headers = [*response.headers, *cors_headers(head.method, head.headers, cors)]
    if response.status != 204:  # noqa: PLR2004 - no content, no length (RFC 9110 §8.6)
        headers.append(("Content-Length", str(len(response.body))))
    if close:
        headers.append(("Connection", "close"))
    raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    return {"type": "http.response.start", "status": response.status, "headers": raw}
