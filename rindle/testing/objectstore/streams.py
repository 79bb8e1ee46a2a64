"""The part of the contract of :class:`ObjectStore` that is about bodies, streams and what is made of few methods."""

import asyncio
import io
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from rindle.objectstore.base import MultipartStore, ObjectStore
from rindle.objectstore.bodies import Body
from rindle.objectstore.errors import (
    AlreadyExistsError,
    InvalidRangeError,
    NotFoundError,
    PreconditionFailedError,
    UnsupportedOperationError,
)
from rindle.objectstore.ext import download, exists, get_ranges, read, rename, rename_if_not_exists
from rindle.objectstore.payload import BytesPayload
from rindle.objectstore.types import Attributes, ByteRange, GetOptions, PutMode, PutOptions, UpdateVersion
from rindle.testing.objectstore.helpers import ATTRIBUTES, LARGE, TAGS, list_keys, undeclared
from rindle.testing.payloads import SourceFailedError

DATA = b"some bytes, and more"


def _cut(data: bytes, size: int = 7) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def _cut_asynchronously(data: bytes) -> AsyncIterator[bytes]:
    for chunk in _cut(data):
        yield chunk


BODIES: dict[str, Callable[[Path], Body]] = {
    "bytes": lambda _: DATA,
    "bytearray": lambda _: bytearray(DATA),
    "memoryview": lambda _: memoryview(DATA),
    "payload": lambda _: BytesPayload(DATA[:3], DATA[3:]),
    "path": lambda path: path,
    "file": lambda path: path.open("rb"),
    "file in memory": lambda _: io.BytesIO(DATA),
    "list": lambda _: [DATA[:5], b"", DATA[5:]],
    "iterator": lambda _: _cut(DATA),
    "iterator of buffers": lambda _: map(bytearray, _cut(DATA)),
    "async iterator": lambda _: _cut_asynchronously(DATA),
}


class StreamsContract:
    """Included in :class:`ObjectStoreContract`."""

    @staticmethod
    def cut_small(store: ObjectStore, mode: PutMode = "overwrite") -> PutOptions:
        """Options under which a stream soon goes in parts."""
        small = store.part_limits.min_size if isinstance(store, MultipartStore) else 1
        return PutOptions(mode=mode, part_size=max(small, 1000))

    def several_parts(self, store: ObjectStore) -> bytes:
        """More bytes than fit into two such parts."""
        size = self.cut_small(store).part_size
        assert size is not None
        return bytes(number % 251 for number in range(1000)) * (size * 5 // 2000)

    # Bodies

    @pytest.mark.parametrize("kind", BODIES)
    async def test_a_body_may_be_given_in_many_ways(self, store: ObjectStore, kind: str, tmp_path: Path) -> None:
        path = tmp_path / "body"
        path.write_bytes(DATA)
        body = BODIES[kind](path)
        await store.put("key", body)
        assert await read(store, "key") == DATA
        if isinstance(body, io.IOBase):
            body.close()

    async def test_a_stream_is_put_in_parts_or_refused(self, store: ObjectStore) -> None:
        data = self.several_parts(store)
        options = self.cut_small(store)
        if not isinstance(store, MultipartStore):
            with pytest.raises(UnsupportedOperationError):
                await store.put("key", _cut(data, 999), options)
            assert not await exists(store, "key")
            return
        result = await store.put("key", _cut(data, 999), options)
        assert await read(store, "key", GetOptions(if_match=result.e_tag)) == data

    async def test_a_stream_has_attributes_and_tags(self, store: ObjectStore) -> None:
        capabilities = store.capabilities
        attributes = ATTRIBUTES if capabilities.attributes else Attributes()
        tags = TAGS if capabilities.tags else {}
        await store.put("key", _cut(DATA), PutOptions(attributes=attributes, tags=tags))
        async with await store.get("key") as result:
            assert result.attributes == attributes
        if capabilities.tags:
            assert await store.get_tags("key") == tags

    @pytest.mark.parametrize("chunks", [0, 1, 5])
    async def test_a_stream_that_raises_leaves_what_was_there(self, store: ObjectStore, chunks: int) -> None:
        """Before the first byte, within the first part, and after some."""
        await store.put("key", b"old")
        half = len(self.several_parts(store)) // 5

        def source() -> Iterator[bytes]:
            for _ in range(chunks):
                yield bytes(half)
            raise SourceFailedError

        refused = chunks > 1 and not isinstance(store, MultipartStore)
        with pytest.raises(UnsupportedOperationError if refused else SourceFailedError):
            await store.put("key", source(), self.cut_small(store))
        assert await read(store, "key") == b"old"
        await self.assert_tidy(store)

    async def test_a_stream_that_is_cancelled_leaves_what_was_there(self, store: ObjectStore) -> None:
        if not isinstance(store, MultipartStore):
            return
        data = self.several_parts(store)
        waiting = asyncio.Event()

        async def source() -> AsyncIterator[bytes]:
            yield data
            waiting.set()
            await asyncio.Event().wait()

        await store.put("key", b"old")
        putting = asyncio.create_task(store.put("key", source(), self.cut_small(store)))
        await waiting.wait()
        putting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await putting
        assert await read(store, "key") == b"old"
        await self.assert_tidy(store)

    @staticmethod
    async def assert_tidy(store: ObjectStore) -> None:
        """Nothing is left but the object."""
        assert await list_keys(store) == ["key"]
        if isinstance(store, MultipartStore) and store.capabilities.list_multiparts:
            assert [multipart async for multipart in store.list_multiparts()] == []

    async def test_a_stream_that_creates_leaves_what_is_there(self, store: ObjectStore) -> None:
        """Whether it is one write or goes in parts; or it is refused, and there is nothing."""
        if not store.capabilities.put_create:
            return
        await store.put("short", _cut(DATA), self.cut_small(store, "create"))
        with pytest.raises(AlreadyExistsError):
            await store.put("short", _cut(DATA[::-1]), self.cut_small(store, "create"))
        assert await read(store, "short") == DATA
        await store.delete("short")
        data = self.several_parts(store)
        create = self.cut_small(store, "create")
        if await undeclared(store.capabilities.complete_create, lambda: store.put("key", _cut(data, 999), create)):
            assert not await exists(store, "key")
            return
        await store.put("key", _cut(data, 999), create)
        with pytest.raises(AlreadyExistsError):
            await store.put("key", _cut(data[::-1], 999), create)
        assert await read(store, "key") == data
        await self.assert_tidy(store)

    async def test_a_stream_that_updates_is_one_write_or_refused(self, store: ObjectStore) -> None:
        if not store.capabilities.put_update:
            return
        first = await store.put("key", b"old")
        mode = UpdateVersion(first.e_tag, first.version)
        with pytest.raises(UnsupportedOperationError):
            await store.put("key", _cut(self.several_parts(store), 999), self.cut_small(store, mode))
        await store.put("key", _cut(DATA), self.cut_small(store, mode))
        with pytest.raises(PreconditionFailedError):
            await store.put("key", _cut(b"newer"), self.cut_small(store, mode))
        assert await read(store, "key") == DATA
        await self.assert_tidy(store)

    # Downloads, ranges and renames

    async def test_an_object_is_downloaded_to_a_file(self, store: ObjectStore, tmp_path: Path) -> None:
        data = bytes(range(256)) * (LARGE // 256)
        await store.put("key", data)
        path = tmp_path / "made" / "file"
        meta = await download(store, "key", path)
        assert (path.read_bytes(), meta.size) == (data, len(data))
        await download(store, "key", path, GetOptions(range=ByteRange(5, 9)))
        assert path.read_bytes() == data[5:9]
        with pytest.raises(NotFoundError):
            await download(store, "another", path)
        assert [file.name for file in path.parent.iterdir()] == ["file"]

    async def test_ranges_come_in_the_order_asked_for(self, store: ObjectStore) -> None:
        data = bytes(number % 251 for number in range(10_000))
        await store.put("key", data)
        ranges = [ByteRange(5000, 5010), ByteRange(3, 4), ByteRange(9_990), ByteRange(0, 8), ByteRange(9_995, 99_999)]
        expected = [data[wanted.start : wanted.end] for wanted in ranges]
        for near in (0, 100_000):
            assert await get_ranges(store, "key", ranges, near=near) == expected
            with pytest.raises(InvalidRangeError):
                await get_ranges(store, "key", [ByteRange(0, 1), ByteRange(10_000, 10_001)], near=near)

    async def test_a_rename_moves_an_object(self, store: ObjectStore) -> None:
        await store.put("source", b"bytes")
        await store.put("target", b"old")
        result = await rename(store, "source", "target")
        assert await read(store, "target", GetOptions(if_match=result.e_tag)) == b"bytes"
        assert await list_keys(store) == ["target"]
        with pytest.raises(NotFoundError):
            await rename(store, "source", "target")
        assert await read(store, "target") == b"bytes"

    async def test_a_rename_that_creates_leaves_both_where_the_target_is_taken(self, store: ObjectStore) -> None:
        await store.put("source", b"bytes")
        create = store.capabilities.copy_create
        if await undeclared(create, lambda: rename_if_not_exists(store, "source", "target")):
            assert await list_keys(store) == ["source"]
            return
        await store.put("target", b"old")
        with pytest.raises(AlreadyExistsError):
            await rename_if_not_exists(store, "source", "target")
        assert [await read(store, "source"), await read(store, "target")] == [b"bytes", b"old"]
        await rename_if_not_exists(store, "source", "other")
        assert await list_keys(store) == ["other", "target"]
        assert await read(store, "other") == b"bytes"
