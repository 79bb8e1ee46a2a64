import pytest

from rindle.objectstore.errors import InvalidPartError, MultipartNotFoundError
from rindle.objectstore.ext import read
from rindle.objectstore.memory import MemoryStore
from rindle.objectstore.types import PartLimits


async def test_the_same_bytes_written_twice_are_two_versions() -> None:
    store = MemoryStore()
    tags = {(await store.put("key", b"same")).e_tag for _ in range(5)}
    tags |= {(await store.copy("key", "key")).e_tag for _ in range(5)}
    assert len(tags) == 10


async def test_a_multipart_is_completed_once() -> None:
    store = MemoryStore()
    ref = await store.create_multipart("key")
    part = await store.put_part(ref, 1, b"bytes")
    await store.complete_multipart(ref, [part])
    with pytest.raises(MultipartNotFoundError):
        await store.complete_multipart(ref, [part])


async def test_an_object_is_no_larger_than_the_largest() -> None:
    store = MemoryStore(PartLimits(min_size=1, max_size=10, max_count=10, max_object_size=15))
    ref = await store.create_multipart("key")
    parts = [await store.put_part(ref, number, b"x" * 8) for number in (1, 2)]
    with pytest.raises(InvalidPartError, match="at most 15 bytes"):
        await store.complete_multipart(ref, parts)
    await store.complete_multipart(ref, parts[:1])


async def test_a_part_may_be_empty_when_it_is_the_last() -> None:
    store = MemoryStore()
    ref = await store.create_multipart("key")
    await store.complete_multipart(ref, [await store.put_part(ref, 1, b"")])
    assert await read(store, "key") == b""
