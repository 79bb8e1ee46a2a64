"""Uploads that go into Azure and Google Cloud Storage, from the server's HTTP to the service's."""

import asyncio
import base64
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

import rindle
from rindle.bootstrap import Components
from rindle.objectstore.base import MultipartStore
from rindle.objectstore.ext import read
from rindle.testing.faults import FaultyStore
from tests.acceptance.process import Server, run_rindle, running
from tests.azure import KEY, Azurite
from tests.gcs import GCSServer
from tests.http import Client, id_of
from tests.serving import RunningServer, StartServer, rebuild, serving_host

pytestmark = pytest.mark.long

PART = 64 * 1024
DATA = random.Random(0).randbytes(PART * 3 + 1000)


@dataclass(frozen=True)
class Cloud:
    """A place for objects: how an operator names it, and the place itself."""

    url: str
    secret: str
    nowhere: str
    open: Callable[[], MultipartStore]

    @property
    def settings(self) -> dict[str, str]:
        return {"store": self.url, "store_secret": self.secret}

    async def names(self) -> list[str]:
        """All that lies there, finished and unfinished."""
        async with self.open() as store:
            objects = [meta.key async for meta in store.list()]
            return objects + [multipart.ref.key async for multipart in store.list_multiparts()]


async def upload_in_patches(client: Client, data: bytes, *cuts: int) -> str:
    location = await client.create(len(data))
    start = 0
    for end in (*cuts, len(data)):
        response = await client.patch(location, start, data[start:end])
        assert (response.status, response.offset) == (204, end)
        assert (await client.head(location)).offset == end
        start = end
    return location


def calls(store: FaultyStore) -> Counter[str]:
    """But for the reaper's."""
    return Counter({name: count for name, count in store.calls.items() if name not in {"sweep", "list_multiparts"}})


class Uploads:
    """For each cloud."""

    @pytest.fixture
    async def counted(self, cloud: Cloud, start_server: StartServer) -> tuple[RunningServer, FaultyStore]:
        """A server, and its store as the engine calls it."""
        stores: list[FaultyStore] = []

        def change(parts: Components) -> Components:
            stores.append(FaultyStore(parts.store))
            return rebuild(parts, store=stores[0])

        return await start_server(**cloud.settings, part_size=PART, change=change), stores[0]

    @pytest.mark.parametrize(
        ("size", "cuts", "expected"),
        [
            (PART, (100, 20_000), {"put": 1}),
            (len(DATA), (100, 70_000, 150_000), {"create_multipart": 1, "put_part": 4, "complete_multipart": 1}),
        ],
    )
    async def test_an_upload_in_several_requests_becomes_an_object(
        self,
        counted: tuple[RunningServer, FaultyStore],
        cloud: Cloud,
        size: int,
        cuts: tuple[int, ...],
        expected: dict[str, int],
    ) -> None:
        server, store = counted
        location = await upload_in_patches(server.client, DATA[:size], *cuts)
        assert calls(store) == Counter(expected)
        assert await server.read_object(location) == DATA[:size]
        (name,) = await cloud.names()
        assert name == (await server.find(location)).key

    async def test_partial_uploads_are_joined(self, cloud: Cloud, start_server: StartServer) -> None:
        server = await start_server(**cloud.settings, part_size=PART)
        contents = [DATA, DATA[:5], DATA[: 2 * PART]]
        uploads = []
        for content in contents:
            upload = await server.client.create(len(content), ("Upload-Concat", "partial"))
            assert (await server.client.patch(upload, 0, content)).offset == len(content)
            uploads.append(upload)
        created = await server.client.post(("Upload-Concat", f"final;{' '.join(uploads)}"))
        assert created.status == 201
        assert await server.read_object(created.location) == b"".join(contents)

    async def test_an_upload_is_published_under_the_name_of_its_file_and_over_nobodys(
        self, cloud: Cloud, start_server: StartServer
    ) -> None:
        server = await start_server(**cloud.settings, part_size=PART, publish_to="films/{filename}")
        name = ("Upload-Metadata", f"filename {base64.b64encode('Ü b.txt'.encode()).decode()}")
        location = await server.client.create(len(DATA), name)
        assert (await server.client.patch(location, 0, DATA)).status == 204
        assert (await server.find(location)).key == "films/Ü_b.txt"
        assert await server.read_object(location) == DATA
        assert await cloud.names() == ["films/Ü_b.txt"]
        other = await server.client.create(5, name)
        assert (await server.client.patch(other, 0, b"other")).status == 204
        assert (await server.find(other)).key == f"films/Ü_b.{id_of(other)}.txt"
        assert await server.read_object(location) == DATA

    async def test_an_upload_that_is_removed_leaves_nothing(self, cloud: Cloud, start_server: StartServer) -> None:
        server = await start_server(**cloud.settings, part_size=PART)
        location = await server.client.create(len(DATA))
        assert (await server.client.patch(location, 0, DATA[:150_000])).offset == 150_000
        assert (await server.client.delete(location)).status == 204
        assert await cloud.names() == []

    async def test_rindle_serve_takes_an_upload_in_several_requests_and_lives(
        self, cloud: Cloud, tmp_path: Path
    ) -> None:
        server = Server(tmp_path, "--store", cloud.url, "--store-secret", cloud.secret, "--part-size", str(PART))
        async with running(server):
            location = await server.client.create(len(DATA))
            assert (await server.client.patch(location, 0, DATA[:100_000])).offset == 100_000
            await server.kill()
            await server.start()
            assert (await server.client.head(location)).offset == 100_000
            assert (await server.client.patch(location, 100_000, DATA[100_000:])).offset == len(DATA)
        (name,) = await cloud.names()
        assert name.startswith(f"uploads/{id_of(location)}/")
        async with cloud.open() as store:
            assert await read(store, name) == DATA
        assert cloud.secret not in server.output
        assert KEY not in server.output

    async def test_the_environment_names_the_store_and_its_secret(
        self, cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("RINDLE_STORE", cloud.url)
        monkeypatch.setenv("RINDLE_STORE_SECRET", cloud.secret)
        monkeypatch.setenv("RINDLE_DATA", str(tmp_path))
        async with serving_host(rindle.create_app()) as client:
            await upload_in_patches(client, DATA, 1, 70_000)
        (name,) = await cloud.names()
        async with cloud.open() as store:
            assert await read(store, name) == DATA

    async def test_a_store_that_cannot_be_used_is_said_in_one_line_at_start(self, cloud: Cloud, tmp_path: Path) -> None:
        secret = {"RINDLE_STORE": cloud.nowhere, "RINDLE_STORE_SECRET": cloud.secret}
        refused = await asyncio.to_thread(run_rindle, "serve", "--data", tmp_path, env=secret)
        assert refused.returncode == 3
        assert "Traceback" not in refused.stderr
        assert "there is no " in refused.stderr.splitlines()[-1]


class TestAzure(Uploads):
    @pytest.fixture
    async def cloud(self, azurite: Azurite) -> Cloud:
        container = await azurite.new_container()
        nowhere = azurite.url("no-such-container")
        return Cloud(azurite.url(container), KEY, nowhere, lambda: azurite.store(container))


class TestGCS(Uploads):
    @pytest.fixture
    async def cloud(self, gcs: GCSServer) -> Cloud:
        bucket = await gcs.new_bucket()
        url = gcs.url(bucket).replace("anonymous=true&", "")
        nowhere = url.replace(bucket, "no-such-bucket")
        return Cloud(url, gcs.service_account, nowhere, lambda: gcs.store(bucket))
