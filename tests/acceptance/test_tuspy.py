"""tuspy, the client of most Python programs."""

import asyncio
import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from tusclient.client import TusClient
from tusclient.storage.filestorage import FileStorage

from tests.acceptance.conftest import MIB, MakeFile, Serve, digest, object_of
from tests.acceptance.proxy import Proxy

# It leaves the files that it opens to the garbage collector, which is run here while that is allowed.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed file .*source-:ResourceWarning"),
    pytest.mark.usefixtures("collected_garbage"),
]

SIZE = 5 * MIB + 54_321
RETRIES = {"retries": 20, "retry_delay": 0}


@pytest.fixture
def collected_garbage() -> Iterator[None]:
    yield
    gc.collect()


def upload(endpoint: str, source: Path, **options: Any) -> Any:
    uploader = TusClient(endpoint).uploader(str(source), **options)
    uploader.upload()
    return uploader


async def test_uploads(serve: Serve, make_file: MakeFile) -> None:
    server, source = await serve(), make_file(SIZE)
    different: list[dict[str, Any]] = [{}, {"chunk_size": MIB}, {"upload_checksum": True, "chunk_size": 2 * MIB}]
    for options in different:
        uploader = await asyncio.to_thread(upload, server.endpoint, source, metadata={"filename": "a b"}, **options)
        assert digest(object_of(server, uploader.url)) == digest(source)
        assert ("upload-checksum" in uploader.request._request_headers) == ("upload_checksum" in options)


async def test_an_upload_whose_metadata_is_an_empty_header(serve: Serve, make_file: MakeFile) -> None:
    server, source = await serve(), make_file(10)
    uploader = await asyncio.to_thread(upload, server.endpoint, source)
    assert uploader.get_url_creation_headers()["upload-metadata"] == ""
    assert "upload-metadata" not in (await server.client.head(urlsplit(uploader.url).path)).headers
    assert digest(object_of(server, uploader.url)) == digest(source)


async def test_an_upload_by_the_asynchronous_client(serve: Serve, make_file: MakeFile) -> None:
    server, source = await serve(), make_file(SIZE)
    uploader: Any = TusClient(server.endpoint).async_uploader(str(source), chunk_size=MIB, upload_checksum=True)
    await uploader.upload()
    assert digest(object_of(server, uploader.url)) == digest(source)


async def test_an_upload_is_resumed_from_a_stored_url(serve: Serve, make_file: MakeFile, tmp_path: Path) -> None:
    server, source = await serve(), make_file(SIZE)
    urls: Any = FileStorage(str(tmp_path / "urls.json"))  # type: ignore[no-untyped-call]
    options: dict[str, Any] = {"store_url": True, "url_storage": urls, "chunk_size": MIB}
    first: Any = TusClient(server.endpoint).uploader(str(source), **options)
    await asyncio.to_thread(first.upload, stop_at=2 * MIB)
    await server.kill()
    await server.start()
    # Its constructor asks for the offset.
    second: Any = await asyncio.to_thread(TusClient(server.endpoint).uploader, str(source), **options)
    assert (second.url, second.offset) == (first.url, 2 * MIB)
    await asyncio.to_thread(second.upload)
    urls.close()
    assert digest(object_of(server, second.url)) == digest(source)


@pytest.mark.parametrize("checksum", [False, True])
async def test_a_client_goes_on_by_itself_after_cuts(serve: Serve, make_file: MakeFile, *, checksum: bool) -> None:
    server, source = await serve(), make_file(SIZE)
    async with Proxy(server.port) as proxy:
        proxy.cut_after(MIB, MIB + 1)
        options: dict[str, Any] = {"chunk_size": 2 * MIB, "upload_checksum": checksum, **RETRIES}
        uploader = await asyncio.to_thread(upload, proxy.endpoint(), source, **options)
        assert proxy.cuts == 2
    assert digest(object_of(server, uploader.url)) == digest(source)
