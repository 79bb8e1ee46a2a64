"""Tails in the store: every node can go on from them, and none is left there."""

import asyncio
import random
from pathlib import Path

import pytest
from sqlalchemy import text

from rindle.bootstrap import Components
from rindle.db.models import nodes
from rindle.objectstore.errors import StoreUnavailableError
from rindle.reaper.report import Chore
from rindle.testing.faults import FaultyStore
from rindle.uploads.model import Tail, UploadState
from tests.serving import RunningServer, StartNode, rebuild

PART = 64 * 1024
CONTENT = random.Random(31).randbytes(3 * PART + 100)


async def tail_of(server: RunningServer, upload: str) -> Tail:
    tail = (await server.find(upload)).tail
    assert tail is not None
    return tail


async def keys(server: RunningServer) -> list[str]:
    return [meta.key async for meta in server.parts.store.list()]


async def assert_finishes(server: RunningServer, upload: str, offset: int) -> None:
    """The upload goes on from here, in two requests, and leaves its object and nothing else."""
    assert (await server.client.head(upload)).offset == offset
    for end in (offset + 50, len(CONTENT)):
        offset = (await server.client.patch(upload, offset, CONTENT[offset:end])).offset
        assert offset == end
    assert await server.read_object(upload) == CONTENT
    assert await keys(server) == [(await server.find(upload)).key]
    assert tail_files(server) == []


def tail_files(server: RunningServer) -> list[Path]:
    return [*(server.data / "tails" / "tus").iterdir()]


@pytest.mark.invariant("I1", "I3")
@pytest.mark.parametrize("size", [5, PART + 5])
async def test_a_tail_that_nobody_has_touched_for_a_while_moves_into_the_store(
    start_node: StartNode, size: int
) -> None:
    one, two = await start_node("one", spill_after="1ms"), await start_node("two")
    upload = await one.client.create(len(CONTENT))
    await one.client.patch(upload, 0, CONTENT[:size])
    assert (await two.client.head(upload)).code == "tus_tail_missing"
    while not (await one.parts.reaper.run())[Chore.SPILLS].done:
        pass
    tail = await tail_of(one, upload)
    assert (tail.in_store, tail.length) == (True, 5)
    assert tail_files(one) == []
    assert [key for key in await keys(one) if key.startswith("uploads/")] == []
    assert (await one.parts.reaper.run())[Chore.SPILLS].done == 0
    await assert_finishes(two, upload, size)


async def test_tails_are_spilled_by_and_by(start_node: StartNode) -> None:
    server = await start_node("one", spill_after="1ms")
    for _ in range(5):
        await server.client.create(10, body=b"hello")
    await asyncio.sleep(0.01)  # until all are idle
    # The server does it in the background too, and may have been there first.
    while tail_files(server):
        assert await server.parts.engine.spill(limit=2) <= 2
    assert await server.parts.engine.spill(limit=2) == 0


async def test_a_tail_that_was_touched_just_now_stays(start_node: StartNode) -> None:
    server = await start_node("one", spill_after="1h")
    upload = await server.client.create(10, body=b"hello")
    assert (await server.parts.reaper.run())[Chore.SPILLS].done == 0
    assert not (await tail_of(server, upload)).in_store


@pytest.mark.invariant("I1", "I24")
async def test_a_node_that_goes_leaves_its_tails_in_the_store(start_node: StartNode) -> None:
    one, two = await start_node("one"), await start_node("two")
    uploads = [await one.client.create(len(CONTENT), body=CONTENT[:size]) for size in (5, 500, PART + 5)]
    await one.parts.engine.aclose()
    assert tail_files(one) == []
    for upload, offset in zip(uploads, (5, 500, PART + 5), strict=True):
        assert (await two.client.head(upload)).offset == offset
        await two.client.patch(upload, offset, CONTENT[offset:])
        assert await two.read_object(upload) == CONTENT


@pytest.mark.invariant("I1", "I24")
@pytest.mark.parametrize("size", [5, PART + 5])
async def test_a_tail_whose_writer_died_is_left_to_all_too(start_node: StartNode, size: int) -> None:
    one, two = await start_node("one"), await start_node("two")
    upload = await one.client.create(len(CONTENT), body=CONTENT[:size])
    await one.change_row(upload, held_until("2000-01-01"))
    await one.parts.engine.aclose()
    assert tail_files(one) == []
    await assert_finishes(two, upload, size)


async def test_a_tail_that_somebody_writes_to_stays(start_node: StartNode) -> None:
    one = await start_node("one")
    upload = await one.client.create(10, body=b"hello")
    await one.change_row(upload, held_until("2999-01-01"))
    await one.parts.engine.aclose()
    assert len(tail_files(one)) == 1
    assert not (await tail_of(one, upload)).in_store


def held_until(day: str) -> str:
    """A lease of a process elsewhere."""
    return f"lease_token = 'ab', lease_holder = '{'0' * 16}/{'1' * 16}', lease_until = '{day}T00:00:00.000Z'"


async def test_a_node_that_never_spills_keeps_its_tails(start_node: StartNode) -> None:
    server = await start_node("one", spill_after="never")
    await server.client.create(10, body=b"hello")
    assert (await server.parts.reaper.run())[Chore.SPILLS].done == 0
    await server.parts.engine.aclose()
    assert len(tail_files(server)) == 1


@pytest.mark.invariant("I1")
async def test_with_object_durability_no_byte_is_acknowledged_that_only_this_node_has(start_node: StartNode) -> None:
    one = await start_node("one", tail_durability="object")
    two = await start_node("two", tail_durability="object")
    upload = await one.client.create(len(CONTENT))
    ends = (7, 8, PART - 1, PART + 10, 2 * PART, 2 * PART + 1)
    offset = 0
    for number, end in enumerate(ends):
        server = (one, two)[number % 2]
        offset = (await server.client.patch(upload, offset, CONTENT[offset:end])).offset
        assert offset == end
        row = await server.find(upload)
        assert row.tail is None or row.tail.in_store
        assert await keys(server) == ([] if row.tail is None else [row.tail.name])
        assert tail_files(one) == tail_files(two) == []
    await assert_finishes(one, upload, offset)


@pytest.mark.invariant("I12")
async def test_with_object_durability_and_no_store_nothing_is_acknowledged(start_node: StartNode) -> None:
    error: StoreUnavailableError | None = StoreUnavailableError("not now", store="test")

    async def fail(operation: str, _key: str) -> None:
        if operation == "put" and error is not None:
            raise error

    def change(parts: Components) -> Components:
        return rebuild(parts, store=FaultyStore(parts.store, before=fail))

    server = await start_node("one", tail_durability="object", change=change)
    upload = await server.client.create(len(CONTENT))
    refused = await server.client.patch(upload, 0, CONTENT[:500])
    assert refused.status == 503
    assert (await server.client.head(upload)).offset == 0
    error = None
    await server.client.patch(upload, 0, CONTENT[:500])
    await assert_finishes(server, upload, 500)


async def test_an_append_of_nothing_leaves_a_spilled_tail_where_it_is(start_node: StartNode) -> None:
    server = await start_node("one", tail_durability="object")
    upload = await server.client.create(10, body=b"hello")
    tail = await tail_of(server, upload)
    assert (await server.client.patch(upload, 5, b"")).offset == 5
    assert await tail_of(server, upload) == tail
    assert await keys(server) == [tail.name]


async def test_who_appends_while_a_tail_is_spilled_wins(start_node: StartNode) -> None:
    spilling, go_on = asyncio.Event(), asyncio.Event()

    async def wait(operation: str, _key: str) -> None:
        if operation == "put" and not spilling.is_set():
            spilling.set()
            await go_on.wait()

    def change(parts: Components) -> Components:
        return rebuild(parts, store=FaultyStore(parts.store, before=wait))

    server = await start_node("one", spill_after="1ms", change=change)
    upload = await server.client.create(len(CONTENT))
    await server.client.patch(upload, 0, CONTENT[:500])
    reaping = asyncio.create_task(server.parts.reaper.run())
    await spilling.wait()
    assert (await server.client.patch(upload, 500, CONTENT[500:700])).offset == 700
    go_on.set()
    assert (await reaping)[Chore.SPILLS].done == 0
    tail = await tail_of(server, upload)
    assert (tail.in_store, tail.length) == (False, 700)
    assert await keys(server) == []
    await assert_finishes(server, upload, 700)


async def test_a_tail_that_cannot_be_spilled_stays_where_it_is(start_node: StartNode) -> None:
    async def fail(operation: str, _key: str) -> None:
        if operation == "put":
            raise StoreUnavailableError("not now", store="test")

    def change(parts: Components) -> Components:
        return rebuild(parts, store=FaultyStore(parts.store, before=fail))

    server = await start_node("one", spill_after="1ms", change=change)
    upload = await server.client.create(len(CONTENT), body=CONTENT[:500])
    for _ in range(2):
        assert (await server.parts.reaper.run())[Chore.SPILLS].done == 0
    assert not (await tail_of(server, upload)).in_store
    assert (await server.client.patch(upload, 500, CONTENT[500:600])).offset == 600


@pytest.mark.invariant("I2", "I11")
@pytest.mark.parametrize(
    ("left", "reason"), [(None, "missing"), (b"hell", "short"), (b"hellO", "corrupt"), (b"hello!", "corrupt")]
)
async def test_a_spilled_tail_that_is_lost_is_told(
    start_node: StartNode, left: bytes | None, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    server = await start_node("one", tail_durability="object")
    upload = await server.client.create(len(CONTENT), body=b"hello")
    key = (await tail_of(server, upload)).name
    await server.parts.store.delete(key)
    if left is not None:
        await server.parts.store.put(key, left)
    refused = await server.client.patch(upload, 5, b"more")
    assert (refused.status, refused.code) == (410, "tus_tail_missing")
    assert f"[tail {reason}, owner store] Operator: " in caplog.text
    await server.parts.reaper.run()
    assert (await server.find(upload)).state is UploadState.FAILED
    assert await keys(server) == []


@pytest.mark.invariant("I10", "I11")
async def test_a_terminated_upload_leaves_no_spilled_tail(start_node: StartNode) -> None:
    server = await start_node("one", tail_durability="object")
    upload = await server.client.create(len(CONTENT), body=b"hello")
    assert (await server.client.delete(upload)).status == 204
    assert await keys(server) == []


@pytest.mark.parametrize("size", [5, PART + 5])
async def test_where_that_is_allowed_an_upload_whose_tail_is_lost_is_rewound(start_node: StartNode, size: int) -> None:
    server = await start_node("one", allow_rewind=True)
    upload = await server.client.create(len(CONTENT))
    await server.client.patch(upload, 0, CONTENT[:size])
    for path in tail_files(server):
        path.unlink()
    response = await server.client.patch(upload, size, CONTENT[size:])
    assert (response.status, response.code, response.offset) == (409, "offset_mismatch", size - 5)
    await assert_finishes(server, upload, size - 5)


@pytest.mark.parametrize("writing", [False, True])
async def test_where_that_is_allowed_an_upload_whose_node_was_given_up_is_rewound(
    start_node: StartNode, *, writing: bool
) -> None:
    one, two = await start_node("one", spill_after="never"), await start_node("two", allow_rewind=True)
    upload = await one.client.create(len(CONTENT))
    await one.client.patch(upload, 0, CONTENT[: PART + 5])
    node = one.parts.tails.node.id
    await one.parts.repository.beat(node, "one")
    if writing:
        await one.change_row(upload, held_until("2000-01-01"))
    assert (await two.client.head(upload)).status == 423
    now = "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')"
    await one.parts.database.write(text(f"UPDATE {nodes.name} SET retired_at = {now} WHERE id = '{node}'"))
    await assert_finishes(two, upload, PART)
