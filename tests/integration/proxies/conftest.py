"""Three nodes that share a database and a store, each with tails of its own, behind a load balancer."""

import asyncio
import base64
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from tests.acceptance.process import Server, running
from tests.http import id_of
from tests.integration.proxies.balancers import Balancer, HAProxy, Nginx, find_program
from tests.integration.proxies.uploader import Uploader, noise

KIND: dict[str, type[Nginx | HAProxy]] = {"nginx": Nginx, "haproxy": HAProxy}
PART = 1 << 16
ODD = 30_001
"""Bytes that never end at a part's end: every request with so many leaves a tail."""

MakeCluster = Callable[..., AbstractAsyncContextManager["Cluster"]]


class Cluster:
    """The nodes, the load balancer, and what uploads leave on the disks."""

    def __init__(self, nodes: list[Server], balancer: Balancer, store: Path) -> None:
        self.nodes = nodes
        self.balancer = balancer
        self._store = store

    def upload(self, seed: int, size: int, *, chunk: int = ODD) -> Uploader:
        return Uploader(self.balancer.client, noise(seed, size), chunk)

    def holder_of(self, location: str) -> int:
        """The number of the only node that has a tail of this upload."""
        encoded = base64.urlsafe_b64encode(id_of(location).encode()).decode().rstrip("=")
        tails = [list((node.data / "tails" / "tus").glob(f"{encoded}.*.tail")) for node in self.nodes]
        (holder,) = [number for number, files in enumerate(tails) if files]
        return holder

    def content_of(self, location: str) -> bytes:
        """The object that the upload became."""
        (path,) = (self._store / "uploads" / id_of(location)).iterdir()
        return path.read_bytes()

    def assert_arrived(self, *uploads: Uploader) -> None:
        for upload in uploads:
            assert self.content_of(upload.location) == upload.content, upload.answers

    async def upload_on(self, number: int, *, size: int, seed: int = 0) -> Uploader:
        """An upload whose first bytes lie on this node."""
        async with asyncio.timeout(60):
            while True:
                upload = self.upload(seed, size)
                await upload.create(first=ODD)
                if self.holder_of(upload.location) == number:
                    return upload


@pytest.fixture
def make_cluster(tmp_path: Path, postgres_url: str) -> MakeCluster:
    """Clusters, by the load balancer's name."""

    @asynccontextmanager
    async def make(kind: str, *flags: str, edits: Mapping[str, str] | None = None) -> AsyncIterator[Cluster]:
        find_program(KIND[kind].program)
        store = tmp_path / "store"
        shared = ["--database", postgres_url, "--store", store.as_uri()]
        # Shorter than one would have it: the patience with a node that does not react any more is what tests wait for.
        pace = ["--part-size", "64KiB", "--handover-timeout", "1s", "--lease-ttl", "5s"]
        # Tails stay where they are, so that everything hangs on finding the right node, unless the flags say otherwise.
        stay = ["--spill-after", "never"]
        nodes = [Server(tmp_path / f"node-{number}", *shared, *pace, *stay, *flags) for number in range(3)]
        async with running(*nodes):
            balancer = KIND[kind](tmp_path / kind, [node.port for node in nodes], edits=edits)
            try:
                await balancer.start()
                yield Cluster(nodes, balancer, store)
            finally:
                await balancer.stop()
        for node in nodes:
            assert "Traceback" not in node.output, node.output

    return make


@pytest.fixture(params=list(KIND))
async def cluster(make_cluster: MakeCluster, request: pytest.FixtureRequest) -> AsyncIterator[Cluster]:
    """One with each load balancer."""
    async with make_cluster(request.param) as made:
        yield made
