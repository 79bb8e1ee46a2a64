import asyncio
import gzip
import io
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiofiles
import pytest
from typing_extensions import override

from rindle.objectstore.base import ObjectStore
from rindle.objectstore.errors import InvalidPartError, NotFoundError, StoreUnavailableError, UnsupportedOperationError
from rindle.objectstore.ext import download, exists, read
from rindle.objectstore.memory import ANY_PARTS, MemoryStore
from rindle.objectstore.result import GetResult
from rindle.objectstore.types import Capabilities, GetOptions, PartLimits, PutOptions, UpdateVersion
from rindle.testing.faults import FaultyStore

DATA = bytes(number % 251 for number in range(10_000))


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore(MemoryStore())


# What is no body, or no longer one


@pytest.mark.parametrize(
    ("body", "mend"),
    [
        ("text", "encode it"),
        (None, "NoneType; give bytes, a path"),
        (5, "int; give bytes, a path"),
        (["text"], "not of str"),
        ([1], "not of int"),
        (io.StringIO("text"), "not of str"),
    ],
)
async def test_what_is_no_body_is_told_what_would_be(store: FaultyStore, body: Any, mend: str) -> None:
    with pytest.raises(TypeError, match=mend):
        await store.put("key", body)
    assert store.calls == {}


async def test_a_file_that_is_not_there_is_said_to_be_so(store: FaultyStore, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="absent"):
        await store.put("key", tmp_path / "absent")
    assert not await exists(store, "key")


async def test_what_changes_after_it_was_given_is_not_what_is_written(store: FaultyStore) -> None:
    buffer = bytearray(b"as given")

    async def change(_operation: str, _key: str) -> None:
        buffer[:] = b"changed!"

    store.before = change
    await store.put("key", buffer)
    assert await read(store.inner, "key") == b"as given"


# Files


async def test_a_file_is_read_from_where_it_stands(store: FaultyStore) -> None:
    file = io.BytesIO(DATA)
    file.seek(5000)
    await store.put("key", file)
    assert await read(store, "key") == DATA[5000:]
    assert not file.closed


async def test_a_file_may_have_no_size_and_no_way_back(store: FaultyStore, tmp_path: Path) -> None:
    with gzip.open(tmp_path / "packed", "wb") as packed:
        packed.write(DATA)
    with gzip.open(tmp_path / "packed") as unpacked:
        await store.put("unpacked", unpacked)
    reading, writing = os.pipe()
    os.write(writing, DATA)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        await store.put("pipe", pipe)
    async with aiofiles.open(tmp_path / "packed", "rb") as packed_file:
        await store.put("packed", packed_file)
    assert await read(store, "unpacked") == await read(store, "pipe") == DATA
    assert await read(store, "packed") == (tmp_path / "packed").read_bytes()


async def test_a_file_that_waits_does_not_hold_up_others(store: FaultyStore) -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as pipe:
        putting = asyncio.create_task(store.put("key", pipe))
        await store.put("other", b"meanwhile")
        os.write(writing, b"bytes")
        os.close(writing)
        await putting
    assert await read(store, "key") == b"bytes"


async def test_an_object_of_one_store_is_a_body_for_another(store: FaultyStore) -> None:
    other = MemoryStore()
    await other.put("source", DATA)
    await store.put("target", await other.get("source"))
    assert await read(store, "target") == DATA


@pytest.fixture
def large_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is a large file."""
    monkeypatch.setattr("rindle.objectstore.base.LARGE_FILE", 5000)


async def test_a_large_file_goes_in_parts_that_are_not_in_memory(
    store: FaultyStore, large_files: None, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_bytes(DATA)
    await store.put("key", path, PutOptions(part_size=3000))
    assert await read(store, "key") == DATA
    assert store.calls["put_part"] == 4
    await store.put("key", path, PutOptions(mode=UpdateVersion((await store.head("key")).e_tag), part_size=3000))
    assert store.calls["put"] == 1  # for only one write can be an update


async def test_a_large_file_is_one_write_where_parts_cannot_create(
    store: FaultyStore, large_files: None, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_bytes(DATA)
    store.capabilities = Capabilities(put_create=True, part_limits=ANY_PARTS)
    await store.put("key", path, PutOptions(mode="create"))
    assert store.calls == {"put": 1}


async def test_a_large_file_is_one_write_where_parts_have_no_tags(large_files: None, tmp_path: Path) -> None:
    store = FaultyStore(MemoryStore(replace(ANY_PARTS, tags=False)))
    path = tmp_path / "file"
    path.write_bytes(DATA)
    await store.put("key", path, PutOptions(tags={"a": "b"}))
    assert store.calls == {"put": 1}
    await store.put("key", path)
    assert store.calls["complete_multipart"] == 1


async def test_parts_grow_with_a_file_so_that_they_suffice(large_files: None, tmp_path: Path) -> None:
    limits = PartLimits(min_size=1, max_size=9000, max_count=3, max_object_size=10**6, uniform=True)
    store = FaultyStore(MemoryStore(limits))
    path = tmp_path / "file"
    path.write_bytes(DATA)
    # 8 MiB are more than this store takes, and one part would do; so let the size of parts be small.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rindle.objectstore.base.PART_SIZE", 100)
        await store.put("key", path)
    assert await read(store, "key") == DATA
    assert store.calls["put_part"] == 3


# Streams


async def test_the_size_of_parts_fits_the_store() -> None:
    limits = PartLimits(min_size=1, max_size=3000, max_count=100, max_object_size=10**6)
    store = FaultyStore(MemoryStore(limits))
    await store.put("key", [DATA])
    assert await read(store, "key") == DATA
    assert store.calls["put_part"] == 4
    with pytest.raises(InvalidPartError):
        await store.put("key", [DATA], PutOptions(part_size=3001))


def test_options_for_parts_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one byte"):
        PutOptions(part_size=0)
    with pytest.raises(ValueError, match="one is under way"):
        PutOptions(parts_in_flight=0)


async def test_a_part_is_of_a_known_size(store: FaultyStore, tmp_path: Path) -> None:
    ref = await store.create_multipart("key")
    body: Any = [b"bytes"]
    with pytest.raises(TypeError, match="must be known: give bytes or a path, not list"):
        await store.put_part(ref, 1, body)
    path = tmp_path / "part"
    path.write_bytes(DATA)
    parts = [await store.put_part(ref, 1, path), await store.put_part(ref, 2, memoryview(b"more"))]
    await store.complete_multipart(ref, parts)
    assert await read(store, "key") == DATA + b"more"


async def test_a_multipart_block_completes_or_is_aborted(store: FaultyStore) -> None:
    async with store.multipart("key") as ref:
        await store.complete_multipart(ref, [await store.put_part(ref, 1, b"bytes")])
    assert await read(store, "key") == b"bytes"
    with pytest.raises(ZeroDivisionError):
        async with store.multipart("key") as ref:
            raise ZeroDivisionError
    assert [multipart async for multipart in store.list_multiparts()] == []


async def test_a_store_that_is_read_only_refuses_before_it_looks_at_the_body(store: FaultyStore) -> None:
    store.capabilities = Capabilities(write=False, part_limits=ANY_PARTS)
    with pytest.raises(UnsupportedOperationError, match="read-only"):
        await store.put("key", Path("/absent"))


# Downloads


class ShortStore(MemoryStore):
    """Gives fewer bytes than it says."""

    @override
    async def _get(self, key: str, options: GetOptions) -> GetResult:
        result = await super()._get(key, options)
        return GetResult(meta=result.meta, stream=_first(result))


async def _first(result: GetResult) -> AsyncIterator[bytes]:
    async for chunk in result:
        yield chunk[:100]
        break


async def test_a_download_that_comes_short_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    store: ObjectStore = ShortStore()
    await store.put("key", DATA)
    with pytest.raises(StoreUnavailableError, match="gave 100 bytes and had said 10000"):
        await download(store, "key", path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


async def test_a_download_has_its_name_when_it_is_whole(store: FaultyStore, tmp_path: Path) -> None:
    await store.put("key", DATA)
    path = tmp_path / ("x" * 250)
    with pytest.raises(NotFoundError):
        await download(store, "absent", path)
    assert list(tmp_path.iterdir()) == []
    await download(store, "key", path)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
