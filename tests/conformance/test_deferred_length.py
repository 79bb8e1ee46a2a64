"""Upload-Defer-Length: the length comes with some later PATCH, once."""

import asyncio

import pytest

from rindle.bootstrap import Components
from rindle.objectstore.errors import StoreUnavailableError
from rindle.objectstore.memory import MemoryStore
from rindle.objectstore.types import PartLimits
from rindle.testing.faults import FaultyStore
from tests.serving import RunningServer, StartServer, rebuild

PART = 64 * 1024


def length_is(length: int) -> tuple[str, str]:
    return ("Upload-Length", str(length))


async def deferred(server: RunningServer, content: bytes = b"") -> str:
    upload = await server.client.create(None)
    if content:
        assert (await server.client.patch(upload, 0, content)).offset == len(content)
    return upload


async def test_case_52_a_patch_may_declare_the_length(server: RunningServer) -> None:
    upload = await deferred(server, b"0123456789")
    response = await server.client.patch(upload, 10, b"hello", length_is(20))
    assert (response.status, response.offset) == (204, 15)
    found = await server.client.head(upload)
    assert found.headers["upload-length"] == "20"
    assert "upload-defer-length" not in found.headers
    assert (await server.client.patch(upload, 15, b"world")).offset == 20
    assert await server.read_object(upload) == b"0123456789helloworld"


async def test_a_patch_without_bytes_may_declare_the_length(server: RunningServer) -> None:
    upload = await deferred(server)
    assert (await server.client.patch(upload, 0, b"", length_is(5))).offset == 0
    assert (await server.client.head(upload)).headers["upload-length"] == "5"
    assert (await server.client.patch(upload, 0, b"hello")).offset == 5
    assert await server.read_object(upload) == b"hello"


@pytest.mark.invariant("I5")
async def test_case_53_a_length_that_is_fixed_stays(server: RunningServer) -> None:
    upload = await deferred(server)
    await server.client.patch(upload, 0, b"hello", length_is(10))
    before = await server.state()
    for length in (11, 9, 20):
        response = await server.client.patch(upload, 5, b"", length_is(length))
        assert (response.status, response.code) == (400, "length_mismatch"), length
    assert await server.state() == before
    assert (await server.client.patch(upload, 5, b"", length_is(10))).status == 204
    assert (await server.client.patch(upload, 5, b"world", length_is(10))).offset == 10
    before = await server.state()
    assert (await server.client.patch(upload, 10, b"", length_is(10))).status == 204
    response = await server.client.patch(upload, 10, b"", length_is(11))
    assert (response.status, response.code) == (400, "length_mismatch")
    assert await server.state() == before


@pytest.mark.invariant("I5")
async def test_case_53_a_length_that_was_never_deferred_stays(server: RunningServer) -> None:
    upload = await server.client.create(10)
    before = await server.state()
    assert (await server.client.patch(upload, 0, b"hello", length_is(11))).status == 400
    assert await server.state() == before
    assert (await server.client.patch(upload, 0, b"hello", length_is(10))).status == 204


async def test_case_54_a_length_below_the_offset_is_400(server: RunningServer) -> None:
    upload = await deferred(server, b"0123456789")
    before = await server.state()
    response = await server.client.patch(upload, 10, b"", length_is(9))
    assert (response.status, response.code) == (400, "length_mismatch")
    assert await server.state() == before


async def test_a_declared_length_that_the_body_goes_past_is_413(server: RunningServer) -> None:
    upload = await deferred(server, b"0123456789")
    before = await server.state()
    response = await server.client.patch(upload, 10, b"hello", length_is(12))
    assert (response.status, response.code) == (413, "length_exceeded")
    assert await server.state() == before
    response = await server.client.patch_chunked(upload, 10, [b"hello"], length_is(12))
    assert (response.status, response.code) == (413, "length_exceeded")
    assert await server.read_object(upload) == b"0123456789he"


async def test_case_55_a_declared_length_past_the_maximum_is_413(start_server: StartServer) -> None:
    server = await start_server(max_size=1000)
    upload = await deferred(server, b"hello")
    before = await server.state()
    response = await server.client.patch(upload, 5, b"", length_is(1001))
    assert (response.status, response.code) == (413, "max_size_exceeded")
    assert await server.state() == before


@pytest.mark.parametrize("size", [0, 10, PART, PART + 10, 2 * PART])
async def test_case_56_declaring_what_has_come_as_the_length_finishes(server: RunningServer, size: int) -> None:
    content = bytes(size)
    upload = await deferred(server, content)
    response = await server.client.patch(upload, size, b"", length_is(size))
    assert (response.status, response.offset) == (204, size)
    assert (await server.client.head(upload)).headers["upload-length"] == str(size)
    assert await server.read_object(upload) == content
    assert await server.events(upload) == ["created", "finished"]


async def test_case_57_deferred_bytes_past_the_maximum_are_413(start_server: StartServer) -> None:
    server = await start_server(max_size=1000, part_size=300)
    upload = await deferred(server, bytes(500))
    before = await server.state()
    response = await server.client.patch(upload, 500, bytes(501))
    assert (response.status, response.code) == (413, "max_size_exceeded")
    assert await server.state() == before
    response = await server.client.patch_chunked(upload, 500, [bytes(400), bytes(400)])
    assert (response.status, response.code) == (413, "max_size_exceeded")
    found = await server.client.head(upload)
    assert (found.offset, found.headers["upload-defer-length"]) == (1000, "1")
    assert (await server.client.patch(upload, 1000, b"", length_is(1000))).status == 204
    assert await server.read_object(upload) == bytes(1000)


@pytest.mark.parametrize("parts", [1, 2])
async def test_case_58_whole_parts_of_unknown_length_are_not_complete(server: RunningServer, parts: int) -> None:
    upload = await deferred(server, bytes(parts * PART))
    found = await server.client.head(upload)
    assert (found.offset, found.headers["upload-defer-length"]) == (parts * PART, "1")
    assert await server.events(upload) == ["created"]
    assert (await server.client.patch(upload, parts * PART, b"end", length_is(parts * PART + 3))).status == 204
    assert await server.read_object(upload) == bytes(parts * PART) + b"end"


class Gate:
    """Holds a store's writes of whole objects until it is opened; then they fail if there is an error."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self, operation: str, _key: str) -> None:
        if operation == "put":
            self.reached.set()
            await self.opened.wait()
            if self.error is not None:
                raise self.error

    def change(self, parts: Components) -> Components:
        return rebuild(parts, store=FaultyStore(parts.store, before=self))


@pytest.mark.invariant("I6")
async def test_the_end_is_not_told_before_the_object_stands(start_server: StartServer) -> None:
    gate = Gate()
    server = await start_server(change=gate.change)
    upload = await deferred(server, b"hello")
    finishing = asyncio.create_task(server.client.patch(upload, 5, b"", length_is(5)))
    await gate.reached.wait()
    early = await server.client.head(upload)
    gate.error = StoreUnavailableError("not now", store="test")
    gate.opened.set()
    assert (await finishing).status == 503
    late = await server.client.head(upload)
    for found in (early, late):
        assert found.status == 423 or "upload-length" not in found.headers, found
    gate.error = None
    assert (await server.client.patch(upload, 5, b"", length_is(5))).status == 204
    assert await server.read_object(upload) == b"hello"


def three_parts(parts: Components) -> Components:
    """A store that takes few parts: the plan for a length that is not known may turn out too small."""
    limits = PartLimits(min_size=1, max_size=1 << 30, max_count=3, max_object_size=1 << 40)
    return rebuild(parts, store=MemoryStore(limits))


async def test_an_upload_of_unknown_length_ends_where_the_store_takes_no_more_parts(start_server: StartServer) -> None:
    server = await start_server(change=three_parts, part_size=100, deferred_size=300, max_size=10_000)
    upload = await deferred(server, bytes(250))
    assert (await server.find(upload)).part_size == 100
    before = await server.state()
    for response in (
        await server.client.patch(upload, 250, b"", length_is(301)),
        await server.client.patch(upload, 250, bytes(51), length_is(301)),
    ):
        assert (response.status, response.code) == (413, "max_size_exceeded")
    assert await server.state() == before
    response = await server.client.patch_chunked(upload, 250, [bytes(51)])
    assert (response.status, response.code) == (413, "max_size_exceeded")
    assert (await server.client.head(upload)).offset == 300
    response = await server.client.patch(upload, 300, b"x")
    assert (response.status, response.code) == (413, "max_size_exceeded")
    assert (await server.client.patch(upload, 300, b"", length_is(300))).status == 204
    assert await server.read_object(upload) == bytes(300)
