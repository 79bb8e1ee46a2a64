"""Whether this process lives, and whether it should be sent requests."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

Check = Callable[[], Awaitable[None]]
"""Returns if all is well; raises whatever says why not."""

_TIMEOUT = 5.0


class Service(Protocol):
    """What is asked about."""

    @property
    def draining(self) -> bool:
        """Whether it is on its way out."""
        ...

    @property
    def checks(self) -> Mapping[str, Check]:
        """What must be well for requests to be served, by name."""
        ...


def health_routes(get_service: Callable[[], Awaitable[Service]]) -> list[Route]:
    """``/livez``: the event loop turns. ``/readyz``: not draining, and every check passes; else 503 and which."""

    async def livez(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_: Request) -> Response:
        service = await get_service()
        checks = {name: await _run(check) for name, check in service.checks.items()}
        checks["accepting"] = "draining" if service.draining else "ok"
        ready = set(checks.values()) == {"ok"}
        return JSONResponse({"ready": ready, "checks": checks}, status_code=200 if ready else 503)

    return [Route("/livez", livez), Route("/readyz", readyz)]


async def _run(check: Check) -> str:
    try:
        async with asyncio.timeout(_TIMEOUT):
            await check()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer
        return getattr(error, "code", type(error).__name__)
    return "ok"
