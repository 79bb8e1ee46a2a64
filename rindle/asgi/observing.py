"""One request, seen from outside: its id, its line in the log, its counts, its span."""

import logging
from time import perf_counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rindle.observability.context import RequestContext, choose_request_id, serving
from rindle.observability.observer import Observer
from rindle.observability.tracing import describe_request, request_span

logger = logging.getLogger("rindle.access")

_ID_HEADER = b"x-request-id"


def observed(app: ASGIApp, request: RequestContext, observer: Observer) -> ASGIApp:
    """``app``, which adds to the request what it learns; its answer gets the request's id as ``X-Request-ID``."""

    async def run(scope: Scope, receive: Receive, send: Send) -> None:
        status: int | None = None

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (_ID_HEADER, request.request_id.encode())]
            await send(message)

        began = perf_counter()
        with serving(request), request_span(scope["method"], scope["headers"]):
            try:
                await app(scope, receive, answer)
            finally:
                describe_request(status=status, upload_id=request.upload_id)
                observer.request_answered(scope["method"], status)
                if request.code is not None:
                    observer.error_answered(request.code)
                _log(scope["method"], status, request, perf_counter() - began)

    return run


def find_request_id(scope: Scope) -> str:
    """The id that the request brings, if it is sane and the only one; else a new one."""
    given = [value.decode("latin-1") for name, value in scope["headers"] if name == _ID_HEADER]
    return choose_request_id(given[0] if len(given) == 1 else None)


def _log(method: str, status: int | None, request: RequestContext, seconds: float) -> None:
    # Never the URL: it may hold what proves who asks, and what it names is said by the upload's id.
    logger.info(
        "%s %s in %.3f s, %d bytes received",
        method,
        status or "not answered",
        seconds,
        request.received,
        extra={
            "method": method,
            "status": status,
            "code": request.code,
            "protocol": request.protocol,
            "duration_s": round(seconds, 6),
            "bytes_received": request.received,
        },
    )
