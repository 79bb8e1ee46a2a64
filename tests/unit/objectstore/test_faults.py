import asyncio
from dataclasses import replace

import pytest

from rindle.objectstore.errors import StoreTimeoutError, UnsupportedOperationError
from rindle.objectstore.ext import exists, read
from rindle.objectstore.memory import MemoryStore
from rindle.objectstore.types import GetOptions
from rindle.testing.faults import FaultyStore


def timeout_of(wanted: str, *, at_call: int) -> tuple[FaultyStore, list[tuple[str, str]]]:
    """A store that can be told to lose an answer, and what its hook was asked."""
    asked: list[tuple[str, str]] = []
    store = FaultyStore(MemoryStore())

    async def hook(operation: str, key: str) -> None:
        asked.append((operation, key))
        if operation == wanted and store.calls[operation] == at_call:
            msg = "no answer"
            raise StoreTimeoutError(msg, store=store.name, key=key)

    store.before = hook
    return store, asked


async def test_a_call_that_fails_before_does_nothing() -> None:
    store, asked = timeout_of("put", at_call=2)
    await store.put("one", b"")
    with pytest.raises(StoreTimeoutError):
        await store.put("two", b"")
    await store.put("three", b"")
    assert [meta.key async for meta in store.list()] == ["one", "three"]
    assert asked == [("put", "one"), ("put", "two"), ("put", "three"), ("list_page", "")]


async def test_a_call_that_fails_after_was_done() -> None:
    store, _ = timeout_of("put", at_call=1)
    store.before, store.after = None, store.before
    with pytest.raises(StoreTimeoutError):
        await store.put("key", b"bytes")
    assert await read(store, "key") == b"bytes"


async def test_a_hook_may_hold_a_call() -> None:
    store = FaultyStore(MemoryStore())
    held, go_on = asyncio.Event(), asyncio.Event()

    async def hold(operation: str, key: str) -> None:
        if operation == "put":
            held.set()
            await go_on.wait()

    store.before = hold
    putting = asyncio.create_task(store.put("key", b"bytes"))
    await held.wait()
    assert not await exists(store, "key")
    go_on.set()
    await putting
    assert await exists(store, "key")


async def test_calls_are_counted_by_operation() -> None:
    store = FaultyStore(MemoryStore())
    ref = await store.create_multipart("key")
    parts = [await store.put_part(ref, number, b"x") for number in (1, 2)]
    assert [part async for part in store.list_parts(ref)] == parts
    await store.complete_multipart(ref, parts)
    await store.delete_many(["key"])
    assert store.calls == {
        "create_multipart": 1,
        "put_part": 2,
        "list_parts": 1,
        "complete_multipart": 1,
        "delete_many": 1,
    }


async def test_what_a_read_asks_for_reaches_the_store_inside() -> None:
    inner = MemoryStore()
    store = FaultyStore(inner)
    inner.capabilities = replace(inner.capabilities, consistency="eventual")
    for attempt in (store.get("key", GetOptions(consistent=True)), store.list_page(consistent=True)):
        with pytest.raises(UnsupportedOperationError):
            await attempt
