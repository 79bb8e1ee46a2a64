import asyncio
import logging

import pytest

from rindle.objectstore.errors import InvalidKeyError, NotFoundError, StoreTimeoutError
from rindle.objectstore.ext import read
from rindle.objectstore.memory import MemoryStore
from rindle.objectstore.types import ByteRange, GetOptions
from rindle.objectstore.wrappers import StoreCall, StoreStats, metered
from rindle.testing.faults import FaultyStore


async def test_calls_bytes_and_errors_are_added_up_by_operation() -> None:
    stats = StoreStats()
    store = metered(MemoryStore(), stats)
    await store.put("key", b"ten bytes.")
    await store.put("key", b"")
    assert await read(store, "key") == b""
    await store.put("key", b"ten bytes.")
    assert await read(store, "key", GetOptions(range=ByteRange(2, 5))) == b"n b"
    for _ in range(2):
        with pytest.raises(NotFoundError):
            await store.get("other")
    ref = await store.create_multipart("key")
    part = await store.put_part(ref, 1, b"four")
    assert [part async for part in store.list_parts(ref)] == [part]
    await store.complete_multipart(ref, [part])
    assert [meta.key async for meta in store.list()] == ["key"]
    found = stats.operations
    assert {name: one.calls for name, one in found.items()} == {
        "put": 3,
        "get": 4,
        "create_multipart": 1,
        "put_part": 1,
        "list_parts": 1,
        "complete_multipart": 1,
        "list_page": 1,
    }
    assert (found["put"].sent, found["put_part"].sent, found["get"].received) == (20, 4, 3)
    assert found["get"].errors == {"NotFoundError": 2}
    assert all(one.seconds > 0 for one in found.values())


async def test_each_call_is_told_of_when_it_ends() -> None:
    calls: list[StoreCall] = []
    inner = FaultyStore(MemoryStore())
    store = metered(inner, calls.append)
    await store.put("key", b"some bytes")
    result = await store.get("key")
    assert [call.operation for call in calls] == ["put"]
    await anext(aiter(result))
    await result.aclose()
    await result.aclose()
    assert [(call.operation, call.received, call.error) for call in calls[1:]] == [("get", 10, None)]


async def test_a_read_that_breaks_and_a_listing_that_fails_are_errors() -> None:
    stats = StoreStats()
    inner = FaultyStore(MemoryStore())
    store = metered(inner, stats)
    ref = await store.create_multipart("key")
    await store.put("key", b"bytes")

    async def fail(operation: str, key: str) -> None:
        msg = f"no answer to {operation}"
        raise StoreTimeoutError(msg, store="memory", key=key)

    inner.reading = fail
    with pytest.raises(StoreTimeoutError):
        await read(store, "key")
    inner.before = fail
    with pytest.raises(StoreTimeoutError):
        _ = [part async for part in store.list_parts(ref)]
    assert stats.operations["get"].errors == stats.operations["list_parts"].errors == {"StoreTimeoutError": 1}


async def test_a_call_that_is_cancelled_is_told_of_too() -> None:
    stats = StoreStats()
    inner = FaultyStore(MemoryStore())
    begun = asyncio.Event()

    async def hold(_operation: str, _key: str) -> None:
        begun.set()
        await asyncio.Event().wait()

    inner.before = hold
    putting = asyncio.create_task(metered(inner, stats).put("key", b"bytes"))
    await begun.wait()
    putting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await putting
    assert (stats.operations["put"].errors, stats.operations["put"].sent) == ({"CancelledError": 1}, 0)


async def test_what_is_refused_before_it_is_sent_is_no_call() -> None:
    stats = StoreStats()
    with pytest.raises(InvalidKeyError):
        await metered(MemoryStore(), stats).put("..", b"")
    assert stats.operations == {}


async def test_a_meter_that_fails_harms_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def fail(call: StoreCall) -> None:
        raise ZeroDivisionError

    store = metered(MemoryStore(), fail)
    with caplog.at_level(logging.ERROR):
        await store.put("key", b"bytes")
        assert await read(store, "key") == b"bytes"
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]
