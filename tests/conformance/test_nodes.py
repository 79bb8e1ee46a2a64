"""Several nodes on one database and one store, and a store that fails in the middle."""

import asyncio
import random
from pathlib import Path

import pytest
from starlette.requests import Request

from rindle.bootstrap import Components
from rindle.objectstore.errors import ObjectStoreError, StoreUnavailableError, ThrottledError
from rindle.protocols.errors import NotAuthenticatedError, NotPermittedError
from rindle.testing.faults import FaultyStore
from tests.acceptance.process import Server, running
from tests.http import OCTETS, TUS
from tests.serving import StartNode, StartServer, quickly, rebuild, take_over

PART = 64 * 1024


@pytest.mark.invariant("I1", "I3", "I4")
@pytest.mark.parametrize(("size", "durability"), [(PART, "disk"), (5, "object"), (PART + 5, "object")])
async def test_case_86_who_comes_back_on_another_node_takes_over_from_a_patch_that_stalls(
    start_node: StartNode, size: int, durability: str
) -> None:
    one = await start_node("one", tail_durability=durability, change=quickly)
    two = await start_node("two", tail_durability=durability, change=quickly)
    content = random.Random(86).randbytes(2 * PART)
    upload = await one.client.create(len(content))
    async with one.client.connect() as stalled:
        await stalled.begin_patch(upload, 0, length=len(content))
        await stalled.send(content[:size])
        await one.tap.took(size)
        await take_over(two.client, upload, content, {0, PART, size})
        ended = await stalled.read_response()
        assert (ended.status, ended.code) == (423, "upload_interrupted")
    assert await two.read_object(upload) == content
    assert await one.events(upload) == ["created", "finished"]


@pytest.mark.invariant("I1", "I3")
async def test_case_87_another_node_goes_on_where_one_was_killed(tmp_path: Path, sqlite_url: str) -> None:
    flags = [
        *("--database", sqlite_url, "--store", (tmp_path / "objects").as_uri(), "--part-size", "64KiB"),
        *("--handover-timeout", "200ms", "--lease-ttl", "5s"),
    ]
    one, two = Server(tmp_path / "one", *flags), Server(tmp_path / "two", *flags)
    content = random.Random(87).randbytes(4 * PART)
    async with running(one, two):
        upload = await one.client.create(len(content))
        async with one.client.connect() as connection:
            headers = [TUS, OCTETS, ("Upload-Offset", "0"), ("Content-Length", str(len(content)))]
            await connection.send_head("PATCH", upload, headers)
            await connection.send(content[: 3 * PART + 5])
            while (await two.client.head(upload)).offset < PART:
                pass
            await one.kill()
        found = await two.client.head(upload)
        assert PART <= found.offset <= 3 * PART
        patched = await two.client.patch(upload, found.offset, content[found.offset :])
        while patched.status != 204:
            assert patched.status == 423
            patched = await two.client.patch(upload, found.offset, content[found.offset :])
    (stored,) = [path for path in (tmp_path / "objects" / "uploads").rglob("*") if path.is_file()]
    assert stored.read_bytes() == content


class FailingPart:
    """Fails the n-th part that is put; the ones before it wait until that has happened."""

    def __init__(self, number: int, error: ObjectStoreError, *, after: bool = False) -> None:
        self._number = number
        self._error = error
        self._after = after
        self._begun = 0
        self._failed = asyncio.Event()

    async def before(self, operation: str, _key: str) -> None:
        if operation == "put_part":
            self._begun += 1
            if self._begun == self._number and not self._after:
                self._failed.set()
                raise self._error
            if self._begun < self._number and not self._after:
                await self._failed.wait()

    async def after(self, operation: str, _key: str) -> None:
        if operation == "put_part" and self._after and self._begun == self._number and not self._failed.is_set():
            self._failed.set()
            raise self._error

    def change(self, parts: Components) -> Components:
        return rebuild(parts, store=FaultyStore(parts.store, before=self.before, after=self.after))


@pytest.mark.invariant("I1", "I3", "I5")
@pytest.mark.parametrize(
    ("number", "error", "after"),
    [
        pytest.param(2, StoreUnavailableError("lost", store="test"), True, id="case_88_stored_but_not_committed"),
        pytest.param(2, StoreUnavailableError("down", store="test"), False, id="case_89_not_stored"),
        pytest.param(3, ThrottledError("slow down", store="test"), False, id="case_94_throttled"),
    ],
)
async def test_a_part_that_fails_leaves_the_offset_before_it_and_no_hole(
    start_server: StartServer, number: int, error: ObjectStoreError, *, after: bool
) -> None:
    change = FailingPart(number, error, after=after).change
    server = await start_server(part_size=PART, parts_in_flight=1 if after else 3, change=change)
    content = random.Random(88).randbytes(8 * PART)
    upload = await server.client.create(len(content))
    refused = await server.client.patch(upload, 0, content)
    assert refused.status == 503
    assert refused.headers["retry-after"]
    assert (await server.client.head(upload)).offset == (number - 1) * PART
    finished = await server.client.patch(upload, (number - 1) * PART, content[(number - 1) * PART :])
    assert (finished.status, finished.offset) == (204, len(content))
    assert await server.read_object(upload) == content
    assert server.parts.engine._storage.budget.take(server.parts.engine.options.memory_budget), "memory was kept"


async def test_case_99_who_may_not_upload_may_not_look_or_delete_either(start_server: StartServer) -> None:
    async def authorize(request: Request) -> str:
        user = request.headers.get("x-user")
        if user is None:
            raise NotAuthenticatedError
        if user == "banned":
            raise NotPermittedError
        return user

    server = await start_server(authorize=authorize)
    mine = ("X-User", "me")
    upload = (await server.client.post(("Upload-Length", "5"), mine)).location
    before = await server.state()
    for headers, status in ([], 401), ([("X-User", "banned")], 403), ([("X-User", "another")], 404):
        for method in ("HEAD", "DELETE"):
            assert (await server.client.request(method, upload, headers)).status == status
    assert await server.state() == before
    assert (await server.client.request("HEAD", upload, [mine])).offset == 0
    assert (await server.client.request("DELETE", upload, [mine])).status == 204
