"""tus-js-client, the client of most web pages."""

import base64
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.acceptance.clients import TusJs
from tests.acceptance.conftest import MIB, MakeFile, Serve, digest, object_of
from tests.acceptance.proxy import Proxy

SIZE = 8 * MIB + 12_345


async def test_an_upload(serve: Serve, tus_js: TusJs, make_file: MakeFile) -> None:
    server, source = await serve(), make_file(SIZE)
    run = await tus_js.upload(server.endpoint, source, options={"metadata": {"filename": "naïve.txt", "empty": ""}})
    location = run.events[-1]["url"]
    assert digest(object_of(server, location)) == digest(source)
    assert run.requests == ["POST", *["PATCH"] * 9]
    head = await server.client.head(location)
    said = base64.b64encode("naïve.txt".encode()).decode()
    assert head.headers["upload-metadata"] == f"filename {said},empty"
    assert head.offset == SIZE


async def test_an_upload_in_one_request(serve: Serve, tus_js: TusJs, make_file: MakeFile) -> None:
    server, source = await serve(), make_file(SIZE)
    run = await tus_js.upload(
        server.endpoint, source, kind="buffer", options={"chunkSize": 2**40, "uploadDataDuringCreation": True}
    )
    assert digest(object_of(server, run.events[-1]["url"])) == digest(source)
    assert run.requests == ["POST"]


async def test_an_empty_file(serve: Serve, tus_js: TusJs, make_file: MakeFile) -> None:
    server = await serve()
    run = await tus_js.upload(server.endpoint, make_file(0))
    assert object_of(server, run.events[-1]["url"]).stat().st_size == 0


async def test_an_aborted_upload_is_resumed_by_another_process(
    serve: Serve, tus_js: TusJs, make_file: MakeFile, tmp_path: Path
) -> None:
    server, source, urls = await serve(), make_file(SIZE), str(tmp_path / "urls.json")
    first = await tus_js.upload(server.endpoint, source, urls=urls, abortAt=3 * MIB, until="aborted")
    second = await tus_js.upload(server.endpoint, source, urls=urls, resume=True)
    assert second.events[-1]["url"] == first.events[-1]["url"]
    assert second.requests == ["HEAD", *["PATCH"] * 6]
    assert int(second.events[0]["offset"]) >= 3 * MIB
    assert digest(object_of(server, second.events[-1]["url"])) == digest(source)


async def test_parallel_uploads_are_joined(serve: Serve, tus_js: TusJs, make_file: MakeFile) -> None:
    server, source = await serve(), make_file(3 * SIZE)
    run = await tus_js.upload(server.endpoint, source, options={"parallelUploads": 3, "metadata": {"a": "b"}})
    location = run.events[-1]["url"]
    assert digest(object_of(server, location)) == digest(source)
    head = await server.client.head(location)
    assert head.headers["upload-concat"].startswith("final;")
    assert head.headers["upload-length"] == str(3 * SIZE)
    assert head.headers["upload-metadata"] == "a Yg=="


async def test_parallel_uploads_are_resumed(serve: Serve, tus_js: TusJs, make_file: MakeFile, tmp_path: Path) -> None:
    server, source, urls = await serve(), make_file(3 * SIZE), str(tmp_path / "urls.json")
    options = {"parallelUploads": 3}
    async with Proxy(server.port) as proxy:
        proxy.hold_after(5 * MIB)
        async with tus_js.running(proxy.endpoint(), source, urls=urls, options=options):
            await proxy.held.wait()
        run = await tus_js.upload(proxy.endpoint(), source, urls=urls, resume=True, options=options)
    assert run.requests[:3] == ["HEAD"] * 3
    assert run.requests.count("POST") == 1
    assert digest(object_of(server, run.events[-1]["url"])) == digest(source)


async def test_a_stream_whose_length_is_known_in_the_end(serve: Serve, tus_js: TusJs, make_file: MakeFile) -> None:
    server, source = await serve(), make_file(SIZE)
    run = await tus_js.upload(server.endpoint, source, kind="stream", options={"uploadLengthDeferred": True})
    assert run.events[0]["sent"]["deferred"] == "1"
    responses = [event for event in run.events if event["event"] == "response"]
    assert responses[-1]["sent"]["length"] == str(SIZE)
    assert not any("length" in response["sent"] for response in responses[:-1])
    assert digest(object_of(server, run.events[-1]["url"])) == digest(source)


@pytest.mark.invariant("I10")
async def test_a_terminated_upload_is_gone(serve: Serve, tus_js: TusJs, make_file: MakeFile) -> None:
    server, source = await serve(), make_file(SIZE)
    run = await tus_js.upload(server.endpoint, source, abortAt=2 * MIB, terminate=True, until="aborted")
    responses = [event for event in run.events if event["event"] == "response"]
    assert (responses[-1]["method"], responses[-1]["status"]) == ("DELETE", 204)
    assert (await server.client.head(urlsplit(responses[-1]["url"]).path)).status == 410


@pytest.mark.parametrize("kind", ["file", "stream"])
async def test_a_client_goes_on_by_itself_after_cuts(
    serve: Serve, tus_js: TusJs, make_file: MakeFile, kind: str
) -> None:
    server, source = await serve(), make_file(SIZE)
    async with Proxy(server.port) as proxy:
        proxy.cut_after(2 * MIB, 1_500_000, 777)
        run = await tus_js.upload(proxy.endpoint(), source, kind=kind, options={"uploadSize": SIZE})
        assert proxy.cuts == 3
    assert run.requests.count("POST") == 1, "it started from the beginning"
    assert digest(object_of(server, run.events[-1]["url"])) == digest(source)


@pytest.mark.invariant("I1", "I3")
@pytest.mark.parametrize(("kind", "end"), [("file", "crash"), ("stream", "crash"), ("stream", "restart")])
async def test_a_client_goes_on_by_itself_when_the_server_comes_back(
    serve: Serve, tus_js: TusJs, make_file: MakeFile, kind: str, end: str
) -> None:
    server, source = await serve(), make_file(SIZE)
    async with Proxy(server.port) as proxy:
        proxy.hold_after(4 * MIB)
        async with tus_js.running(proxy.endpoint(), source, kind=kind, options={"uploadSize": SIZE}) as run:
            await proxy.held.wait()
            await (server.kill() if end == "crash" else server.terminate())
            await run.wait_for("retry")
            await server.start()
            await run.wait_for("success")
    assert run.requests.count("POST") == 1, "it started from the beginning"
    assert digest(object_of(server, run.events[-1]["url"])) == digest(source)
