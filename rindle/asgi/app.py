"""The ASGI app: run it as it is, mount it, or splice its routes into another app."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from starlette.middleware.body_limit import MAX_BODY_SIZE_SCOPE_KEY, RequestBodyLimitMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from rindle.asgi.endpoint import EndpointOptions, Exchange, refuse
from rindle.asgi.health import Check, health_routes
from rindle.asgi.observing import find_request_id, observed
from rindle.asgi.urls import Target, find_target
from rindle.observability.context import RequestContext
from rindle.observability.observer import NOBODY, Observer
from rindle.uploads.engine import UploadEngine
from rindle.uploads.ids import is_upload_id

logger = logging.getLogger("rindle.asgi")

METRICS_PATH = "/metrics"
_NO_LIMIT = 1 << 62


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningService:
    """What a started app works with."""

    engine: UploadEngine
    checks: Mapping[str, Check]

    @property
    def draining(self) -> bool:
        """Whether it takes no new bytes any more."""
        return self.engine.draining


Start = Callable[[], AbstractAsyncContextManager[RunningService]]


class UploadApp:
    """Resumable uploads under ``path``, as an ASGI app.

    - Alone: ``uvicorn module:app``. It also serves ``/livez`` and ``/readyz``, and ``/metrics`` if it was given that.
    - In Starlette or FastAPI: add :attr:`routes` to the app's, and enter :meth:`lifespan` in its own. Exact routes for
      ``path`` with and without a slash: no redirect, which browsers would not follow with a preflight.
    - Mounted: ``Mount("/anywhere", app)``. Hosts do not run the lifespan of what is mounted, so that the app starts
      with its first request; call :meth:`aclose` when the host ends, so that running uploads keep what they have.
    """

    def __init__(
        self,
        start: Start,
        *,
        path: str,
        options: EndpointOptions,
        observer: Observer = NOBODY,
        metrics: ASGIApp | None = None,
    ) -> None:
        """``observer`` is told of all requests for uploads. ``metrics`` answers ``/metrics``, before the start too."""
        self.path = path
        self._start = start
        self._options = options
        self._starting = asyncio.Lock()
        self._context: AbstractAsyncContextManager[RunningService] | None = None
        self._service: RunningService | None = None
        self._observer = observer
        routes = health_routes(self._get_service)
        if metrics is not None:
            routes.append(Route(METRICS_PATH, _Endpoint(metrics), methods=["GET"]))
        self._operations = Router(routes)
        self._operation_paths = frozenset(route.path for route in routes)

    @property
    def routes(self) -> list[Route]:
        """Routes for the collection, with and without a slash, and for every upload in it."""
        endpoint = _Endpoint(self.serve)
        return [
            Route(self.path, endpoint),
            Route(f"{self.path}/{{upload_id:path}}", endpoint),
        ]

    @asynccontextmanager
    async def lifespan(self, _: Any = None) -> AsyncIterator[None]:  # noqa: ANN401 - whatever the host's app is
        """Start now, and at the end let running requests keep what they have."""
        await self._get_service()
        try:
            yield
        finally:
            await self.aclose()

    def drain(self) -> None:
        """Take no more bytes; what arrived is kept. For a signal handler: a shutdown will follow."""
        if self._service is not None:
            self._service.engine.drain()

    async def aclose(self) -> None:
        """Stop; harmless when done twice. A later request starts the app again."""
        async with self._starting:
            context, self._context, self._service = self._context, None, None
            if context is not None:
                await context.__aexit__(None, None, None)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve what a server or a mount sends: requests, and the lifespan when this app runs alone."""
        if scope["type"] == "lifespan":
            await self._run_lifespan(receive, send)
        elif scope["type"] == "websocket":
            await WebSocketClose()(scope, receive, send)
        elif scope["path"].removeprefix(scope.get("root_path", "")) in self._operation_paths:
            await self._operations(scope, receive, send)
        else:
            await self.serve(scope, receive, send)

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request for the collection or an upload."""
        target = find_target(scope, self.path)
        request = RequestContext(request_id=find_request_id(scope), protocol="tus")
        if target is not None and target.upload_id is not None and is_upload_id(target.upload_id):
            request.upload_id = target.upload_id

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            if target is None:
                await PlainTextResponse("Not Found", status_code=404)(scope, receive, send)
            else:
                await self._answer(request, target, scope, receive, send)

        await observed(answer, request, self._observer)(scope, receive, send)

    async def _answer(
        self, request: RequestContext, target: Target, scope: Scope, receive: Receive, send: Send
    ) -> None:
        try:
            service = await self._get_service()
        except Exception as error:  # noqa: BLE001 - whatever keeps us from starting, clients get an answer they know
            await refuse(error, self._options, request=request, target=target, scope=scope, send=send)
            return

        async def exchange(scope: Scope, receive: Receive, send: Send) -> None:
            await Exchange(
                service.engine, self._options, request=request, target=target, scope=scope, receive=receive, send=send
            ).run()

        if MAX_BODY_SIZE_SCOPE_KEY in scope:
            # The host's limit is for its own forms; ours is the uploads' own.
            await RequestBodyLimitMiddleware(exchange, max_body_size=_NO_LIMIT)(scope, receive, send)
        else:
            await exchange(scope, receive, send)

    async def _get_service(self) -> RunningService:
        if self._service is None:
            async with self._starting:
                if self._service is None:
                    context = self._start()
                    self._service = await context.__aenter__()
                    self._context = context
        return self._service

    async def _run_lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await self._get_service()
        except BaseException as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            raise
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.aclose()
        await send({"type": "lifespan.shutdown.complete"})


class _Endpoint:
    """An ASGI app that is not a function, which Starlette would take for something else."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)
