import asyncio
from collections import Counter

import pytest

from rindle.objectstore.errors import NotFoundError
from rindle.objectstore.ext import read
from rindle.objectstore.memory import MemoryStore
from rindle.objectstore.wrappers import limited
from rindle.testing.faults import FaultyStore


class Crowd:
    """Holds every call until it is let go, and knows how many there are."""

    def __init__(self) -> None:
        self.present = 0
        self.most = 0
        self.seen: Counter[str] = Counter()
        self.go_on = asyncio.Event()

    async def __call__(self, operation: str, _key: str) -> None:
        self.present += 1
        self.most = max(self.most, self.present)
        self.seen[operation] += 1
        try:
            await self.go_on.wait()
        finally:
            self.present -= 1


@pytest.fixture
def inner() -> FaultyStore:
    return FaultyStore(MemoryStore())


async def settle() -> None:
    for _ in range(100):
        await asyncio.sleep(0)


async def test_only_so_many_calls_are_under_way(inner: FaultyStore) -> None:
    inner.before = crowd = Crowd()
    store = limited(inner, 3)
    calls = [asyncio.create_task(store.put(f"{number}", b"")) for number in range(20)]
    await settle()
    assert crowd.present == 3
    crowd.go_on.set()
    await asyncio.gather(*calls)
    assert crowd.most == 3
    assert crowd.seen["put"] == 20


async def test_an_object_that_is_read_counts_until_it_is_read_or_closed(inner: FaultyStore) -> None:
    await inner.put("key", b"bytes")
    store = limited(inner, 1)
    for end in ("read", "aclose"):
        result = await store.get("key")
        waiting = asyncio.create_task(store.head("key"))
        await settle()
        assert not waiting.done()
        await getattr(result, end)()
        await result.aclose()
        await waiting


async def test_a_call_that_fails_or_is_cancelled_gives_its_turn_back(inner: FaultyStore) -> None:
    store = limited(inner, 1)
    for _ in range(3):
        with pytest.raises(NotFoundError):
            await store.get("key")
    inner.before = crowd = Crowd()
    under_way, waiting = (asyncio.create_task(store.get("key")) for _ in range(2))
    await settle()
    for task in (waiting, under_way):
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    crowd.go_on.set()
    await store.put("key", b"bytes")
    assert await read(store, "key") == b"bytes"


async def test_whoever_looks_at_a_listing_may_ask_about_what_he_sees(inner: FaultyStore) -> None:
    store = limited(inner, 1)
    for _ in range(3):
        await store.create_multipart("key")
    async for multipart in store.list_multiparts():
        await store.put_part(multipart.ref, 1, b"x")
        async for _ in store.list_parts(multipart.ref):
            await store.abort_multipart(multipart.ref)
            break
    assert [multipart async for multipart in store.list_multiparts()] == []


def test_there_is_room_for_one() -> None:
    with pytest.raises(ValueError, match="one call at least"):
        limited(MemoryStore(), 0)
