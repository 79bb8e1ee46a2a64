"""Two nodes, a database, a store, and nothing that can be relied on: nodes are killed, connections cut, answers lost.

Clients do what tus clients do: ask for the offset, send from there, ask again. None may ever see an offset fall below
one that was acknowledged, or an answer that makes a client give up.
"""

import asyncio
import contextlib
import random
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

import pytest
from sqlalchemy import text

from rindle.db.engine import Database
from rindle.db.repository import SqlUploadRepository
from rindle.objectstore.base import MultipartStore
from rindle.objectstore.urls import open_store
from rindle.testing.repository import EXPIRES_IN, LEASE_TTL
from rindle.uploads.model import UploadState
from tests.acceptance.process import Server, running
from tests.http import OCTETS, TUS, Connection, Response, id_of
from tests.s3 import S3Server

T = TypeVar("T")

KIB = 1 << 10
MIB = 1 << 20
_AT_ONCE = 6
_PAUSE_S = 0.02
_TRANSIENT = frozenset({409, 423, 503})
_PATIENCE_S = 60.0


@dataclass(frozen=True)
class Site:
    """What the nodes share, and the nodes. ``part_size`` is that of all uploads."""

    nodes: tuple[Server, Server]
    database: Database
    store: MultipartStore
    part_size: int

    @property
    def repository(self) -> SqlUploadRepository:
        return SqlUploadRepository(self.database, lease_ttl=LEASE_TTL, expires_in=EXPIRES_IN)

    async def leftovers(self) -> list[str]:
        """Whatever there is that belongs to no complete upload."""
        rows = await self.database.read(text("SELECT key FROM rindle_uploads WHERE state = 'complete'"))
        kept = {row.key for row in rows}
        found = [f"object {meta.key}" async for meta in self.store.list() if meta.key not in kept]
        found += [f"multipart {multipart.ref.key}" async for multipart in self.store.list_multiparts()]
        for node in self.nodes:
            found += [f"tail {path.name}" for path in (node.data / "tails" / "tus").iterdir()]
        return found


@pytest.fixture
async def site(request: pytest.FixtureRequest, tmp_path: Path, postgres_url: str) -> AsyncIterator[Site]:
    kind, durability = request.param
    store_url, part_size = (tmp_path / "objects").as_uri(), 256 * KIB
    if kind != "files":
        s3: S3Server = request.getfixturevalue(kind)
        store_url, part_size = s3.url(await s3.new_bucket()), 5 * MIB
    flags = [
        *("--database", postgres_url, "--store", store_url, "--part-size", str(part_size), "--lease-ttl", "5s"),
        *("--reap-interval", "500ms", "--spill-after", "300ms", "--tail-durability", durability),
    ]
    nodes = (Server(tmp_path / "one", *flags), Server(tmp_path / "two", *flags))
    database = Database(postgres_url)
    store = open_store(store_url)
    assert isinstance(store, MultipartStore)
    try:
        async with running(*nodes), store:
            yield Site(nodes, database, store, part_size)
    finally:
        await database.aclose()


class Client:
    """One file on its way up, from a client that prefers a node as a balancer would have it."""

    def __init__(self, site: Site, chance: random.Random) -> None:
        part = site.part_size
        most = min(6 * part, 16 * MIB)
        self.content = chance.randbytes(chance.choice([0, 1, 1000, part, chance.randint(1, most)]))
        self.terminated = False
        self.location = ""
        self._site = site
        self._chance = chance
        self._home = chance.randrange(2)
        self._acknowledged = 0
        self._length_told = True

    async def upload(self) -> None:
        """From creation to the answer that says that all is there, or to its end on purpose."""
        async with asyncio.timeout(_PATIENCE_S):
            while not self.location:
                await self._try(self._create)
            while await self._try(self._find_offset) != len(self.content) or not self._length_told:
                if self._chance.random() < 0.01:
                    self.terminated = True
                    await self._terminate()
                    return
                await self._try(self._append)

    async def _create(self, node: Server) -> None:
        self._length_told = self._chance.random() < 0.8
        length = ("Upload-Length", str(len(self.content))) if self._length_told else ("Upload-Defer-Length", "1")
        with_bytes = self._chance.random() < 0.3
        body = self.content[: self._chance.randint(0, len(self.content))] if with_bytes else None
        response = await node.client.post(length, *([OCTETS] if with_bytes else []), body=body)
        if response.status == 201:
            self.location = response.location
            self._acknowledged = int(response.headers.get("upload-offset", "0"))
        else:
            assert response.status in _TRANSIENT, response

    async def _find_offset(self, node: Server) -> int | None:
        response = await node.client.head(self.location)
        if response.status == 423:
            return None
        assert response.status == 200, response
        assert response.offset >= self._acknowledged, "an acknowledged byte was lost"
        self._length_told = "upload-length" in response.headers
        self._acknowledged = response.offset
        return response.offset

    async def _append(self, node: Server) -> None:
        offset = self._acknowledged
        size = self._chance.choice([0, 1, self._site.part_size, len(self.content)])
        body = self.content[offset : offset + size]
        headers = [TUS, OCTETS, ("Upload-Offset", str(offset)), ("Content-Length", str(len(body)))]
        if self._chance.random() < 0.2:
            headers.append(("Upload-Checksum", f"sha256 {b64encode(sha256(body).digest()).decode()}"))
        if not self._length_told and offset + len(body) == len(self.content):
            headers.append(("Upload-Length", str(len(self.content))))
        async with node.client.connect() as connection:
            await connection.send_head("PATCH", self.location, headers)
            response = await self._send(connection, body)
        if response is not None and response.status == 204:
            assert response.offset == offset + len(body)
            self._acknowledged = response.offset
        elif response is not None:
            assert response.status in _TRANSIENT, response

    async def _send(self, connection: Connection, body: bytes) -> Response | None:
        """The answer; None if the client was cut off before there was one."""
        cut = self._chance.randint(0, len(body)) if self._chance.random() < 0.3 else None
        for start in range(0, len(body), 64 * KIB):
            await connection.send(body[start : start + 64 * KIB])
            await asyncio.sleep(0)
            if cut is not None and start >= cut:
                connection.cut()
                return None
        return await connection.read_response()

    async def _terminate(self) -> None:
        while True:
            response = await self._try(lambda node: node.client.delete(self.location))
            if response is not None and response.status in {204, 404, 410}:
                return
            assert response is None or response.status in {403, *_TRANSIENT}, response
            if response is not None and response.status == 403:
                self.terminated = False
                return

    async def _try(self, request: Callable[[Server], Awaitable[T]]) -> T | None:
        """Ask the node that is home, or sometimes the other; None if there is no answer."""
        number = self._home if self._chance.random() < 0.8 else 1 - self._home
        try:
            return await request(self._site.nodes[number])
        except (OSError, asyncio.IncompleteReadError):  # it is down, or went down before its answer came
            await asyncio.sleep(_PAUSE_S)
            return None


async def wreak_havoc(site: Site, chance: random.Random, enough: asyncio.Event) -> None:
    """Kill nodes, and now and then stop one as a deployment does; each comes back."""
    while not enough.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(enough.wait(), chance.uniform(0.05, 1.5))
        node = chance.choice(site.nodes)
        await (node.kill() if chance.random() < 0.7 else node.terminate())
        await node.start()


@pytest.mark.timeout(1800)
@pytest.mark.invariant("I1", "I3", "I4", "I5", "I6", "I7", "I8", "I10", "I11", "I20")
@pytest.mark.parametrize(
    "site",
    [
        ("files", "disk"),
        ("files", "object"),
        ("localstack", "disk"),
        ("versitygw", "disk"),
        ("versitygw", "object"),
        ("ceph", "disk"),
    ],
    ids="-".join,
    indirect=True,
)
@pytest.mark.parametrize(
    "rounds", [pytest.param(30, marks=pytest.mark.long), pytest.param(200, marks=pytest.mark.chaos)]
)
async def test_whatever_dies_every_file_arrives_whole(
    site: Site, rounds: int, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    clients = [Client(site, random.Random(chance.random())) for _ in range(rounds)]
    slots = asyncio.Semaphore(_AT_ONCE)

    async def upload(client: Client) -> None:
        async with slots:
            await client.upload()

    enough = asyncio.Event()
    havoc = asyncio.create_task(wreak_havoc(site, chance, enough))
    try:
        await asyncio.gather(*(upload(client) for client in clients))
    finally:
        enough.set()
        await havoc  # not in the middle of a restart

    for client in clients:
        row = await site.repository.find(id_of(client.location))
        assert row is not None
        if client.terminated:
            assert row.gone
        else:
            assert row.state is UploadState.COMPLETE
            assert row.key is not None
            found = await site.store.get(row.key)
            assert sha256(await found.read()).digest() == sha256(client.content).digest()
    await assert_nothing_is_left(site)


async def assert_nothing_is_left(site: Site) -> None:
    """Once abandoned uploads are past their time and both nodes live, everything but the objects goes."""
    past = text("UPDATE rindle_uploads SET expires_at = '2000-01-01' WHERE state = 'active'")
    await site.database.write(past)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_PATIENCE_S):
            while await site.leftovers():  # noqa: ASYNC110 - what other processes do sets no event
                await asyncio.sleep(_PAUSE_S)
    assert await site.leftovers() == []
