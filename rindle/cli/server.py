"""How this process serves HTTP: its socket, its event loop, its memory, its signals."""

import asyncio
import contextlib
import ctypes
import errno
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from typing import Any

import uvicorn
from typing_extensions import override

from rindle.asgi.app import UploadApp
from rindle.cli.connection import Connection
from rindle.errors import ConfigurationError

_BACKLOG = 2048
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; ConfigurationError says why there is none."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)  # now: two that only bind do not see each other
    except (OSError, OverflowError) as error:
        listener.close()
        in_use = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        why = "it is in use; choose another with --port" if in_use else str(getattr(error, "strerror", None) or error)
        msg = f"cannot listen on {host} port {port}: {why}"
        raise ConfigurationError(msg) from error
    return listener


def url_of(listener: socket.socket) -> str:
    """The URL under which a listener on all addresses, or on one, is reached from this machine."""
    return url_at(*listener.getsockname()[:2])


def url_at(host: str, port: int) -> str:
    """The same, for an address and a port that are listened on."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - read, not bound
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"


@contextlib.asynccontextmanager
async def serving(app: UploadApp, listener: socket.socket, *, grace: float) -> AsyncIterator["Server"]:
    """Serve while the block runs; then take no more bytes, let requests end within the grace, and stop."""
    config = uvicorn.Config(
        app,
        http=Connection,
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=max(1, round(grace)),
    )
    server = Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await server.ready.wait()
        yield server
    finally:
        app.drain()
        server.should_exit = True
        await task


class Server(uvicorn.Server):
    """uvicorn that says when it is ready, and leaves signals to :func:`listen_for_signals`."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    @override
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


def listen_for_signals(server: Server) -> asyncio.Event:
    """An event that SIGTERM or SIGINT sets, from now on; a second one does not wait for running requests."""
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()

    def ask() -> None:
        if asked.is_set():
            server.force_exit = True
        asked.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ask)
    return asked


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine in the fastest event loop there is."""
    _tune_malloc()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(main)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415 - not on every interpreter
    except ImportError:
        return None
    return uvloop.new_event_loop


def _tune_malloc() -> None:
    """Keep glibc from giving back and fetching again the memory of every chunk: half of the cost of receiving.

    And from giving threads memory of their own: what a chunk has left there would be of no use to the others.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # another libc
            libc = ctypes.CDLL("libc.so.6")
            libc.mallopt(_M_MMAP_THRESHOLD, 32 << 20)
            libc.mallopt(_M_TRIM_THRESHOLD, 64 << 20)
            libc.mallopt(_M_ARENA_MAX, 1)
