import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from rindle.objectstore.base import MultipartStore
from rindle.objectstore.errors import (
    AlreadyExistsError,
    InvalidPartError,
    InvalidRangeError,
    NotFoundError,
    PreconditionFailedError,
    StoreUnavailableError,
    UnsupportedOperationError,
)
from rindle.objectstore.ext import copy_in_parts, exists, get_ranges, put_stream, read, rename, rename_if_not_exists
from rindle.objectstore.memory import ANY_PARTS, MemoryStore
from rindle.objectstore.types import Attributes, ByteRange, Capabilities, GetOptions, PartLimits
from rindle.testing.faults import FaultyStore
from rindle.testing.payloads import SourceFailedError

DATA = bytes(number % 251 for number in range(100_000))


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore(MemoryStore())


async def unfinished(store: MultipartStore) -> int:
    return len([multipart async for multipart in store.list_multiparts()])


# Reading


async def test_read_gives_all_bytes_or_a_range(store: FaultyStore) -> None:
    await store.put("key", DATA)
    assert await read(store, "key") == DATA
    assert await read(store, "key", GetOptions(range=ByteRange(5, 9))) == DATA[5:9]


async def test_exists_says_whether_there_is_an_object(store: FaultyStore) -> None:
    assert not await exists(store, "key")
    await store.put("key", b"")
    assert await exists(store, "key")


async def test_exists_does_not_take_a_failure_for_absence(store: FaultyStore) -> None:
    async def fail(operation: str, key: str) -> None:
        msg = "no answer"
        raise StoreUnavailableError(msg, store="memory", key=key)

    store.before = fail
    with pytest.raises(StoreUnavailableError):
        await exists(store, "key")


async def test_ranges_come_in_the_order_asked_for(store: FaultyStore) -> None:
    await store.put("key", DATA)
    ranges = [ByteRange(50_000, 50_010), ByteRange(3, 4), ByteRange(99_990), ByteRange(0, 8), ByteRange(3, 4)]
    assert await get_ranges(store, "key", ranges, near=10) == [
        DATA[50_000:50_010],
        DATA[3:4],
        DATA[99_990:],
        DATA[:8],
        DATA[3:4],
    ]


@pytest.mark.parametrize(("near", "requests"), [(0, 4), (10, 3), (1000, 1)])
async def test_ranges_near_each_other_are_one_request(store: FaultyStore, near: int, requests: int) -> None:
    await store.put("key", DATA)
    ranges = [ByteRange(0, 10), ByteRange(20, 30), ByteRange(25, 40), ByteRange(100, 110), ByteRange(210, 220)]
    assert await get_ranges(store, "key", ranges, near=near) == [DATA[r.start : r.end] for r in ranges]
    assert store.calls["get"] == requests


async def test_a_range_within_another_is_cut_from_it(store: FaultyStore) -> None:
    await store.put("key", DATA)
    ranges = [ByteRange(10), ByteRange(20, 30), ByteRange(5, 15)]
    assert await get_ranges(store, "key", ranges) == [DATA[10:], DATA[20:30], DATA[5:15]]
    assert store.calls["get"] == 1


async def test_a_range_is_clamped_and_one_after_the_end_refused(store: FaultyStore) -> None:
    await store.put("key", DATA)
    end = len(DATA)
    assert await get_ranges(store, "key", [ByteRange(end - 5, end + 5)]) == [DATA[-5:]]
    for near in (0, 1000):
        with pytest.raises(InvalidRangeError):
            await get_ranges(
                store, "key", [ByteRange(0, 5), ByteRange(end - 5, end), ByteRange(end, end + 5)], near=near
            )


async def test_no_ranges_are_no_request(store: FaultyStore) -> None:
    assert await get_ranges(store, "key", []) == []
    assert store.calls["get"] == 0


async def test_ranges_are_never_of_two_versions(store: FaultyStore) -> None:
    await store.put("key", DATA)

    async def replace(operation: str, key: str) -> None:
        if operation == "get" and store.calls["get"] == 1:
            await store.inner.put("key", DATA[::-1])

    store.after = replace
    with pytest.raises(PreconditionFailedError):
        await get_ranges(store, "key", [ByteRange(0, 10), ByteRange(50_000, 50_010)], near=0)


# Renaming


async def test_rename_moves_an_object(store: FaultyStore) -> None:
    await store.put("source", b"bytes")
    await store.put("target", b"old")
    result = await rename(store, "source", "target")
    assert await read(store, "target", GetOptions(if_match=result.e_tag)) == b"bytes"
    assert not await exists(store, "source")


async def test_rename_to_its_own_name_keeps_the_object(store: FaultyStore) -> None:
    before = await store.put("key", b"bytes")
    assert await rename(store, "key", "key") == before
    assert await read(store, "key") == b"bytes"
    with pytest.raises(AlreadyExistsError):
        await rename_if_not_exists(store, "key", "key")
    assert await read(store, "key") == b"bytes"


async def test_rename_if_not_exists_leaves_both_when_the_target_is_taken(store: FaultyStore) -> None:
    await store.put("source", b"bytes")
    await store.put("target", b"old")
    with pytest.raises(AlreadyExistsError):
        await rename_if_not_exists(store, "source", "target")
    assert [await read(store, "source"), await read(store, "target")] == [b"bytes", b"old"]
    await rename_if_not_exists(store, "source", "other")
    assert await read(store, "other") == b"bytes"
    assert not await exists(store, "source")


async def test_rename_of_nothing_is_not_found(store: FaultyStore) -> None:
    await store.put("target", b"old")
    for attempt in (rename(store, "source", "target"), rename(store, "source", "source")):
        with pytest.raises(NotFoundError):
            await attempt
    assert await read(store, "target") == b"old"


# Streams


def cut(data: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def cut_asynchronously(data: bytes, size: int) -> AsyncIterator[bytes]:
    for chunk in cut(data, size):
        yield chunk


@pytest.mark.parametrize("size", [1, 999, 1000, 1001, 1999, 2000, 2001, 3000, 3001, 10_000])
@pytest.mark.parametrize("chunk", [7, 1000, 1500, 100_000])
async def test_a_stream_becomes_an_object(store: FaultyStore, size: int, chunk: int) -> None:
    data = DATA[:size]
    result = await put_stream(store, "key", cut_asynchronously(data, chunk), part_size=1000)
    assert await read(store, "key", GetOptions(if_match=result.e_tag)) == data
    assert store.calls["put_part"] == (0 if size <= 1000 else -(-size // 1000))
    assert store.calls["put"] == (1 if size <= 1000 else 0)
    assert await unfinished(store) == 0


async def test_a_stream_may_be_any_iterable(store: FaultyStore) -> None:
    await put_stream(store, "key", [b"a", b"", b"b"])
    assert await read(store, "key") == b"ab"
    await put_stream(store, "key", cut(DATA, 77), part_size=1000)
    assert await read(store, "key") == DATA


async def test_an_empty_stream_becomes_an_empty_object(store: FaultyStore) -> None:
    await put_stream(store, "key", [])
    assert await read(store, "key") == b""


async def test_parts_of_a_stream_are_of_one_size() -> None:
    limits = PartLimits(
        min_size=1000, max_size=9000, max_count=100, max_object_size=10**6, uniform=True, consecutive=True
    )
    store = MemoryStore(limits)
    await put_stream(store, "key", cut(DATA, 333), part_size=1000)
    assert await read(store, "key") == DATA
    for size in (999, 9001):
        with pytest.raises(InvalidPartError):
            await put_stream(store, "key", cut(DATA, 333), part_size=size)


@pytest.mark.parametrize("size", [500, 5000])
async def test_a_stream_brings_its_attributes_and_tags(store: FaultyStore, size: int) -> None:
    attributes = Attributes(content_type="text/plain")
    await put_stream(store, "key", [DATA[:size]], part_size=1000, attributes=attributes, tags={"a": "b"})
    async with await store.get("key") as result:
        assert result.attributes == attributes
    assert await store.get_tags("key") == {"a": "b"}


@pytest.mark.parametrize("size", [500, 5000])
async def test_a_stream_that_creates_leaves_what_is_there(store: FaultyStore, size: int) -> None:
    await put_stream(store, "key", [DATA[:size]], part_size=1000, mode="create")
    with pytest.raises(AlreadyExistsError):
        await put_stream(store, "key", [DATA[:size][::-1]], part_size=1000, mode="create")
    assert await read(store, "key") == DATA[:size]
    assert await unfinished(store) == 0


async def test_a_stream_that_cannot_create_says_so_before_it_sends(store: FaultyStore) -> None:
    store.capabilities = Capabilities(put_create=True, part_limits=ANY_PARTS)
    with pytest.raises(UnsupportedOperationError):
        await put_stream(store, "key", cut(DATA, 100), part_size=1000, mode="create")
    assert store.calls == {}


@pytest.mark.parametrize("good_chunks", [0, 5, 25])
async def test_a_stream_that_raises_leaves_nothing(store: FaultyStore, good_chunks: int) -> None:
    def source() -> Iterator[bytes]:
        yield from cut(DATA[: good_chunks * 100], 100)
        raise SourceFailedError

    await store.put("key", b"old")
    with pytest.raises(SourceFailedError):
        await put_stream(store, "key", source(), part_size=1000)
    assert await read(store, "key") == b"old"
    assert await unfinished(store) == 0


@pytest.mark.parametrize("operation", ["put_part", "complete_multipart"])
async def test_a_stream_that_the_store_fails_leaves_nothing(store: FaultyStore, operation: str) -> None:
    async def fail(asked: str, key: str) -> None:
        if asked == operation and (asked != "put_part" or store.calls[asked] == 7):
            msg = "no answer"
            raise StoreUnavailableError(msg, store="memory", key=key)

    store.before = fail
    with pytest.raises(StoreUnavailableError):
        await put_stream(store, "key", cut(DATA, 100), part_size=1000)
    assert not await exists(store, "key")
    assert await unfinished(store) == 0


async def test_an_abort_that_fails_does_not_hide_what_went_wrong(store: FaultyStore) -> None:
    async def fail(operation: str, key: str) -> None:
        if operation == "abort_multipart":
            msg = "no answer"
            raise StoreUnavailableError(msg, store="memory", key=key)

    def source() -> Iterator[bytes]:
        yield DATA
        raise SourceFailedError

    store.before = fail
    with pytest.raises(SourceFailedError) as caught:
        await put_stream(store, "key", source(), part_size=1000)
    assert "could not be aborted: memory: no answer" in caught.value.__notes__[0]


class Gate:
    """Holds every call of an operation until it is opened, and says when enough of them wait."""

    def __init__(self, operation: str, *, waiting: int) -> None:
        self._operation = operation
        self._waiting = waiting
        self._count = 0
        self.full = asyncio.Event()
        self.open = asyncio.Event()

    async def __call__(self, operation: str, _key: str) -> None:
        if operation != self._operation:
            return
        self._count += 1
        if self._count == self._waiting:
            self.full.set()
        await self.open.wait()


@pytest.mark.parametrize("cancels", [1, 3])
async def test_a_stream_that_is_cancelled_leaves_nothing(store: FaultyStore, cancels: int) -> None:
    gate = Gate("put_part", waiting=3)
    store.before = gate
    writing = asyncio.create_task(put_stream(store, "key", cut(DATA, 100), part_size=1000))
    await gate.full.wait()
    for _ in range(cancels):
        writing.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert not await exists(store, "key")
    assert await unfinished(store) == 0


@pytest.mark.parametrize(("in_flight", "running"), [(1, 1), (3, 3)])
async def test_a_stream_is_read_no_further_than_its_parts_in_flight(
    store: FaultyStore, in_flight: int, running: int
) -> None:
    taken = 0

    def source() -> Iterator[bytes]:
        nonlocal taken
        for chunk in cut(DATA, 100):
            taken += len(chunk)
            yield chunk

    gate = Gate("put_part", waiting=running)
    store.before = gate
    writing = asyncio.create_task(put_stream(store, "key", source(), part_size=1000, parts_in_flight=in_flight))
    await gate.full.wait()
    for _ in range(100):  # give it every occasion to read on
        await asyncio.sleep(0)
    assert taken <= (in_flight + 1) * 1000
    gate.open.set()
    await writing
    assert await read(store, "key") == DATA


async def test_several_parts_of_a_stream_are_under_way_at_once(store: FaultyStore) -> None:
    gate = Gate("put_part", waiting=3)
    store.before = gate
    writing = asyncio.create_task(put_stream(store, "key", cut(DATA, 100), part_size=1000))
    await gate.full.wait()  # would never be, one after the other
    gate.open.set()
    await writing


async def test_a_copy_in_parts_is_the_same_object() -> None:
    store = FaultyStore(MemoryStore())
    attributes = Attributes(content_type="text/plain")
    await put_stream(store, "source", [DATA], attributes=attributes, tags={"a": "b"})
    result = await copy_in_parts(store, "source", "target", part_size=1000)
    async with await store.get("target", GetOptions(if_match=result.e_tag)) as found:
        assert (found.attributes, await found.read()) == (attributes, DATA)
    assert await store.get_tags("target") == {"a": "b"}
    assert store.calls["copy_part"] == -(-len(DATA) // 1000)


async def test_a_copy_in_parts_that_creates_leaves_what_is_there(store: FaultyStore) -> None:
    await put_stream(store, "source", [DATA])
    await store.put("target", b"there")
    with pytest.raises(AlreadyExistsError):
        await copy_in_parts(store, "source", "target", part_size=1000, mode="create")
    assert await read(store, "target") == b"there"
    assert await unfinished(store) == 0


async def test_a_copy_in_parts_does_not_mix_two_sources(store: FaultyStore) -> None:
    await put_stream(store, "source", [DATA])

    async def replace_source(operation: str, _: str) -> None:
        if operation == "copy_part" and store.calls["copy_part"] == 2:
            await store.inner.put("source", DATA[::-1])

    store.before = replace_source
    with pytest.raises(StoreUnavailableError):
        await copy_in_parts(store, "source", "target", part_size=1000)
    assert not await exists(store, "target")
    assert await unfinished(store) == 0


async def test_a_copy_in_parts_that_creates_needs_a_store_that_can(store: FaultyStore) -> None:
    await put_stream(store, "source", [DATA])
    store.capabilities = Capabilities(copy_part=True, part_limits=ANY_PARTS)
    with pytest.raises(UnsupportedOperationError):
        await copy_in_parts(store, "source", "target", part_size=1000, mode="create")
