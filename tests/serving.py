"""A server in the test's own event loop: real sockets outside, its parts within reach inside."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, cast

import pytest
import uvicorn
from sqlalchemy import select, text
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.server import ServerState

from rindle.asgi.app import UploadApp
from rindle.asgi.endpoint import Authorize
from rindle.bootstrap import Components, make_metrics, open_components, serve_components
from rindle.cli.connection import Connection
from rindle.cli.server import bind, serving
from rindle.db.models import outbox, sources, uploads
from rindle.db.models import parts as part_rows
from rindle.objectstore.base import MultipartStore
from rindle.observability.observer import NOBODY
from rindle.reaper.service import Reaper, ReaperOptions
from rindle.settings import Settings
from rindle.uploads.engine import UploadEngine
from rindle.uploads.leases import LeaseOptions
from rindle.uploads.model import Part, Upload
from rindle.uploads.options import EngineOptions
from rindle.uploads.ports import UploadRepository
from tests.http import Client, files_below, id_of

PATIENCE = 20.0
"""Seconds until a test gives up on something that should have happened; never how long it takes."""

Change = Callable[[Components], Components]


class Tap:
    """Sits before an app and lets a test wait for what happens there instead of guessing how long it takes."""

    def __init__(self, app: UploadApp) -> None:
        self.received = 0
        """Bytes of bodies that were handed to the app."""
        self.taken = 0
        """As many of them as the app had dealt with when it asked for more."""
        self.ended = 0
        """Requests that the app is through with."""
        self._app = app
        self._moved = asyncio.Condition()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def counted() -> Message:
            self.taken = self.received
            await self._tell()
            message = await receive()
            self.received += len(message.get("body", b""))
            return message

        try:
            await self._app(scope, counted, send)
        finally:
            self.ended += 1
            await self._tell()

    def drain(self) -> None:
        self._app.drain()

    async def took(self, size: int) -> None:
        """Wait until the app has taken so many bytes, of all bodies together, and asks for more."""
        await self._until(lambda: self.taken >= size)

    async def ended_all(self, count: int) -> None:
        """Wait until the app is through with so many requests."""
        await self._until(lambda: self.ended >= count)

    @asynccontextmanager
    async def next_end(self) -> AsyncIterator[None]:
        """Wait, when the block is left, until one more request has ended since it was entered."""
        before = self.ended
        yield
        await self._until(lambda: self.ended > before)

    async def _until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE), self._moved:
            await self._moved.wait_for(condition)

    async def _tell(self) -> None:
        async with self._moved:
            self._moved.notify_all()


@dataclass(frozen=True)
class RunningServer:
    """One server: ``client`` speaks to it, ``parts`` are what it is made of, ``tap`` sees what goes in."""

    client: Client
    parts: Components
    data: Path
    app: UploadApp
    tap: Tap

    async def find(self, location: str) -> Upload:
        upload = await self.parts.repository.find(id_of(location))
        assert upload is not None
        return upload

    async def find_parts(self, location: str) -> Sequence[Part]:
        return await self.parts.repository.find_parts(id_of(location))

    async def read_object(self, location: str) -> bytes:
        """The object that the upload became."""
        upload = await self.find(location)
        assert upload.key is not None
        found = await self.parts.store.get(upload.key)
        return await found.read()

    async def events(self, location: str) -> list[str]:
        """What the outbox says of an upload, in order."""
        statement = select(outbox.c.type).where(outbox.c.upload_id == id_of(location)).order_by(outbox.c.id)
        return [row.type for row in await self.parts.database.read(statement)]

    async def change_row(self, location: str, assignments: str, **parameters: Any) -> None:
        """Change an upload behind the server's back, in SQL."""
        statement = text(f"UPDATE {uploads.name} SET {assignments} WHERE id = :id")
        await self.parts.database.write(statement, {"id": id_of(location), **parameters})

    async def uploads(self) -> list[Upload]:
        """All uploads that there are, by id."""
        rows = await self.parts.database.read(select(uploads.c.id).order_by(uploads.c.id))
        return [await self.find(row.id) for row in rows]

    async def state(self) -> object:
        """All that is kept. Two states that are equal: nothing was stored or changed between them."""
        tables = (uploads, part_rows, sources, outbox)
        reads = (select(table).order_by(*table.primary_key.columns) for table in tables)
        return [await self.parts.database.read(read) for read in reads], self.files()

    def files(self) -> Mapping[str, bytes]:
        """The bytes of all objects, unfinished multiparts and tails."""
        folders = (self.data / "objects", self.data / "tails" / "tus")
        paths = [path for folder in folders for path in files_below(folder)]
        locks = self.data / "objects" / ".rindle" / "locks"
        return {str(path.relative_to(self.data)): path.read_bytes() for path in paths if path.parent != locks}


RunServer = Callable[..., AbstractAsyncContextManager[RunningServer]]
StartServer = Callable[..., Awaitable[RunningServer]]
StartNode = Callable[..., Awaitable[RunningServer]]


@asynccontextmanager
async def running_server(
    settings: Settings, *, authorize: Authorize | None = None, change: Change | None = None, as_deployed: bool = False
) -> AsyncIterator[RunningServer]:
    """``change`` may put other parts, such as stores that fail, in the place of those that the settings name.

    ``as_deployed``: it stops as `rindle serve` does, which takes its time.
    """
    async with AsyncExitStack() as stack:
        metrics = make_metrics(settings)
        parts = await stack.enter_async_context(open_components(settings, observer=metrics or NOBODY))
        if change is not None:
            parts = change(parts)
            stack.push_async_callback(parts.engine.aclose)
        app = serve_components(parts, authorize=authorize, metrics=metrics)
        tap = Tap(app)
        await stack.enter_async_context(app.lifespan())
        if as_deployed:
            listener = bind(settings.host, settings.port)
            host, port = listener.getsockname()[:2]
            # All that serving() does with an app is to call it and to drain it.
            served = serving(cast(UploadApp, tap), listener, grace=settings.shutdown_grace.total_seconds())
            await stack.enter_async_context(served)
        else:
            host, port = await stack.enter_async_context(listening(tap))
            stack.callback(app.drain)
        yield RunningServer(Client(host, port, settings.path), parts, settings.data, app, tap)


@asynccontextmanager
async def listening(
    app: ASGIApp, *, lifespan: Literal["on", "off"] = "off", root_path: str = ""
) -> AsyncIterator[tuple[str, int]]:
    """Serve an app as uvicorn does, but for its main loop, which takes a fifth of a second to end."""
    config = uvicorn.Config(
        app,
        http=Connection,
        lifespan=lifespan,
        root_path=root_path,
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
    )
    config.load()
    state = ServerState()
    life = config.lifespan_class(config)
    await life.startup()
    assert not life.should_exit

    def make_protocol() -> asyncio.Protocol:
        return config.http_protocol_class(config=config, server_state=state, app_state=life.state)  # type: ignore[call-arg]

    server = await asyncio.get_running_loop().create_server(make_protocol, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    try:
        yield host, port
    finally:
        server.close()
        for connection in list(state.connections):
            connection.shutdown()
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*state.tasks, return_exceptions=True)
            while state.connections:  # noqa: ASYNC110 - they say to nobody that they are closed
                await asyncio.sleep(0.001)
        await life.shutdown()


def rebuild(
    parts: Components,
    *,
    store: MultipartStore | None = None,
    repository: UploadRepository | None = None,
    options: EngineOptions | None = None,
) -> Components:
    """The same, with an engine and a reaper that work with these instead."""
    chosen = store or parts.store
    rows = repository or parts.repository
    observer = parts.observer
    chosen_options = options or parts.engine.options
    engine = UploadEngine(store=chosen, repository=rows, tails=parts.tails, options=chosen_options, observer=observer)
    reaper = Reaper(
        engine=engine, store=chosen, repository=rows, tails=parts.tails, options=ReaperOptions(), observer=observer
    )
    return replace(parts, store=chosen, engine=engine, reaper=reaper)


def quickly(parts: Components) -> Components:
    """The same, where a client counts as quiet at once."""
    leases = LeaseOptions(quiet_after=timedelta(milliseconds=1), poll_interval=timedelta(milliseconds=10))
    return rebuild(parts, options=replace(parts.engine.options, leases=leases))


async def take_over(client: Client, upload: str, content: bytes, offsets: Collection[int]) -> None:
    """Finish an upload that another client is in the middle of, starting at one of these offsets each time."""
    response = await client.head(upload)
    while response.status != 204:
        # What the other had sent is kept first: then this is too early, and says where to go on.
        assert response.offset in offsets
        response = await client.patch(upload, response.offset, content[response.offset :])
        assert response.status in {204, 409}
    assert response.offset == len(content)


@asynccontextmanager
async def serving_host(
    app: ASGIApp, *, lifespan: Literal["on", "off"] = "on", root_path: str = "", path: str = "/files"
) -> AsyncIterator[Client]:
    """Serve somebody else's app, which ours is a part of."""
    async with listening(app, lifespan=lifespan, root_path=root_path) as (host, port):
        yield Client(host, port, path)


@pytest.fixture
def run_server(tmp_path: Path, sqlite_template: Path) -> RunServer:
    """Servers for tests that stop them; settings as keywords, the options of :func:`running_server` among them."""

    def make(
        *,
        authorize: Authorize | None = None,
        change: Change | None = None,
        as_deployed: bool = False,
        **settings: Any,
    ) -> AbstractAsyncContextManager[RunningServer]:
        data = Path(settings.pop("data", tmp_path / "data"))
        data.mkdir(exist_ok=True)
        if not (data / "rindle.db").exists():
            shutil.copy(sqlite_template, data / "rindle.db")
        chosen = Settings(data=data, port=0, **settings)
        return running_server(chosen, authorize=authorize, change=change, as_deployed=as_deployed)

    return make


@pytest.fixture
async def start_server(run_server: RunServer) -> AsyncIterator[StartServer]:
    """Starts servers, made as by :func:`run_server`, that stop when the test ends."""
    async with AsyncExitStack() as stack:

        async def start(**settings: Any) -> RunningServer:
            return await stack.enter_async_context(run_server(**settings))

        yield start


@pytest.fixture
def start_node(start_server: StartServer, tmp_path: Path, sqlite_url: str) -> StartNode:
    """Starts servers by name, with folders of their own, on one database and one store; the rest as above."""

    async def start(name: str, **settings: Any) -> RunningServer:
        shared = {"database": sqlite_url, "store": (tmp_path / "objects").as_uri(), "part_size": 64 * 1024}
        return await start_server(data=tmp_path / name, **shared, **settings)

    return start


@pytest.fixture
async def server(start_server: StartServer) -> RunningServer:
    """A server with the defaults, but for small parts."""
    return await start_server(part_size=64 * 1024)
