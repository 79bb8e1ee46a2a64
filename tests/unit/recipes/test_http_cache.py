import pytest

from rindle.objectstore.errors import NotFoundError
from rindle.objectstore.memory import MemoryStore
from rindle.objectstore.types import Attributes, PutOptions
from rindle.recipes import HttpCache
from rindle.recipes.http_cache import Validator
from rindle.testing.faults import FaultyStore

VALIDATORS: tuple[Validator, ...] = ("e_tag", "last_modified")


@pytest.fixture
def in_memory() -> FaultyStore:
    return FaultyStore(MemoryStore())


@pytest.mark.parametrize("validator", VALIDATORS)
async def test_bytes_that_have_not_changed_are_not_fetched_again(faulty: FaultyStore, validator: Validator) -> None:
    await faulty.put("key", b"bytes", PutOptions(attributes=Attributes(content_type="text/plain")))
    cache = HttpCache(faulty, validator=validator)
    first, second = await cache.get("key"), await cache.get("key")
    assert (first.hit, second.hit) == (False, True)
    assert first.data == second.data == b"bytes"
    assert second.meta == await faulty.head("key")
    assert second.attributes.content_type == "text/plain"
    assert second.data is first.data
    assert faulty.calls["get"] == 2, "the store is asked every time"


async def test_bytes_that_have_changed_are_fetched(faulty: FaultyStore) -> None:
    cache = HttpCache(faulty)
    for data in (b"one", b"two", b"one"):
        await faulty.put("key", data)
        found = await cache.get("key")
        assert (found.data, found.hit) == (data, False)


async def test_what_is_gone_is_gone(faulty: FaultyStore) -> None:
    cache = HttpCache(faulty)
    await faulty.put("key", b"bytes")
    await cache.get("key")
    await faulty.delete("key")
    with pytest.raises(NotFoundError):
        await cache.get("key")
    assert (cache.stats.entries, cache.stats.size) == (0, 0)


async def test_it_counts(in_memory: FaultyStore) -> None:
    cache = HttpCache(in_memory)
    assert cache.stats.hit_rate == 0
    await in_memory.put("a", b"12")
    await in_memory.put("b", b"345")
    for key in ("a", "b", "a", "a"):
        await cache.get(key)
    stats = cache.stats
    assert (stats.hits, stats.misses, stats.hit_rate, stats.entries, stats.size) == (2, 2, 0.5, 2, 5)


async def test_what_one_invalidates_is_fetched(in_memory: FaultyStore) -> None:
    cache = HttpCache(in_memory)
    for key in ("a", "b"):
        await in_memory.put(key, b"bytes")
        await cache.get(key)
    cache.invalidate("a")
    cache.invalidate("never known")
    assert [(await cache.get(key)).hit for key in ("a", "b")] == [False, True]
    cache.clear()
    assert (cache.stats.entries, cache.stats.size, cache.stats.hits) == (0, 0, 1)
    assert [(await cache.get(key)).hit for key in ("a", "b")] == [False, False]


async def test_the_ones_used_last_are_kept(in_memory: FaultyStore) -> None:
    cache = HttpCache(in_memory, max_entries=2)
    for key in "abc":
        await in_memory.put(key, b"x")
    for key in "abac":  # the third one makes "a" newer than "b"
        await cache.get(key)
    assert cache.stats.entries == 2
    assert [(await cache.get(key)).hit for key in "acb"] == [True, True, False]


async def test_all_of_them_together_are_bounded(in_memory: FaultyStore) -> None:
    cache = HttpCache(in_memory, max_bytes=10)
    for key, size in (("a", 4), ("b", 4), ("c", 4), ("large", 11)):
        await in_memory.put(key, b"x" * size)
        assert len((await cache.get(key)).data) == size
    assert (cache.stats.entries, cache.stats.size) == (2, 8)
    assert [(await cache.get(key)).hit for key in ("b", "c", "a", "large")] == [True, True, False, False]


async def test_a_version_that_grew_too_large_is_not_kept_and_neither_is_the_old_one(in_memory: FaultyStore) -> None:
    cache = HttpCache(in_memory, max_bytes=10)
    await in_memory.put("key", b"x")
    await cache.get("key")
    await in_memory.put("key", b"x" * 11)
    assert len((await cache.get("key")).data) == 11
    assert (cache.stats.entries, cache.stats.size) == (0, 0)
