"""The app inside other apps: mounted, spliced, under a prefix, behind middleware."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route, Router
from starlette.types import ASGIApp
from typing_extensions import override

from rindle.asgi.app import UploadApp
from rindle.bootstrap import create_app
from rindle.settings import Settings
from tests.http import TUS, Client
from tests.serving import PATIENCE, RunningServer, Tap, serving_host

PART = 64 * 1024
MIB = 1 << 20


@pytest.fixture
def make_app(tmp_path: Path, sqlite_template: Path) -> Callable[..., UploadApp]:
    """Apps that have nothing open yet; settings as keywords."""

    def make(data: Path = tmp_path / "data", **settings: Any) -> UploadApp:
        data.mkdir()
        shutil.copy(sqlite_template, data / "rindle.db")
        return create_app(Settings(data=data, **{"part_size": PART, **settings}))

    return make


@pytest.fixture
def app(make_app: Callable[..., UploadApp]) -> UploadApp:
    return make_app()


async def assert_uploads(client: Client, *, outside: str = "", content: bytes = b"hello world") -> None:
    """The whole of the protocol works; Locations begin with ``outside``, which whatever is in front takes away."""
    created = await client.request("POST", client.path, [("Upload-Length", str(len(content)))])
    assert created.status == 201
    assert created.location.startswith(f"{outside}{client.path.rstrip('/')}/")
    upload = created.location.removeprefix(outside)
    half = len(content) // 2
    assert (await client.patch(upload, 0, content[:half])).offset == half
    assert (await client.patch(upload, 0, content[:half])).status == 409
    assert (await client.head(upload)).offset == half
    assert (await client.patch_chunked(upload, half, [content[half:]])).offset == len(content)
    doomed = await client.request("POST", client.path, [("Upload-Length", "5")])
    assert (await client.delete(doomed.location.removeprefix(outside))).status == 204
    assert (await client.request("OPTIONS", client.path, tus=False)).status == 204
    assert (await client.head(f"{client.path.rstrip('/')}/unknown")).code == "upload_not_found"


async def hello(_: Request) -> Response:
    return PlainTextResponse("hello")


OWN = [Route("/", hello), Route("/own", hello)]


@pytest.mark.parametrize("kind", [Starlette, Router])
async def test_spliced_routes_need_no_redirect(app: UploadApp, kind: Callable[..., ASGIApp]) -> None:
    host = kind(routes=[*OWN, *app.routes], lifespan=app.lifespan)
    async with serving_host(host) as client:
        await assert_uploads(client)
        for target in ("/files", "/files/"):
            created = await client.request("POST", target, [("Upload-Length", "5")])
            assert (created.status, created.location[:7]) == (201, "/files/")
            assert (await client.request("OPTIONS", target, tus=False)).status == 204
        assert (await client.request("GET", "/own", tus=False)).body == b"hello"
        assert (await client.request("GET", "/livez", tus=False)).status == 404
        assert (await client.request("POST", "/filesx", tus=False)).status == 404


async def test_a_mount_at_the_root_needs_no_redirect(app: UploadApp) -> None:
    host = Starlette(routes=[*OWN, Mount("/", app)], lifespan=app.lifespan)
    async with serving_host(host) as client:
        await assert_uploads(client)
        for target in ("/files", "/files/"):
            assert (await client.request("POST", target, [("Upload-Length", "5")])).status == 201
        assert (await client.request("GET", "/livez", tus=False)).status == 200


@pytest.mark.parametrize("where", ["/files", "/anywhere", "/a/b"])
async def test_a_mount_serves_uploads_where_it_is_mounted(app: UploadApp, where: str) -> None:
    host = Starlette(routes=[*OWN, Mount(where, app)], lifespan=app.lifespan)
    async with serving_host(host, path=f"{where}/") as client:
        await assert_uploads(client)
        assert (await client.request("GET", f"{where}/livez", tus=False)).status == 200


async def test_a_mount_in_a_mount_serves_uploads_there(app: UploadApp) -> None:
    inner = Router(routes=[Mount("/files", app)])
    spliced = Router(routes=app.routes)
    host = Starlette(routes=[Mount("/v1", inner), Mount("/v2", spliced)], lifespan=app.lifespan)
    async with serving_host(host, path="/v1/files/") as client:
        await assert_uploads(client)
        client.path = "/v2/files"
        await assert_uploads(client)


@pytest.mark.parametrize("how", ["alone", "spliced", "mounted"])
async def test_case_16_under_a_root_path_locations_begin_with_it(app: UploadApp, how: str) -> None:
    hosts: dict[str, Callable[[], ASGIApp]] = {
        "alone": lambda: app,
        "spliced": lambda: Starlette(routes=app.routes, lifespan=app.lifespan),
        "mounted": lambda: Starlette(routes=[Mount("/files", app)], lifespan=app.lifespan),
    }
    path = "/files/" if how == "mounted" else "/files"
    async with serving_host(hosts[how](), root_path="/api", path=path) as client:
        await assert_uploads(client, outside="/api")


async def test_a_path_that_only_begins_like_the_root_path_is_no_collection(app: UploadApp) -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"tus-resumable", b"1.0.0"), (b"upload-length", b"5")]
    async with app.lifespan():
        for path in ("/apix", "/apix/", "/apifiles", "/apix/files"):
            scope = {"type": "http", "method": "POST", "path": path, "root_path": "/api", "headers": headers}
            sent.clear()
            await app(scope, receive, send)
            assert sent[0]["status"] in {404, 405}, path


async def test_the_app_alone_runs_its_own_lifespan(app: UploadApp) -> None:
    async with serving_host(app) as client:
        await assert_uploads(client)
        assert (await client.request("GET", "/readyz", tus=False)).status == 200
        assert (await client.request("GET", "/elsewhere", tus=False)).status == 404


async def test_a_host_that_runs_no_lifespan_of_ours_is_served_from_its_first_request_on(app: UploadApp) -> None:
    host = Starlette(routes=[Mount("/files", app)])
    async with serving_host(host, path="/files/") as client:
        created = await asyncio.gather(
            *(client.request("POST", client.path, [("Upload-Length", "5")]) for _ in range(20))
        )
        assert [response.status for response in created] == [201] * 20
        await assert_uploads(client)
        await app.aclose()
        await app.aclose()
        await assert_uploads(client)
        await app.aclose()


async def test_an_app_that_cannot_start_answers_as_one_that_lost_its_database(
    make_app: Callable[..., UploadApp], tmp_path: Path
) -> None:
    app = make_app()
    (tmp_path / "data" / "rindle.db").unlink()
    (tmp_path / "data" / "rindle.db").mkdir()
    host = Starlette(routes=[Mount("/files", app)])
    async with serving_host(host, path="/files/") as client:
        found = await client.request("HEAD", f"/files/{'0' * 32}", [("Origin", "https://app.example")])
        assert found.status == 423
        assert found.headers["retry-after"]
        assert found.all("access-control-allow-origin") == ["*"]
        for method, target in (("POST", "/files/"), ("PATCH", f"/files/{'0' * 32}")):
            response = await client.request(method, target, [("Upload-Length", "5")], b"hello")
            assert response.status in {500, 503}
            assert response.all("tus-resumable") == ["1.0.0"]
            assert response.code
            assert str(tmp_path) not in response.body.decode()
        (tmp_path / "data" / "rindle.db").rmdir()
        await assert_uploads(client)
    await app.aclose()


async def test_our_lifespan_goes_with_the_hosts_own(app: UploadApp) -> None:
    seen = []

    @asynccontextmanager
    async def lifespan(host: Starlette) -> AsyncIterator[dict[str, str]]:
        seen.append("host begins")
        async with app.lifespan(host):
            seen.append("ours has begun")
            yield {"mine": "state"}
            seen.append("ours ends")
        seen.append("host ends")

    async def state(request: Request) -> Response:
        return PlainTextResponse(request.state.mine)

    host = Starlette(routes=[*app.routes, Route("/state", state)], lifespan=lifespan)
    async with serving_host(host) as client:
        assert seen == ["host begins", "ours has begun"]
        await assert_uploads(client)
        assert (await client.request("GET", "/state", tus=False)).body == b"state"
    assert seen == ["host begins", "ours has begun", "ours ends", "host ends"]


async def test_two_apps_in_one_host_do_not_know_of_each_other(
    make_app: Callable[..., UploadApp], tmp_path: Path
) -> None:
    one, two = make_app(tmp_path / "one"), make_app(tmp_path / "two", path="/more/files")

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with one.lifespan(), two.lifespan():
            yield

    async with serving_host(Starlette(routes=[*one.routes, *two.routes], lifespan=lifespan)) as client:
        await assert_uploads(client)
        upload = await client.create(5)
        assert (await client.head(f"/more{upload}")).status == 404
        client.path = "/more/files"
        await assert_uploads(client)


@pytest.mark.parametrize("how", ["spliced", "mounted"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_a_hosts_limit_for_bodies_does_not_bind_uploads(app: UploadApp, how: str, framing: str) -> None:
    async def swallow(request: Request) -> Response:
        return PlainTextResponse(str(len(await request.body())))

    own = Route("/own", swallow, methods=["POST"])
    routes = [own, *app.routes] if how == "spliced" else [own, Mount("/files", app)]
    limit = Middleware(RequestBodyLimitMiddleware, max_body_size=MIB)
    host = Starlette(routes=routes, middleware=[limit], lifespan=app.lifespan)
    body = bytes(2 * MIB)
    async with serving_host(host, path="/files" if how == "spliced" else "/files/") as client:
        created = await client.request("POST", client.path, [("Upload-Length", str(len(body)))])
        upload = created.location
        if framing == "length":
            response = await client.patch(upload, 0, body)
        else:
            response = await client.patch_chunked(upload, 0, [body[:MIB], body[MIB:]])
        assert (response.status, response.offset) == (204, len(body))
        refused = await client.patch(upload, len(body), body)
        assert (refused.status, refused.code) == (413, "length_exceeded")
        assert (await client.request("POST", "/own", [], body)).status == 413
        assert (await client.request("POST", "/own", [], body[:MIB])).body == str(MIB).encode()


async def test_a_host_with_cors_of_its_own_can_switch_ours_off(make_app: Callable[..., UploadApp]) -> None:
    app = make_app(cors_origins="")
    cors = Middleware(CORSMiddleware, allow_origins=["https://app.example"], allow_methods=["*"], allow_headers=["*"])
    host = Starlette(routes=app.routes, middleware=[cors], lifespan=app.lifespan)
    async with serving_host(host) as client:
        for headers in ([("Upload-Length", "5")], []):
            response = await client.request("POST", "/files", [("Origin", "https://app.example"), *headers])
            assert response.all("access-control-allow-origin") == ["https://app.example"]


class Passing(BaseHTTPMiddleware):
    @override
    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        return await call_next(request)


async def test_middleware_that_wraps_everything_is_survived(app: UploadApp) -> None:
    middleware = [Middleware(Passing), Middleware(Passing)]
    host = Starlette(routes=app.routes, middleware=middleware, lifespan=app.lifespan)
    async with serving_host(host) as client:
        await assert_uploads(client, content=bytes(3 * PART + 5))
        upload = await client.create(10)
        async with client.connect() as connection:
            await connection.begin_patch(upload, 3, ("Expect", "100-continue"), length=5)
            assert (await connection.read_interim()).status == 409
        refused = await client.patch(upload, 5, bytes(6))
        assert refused.status in {409, 413}


class Impatient(BaseHTTPMiddleware):
    """Gives up on a PATCH when it is told to, by an error or by an answer of its own."""

    def __init__(self, app: ASGIApp, *, now: asyncio.Event, how: str) -> None:
        super().__init__(app)
        self._now = now
        self._how = how

    @override
    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        if request.method != "PATCH" or self._now.is_set():
            return await call_next(request)
        calling = asyncio.ensure_future(call_next(request))
        giving_up = asyncio.ensure_future(self._now.wait())
        await asyncio.wait([calling, giving_up], return_when=asyncio.FIRST_COMPLETED)
        calling.cancel()
        await asyncio.gather(calling, return_exceptions=True)
        if self._how == "raise":
            msg = "the host has no patience"
            raise TimeoutError(msg)
        return PlainTextResponse("the host has no patience", status_code=504)


async def released(server: RunningServer, upload: str) -> None:
    """Wait until nobody appends any more: the request that did is gone, and cannot be awaited."""
    async with asyncio.timeout(PATIENCE):
        while (await server.find(upload)).lease is not None:  # noqa: ASYNC110 - a row has no event
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("size", [5, PART, PART + 5])
@pytest.mark.parametrize("how", ["raise", "return"])
async def test_a_host_that_cancels_a_request_loses_nothing_of_it(server: RunningServer, how: str, size: int) -> None:
    content = bytes(range(256)) * (3 * PART // 256)
    tap = Tap(server.app)
    now = asyncio.Event()
    host = Starlette(routes=[Mount("/files", tap)], middleware=[Middleware(Impatient, now=now, how=how)])
    async with serving_host(host, lifespan="off", path="/files/") as client:
        upload = (await client.request("POST", "/files/", [("Upload-Length", str(len(content)))])).location
        async with client.connect() as connection:
            await connection.begin_patch(upload, 0, length=len(content))
            await connection.send(content[:size])
            await tap.took(size)
            now.set()
            assert (await connection.read_response()).status == (500 if how == "raise" else 504)
        await released(server, upload)
        assert (await client.head(upload)).offset == size
        assert (await client.patch(upload, size, content[size:])).offset == len(content)
    assert await server.read_object(upload) == content
    assert await server.events(upload) == ["created", "finished"]


async def test_a_websocket_is_turned_away(app: UploadApp) -> None:
    sent = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message["type"])

    for path in ("/files", "/files/x", "/livez", "/x"):
        sent.clear()
        await app({"type": "websocket", "path": path, "headers": [], "subprotocols": []}, receive, send)
        assert sent == ["websocket.close"], path
    await app.aclose()


async def test_a_request_by_http_1_0_is_answered(app: UploadApp) -> None:
    async with serving_host(app) as client, client.connect() as connection:
        await connection.send(f"POST /files HTTP/1.0\r\n{TUS[0]}: {TUS[1]}\r\nUpload-Length: 5\r\n\r\n".encode())
        assert (await connection.read_response()).status == 201
        assert await connection.read_to_end() == b""


async def test_creations_that_a_host_cancels_leave_the_database_to_others(server: RunningServer) -> None:
    # Wherever in its work with the database a request is cut off: the next one must not find it locked.
    headers = [(b"tus-resumable", b"1.0.0"), (b"upload-length", b"5")]

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(_: Any) -> None:
        return

    for number in range(50):
        scope = {"type": "http", "method": "POST", "path": "/files", "headers": headers}
        request = asyncio.create_task(server.app(scope, receive, send))
        await asyncio.sleep(number / 20_000)
        request.cancel()
        await asyncio.wait([request])
        del request
        async with asyncio.timeout(5):
            assert (await server.client.post(("Upload-Length", "5"))).status == 201
