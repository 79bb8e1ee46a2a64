"""A disk that is full or may not be written, as a small file system of its own; needs the right to mount."""

import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from rindle.objectstore.errors import PermissionDeniedError, StoreFullError
from rindle.objectstore.ext import read
from rindle.objectstore.local import LocalStore
from rindle.objectstore.types import Attributes, MultipartOptions, PutOptions
from tests.required import missing

SIZE = 4 << 20


def mount(*args: str | Path) -> bool:
    """Whether the mount was allowed."""
    return subprocess.run(["/bin/mount", *args], check=False, capture_output=True).returncode == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    if not mount("-t", "tmpfs", "-o", f"size={SIZE}", "rindle-test", disk):
        missing("tmpfs", "a file system of a few MiB cannot be mounted here: a full disk stays untested")
    yield disk
    subprocess.run(["/bin/umount", disk], check=True)


@pytest.fixture
async def store(small_disk: Path) -> AsyncIterator[LocalStore]:
    async with LocalStore(small_disk) as store:
        yield store


def own_files(root: Path) -> list[Path]:
    return list((root / ".rindle/tmp").iterdir())


async def test_a_write_that_fills_the_disk_is_removed_again(store: LocalStore, small_disk: Path) -> None:
    await store.put("key", b"old", PutOptions(tags={"is": "old"}))
    noted = PutOptions(attributes=Attributes(content_type="new"))
    for key in ("key", "a/b/new"):
        with pytest.raises(StoreFullError):
            await store.put(key, bytes(SIZE), noted)
    assert await read(store, "key") == b"old"
    assert await store.get_tags("key") == {"is": "old"}
    assert own_files(small_disk) == []
    await store.put("key", bytes(SIZE // 2))


async def test_a_copy_that_fills_the_disk_is_removed_again(store: LocalStore, small_disk: Path) -> None:
    await store.put("source", bytes(SIZE * 2 // 3))
    with pytest.raises(StoreFullError):
        await store.copy("source", "key")
    assert [meta.key async for meta in store.list()] == ["source"]
    assert own_files(small_disk) == []


async def test_a_part_that_fills_the_disk_is_absent_and_can_be_put_when_there_is_room(store: LocalStore) -> None:
    await store.put("large", bytes(SIZE // 2))
    ref = await store.create_multipart("key", MultipartOptions(part_size=SIZE * 3 // 4))
    with pytest.raises(StoreFullError):
        await store.put_part(ref, 1, b"x" * (SIZE * 3 // 4))
    assert [part async for part in store.list_parts(ref)] == []
    await store.delete("large")
    part = await store.put_part(ref, 1, b"x" * (SIZE * 3 // 4))
    await store.complete_multipart(ref, [part])
    assert await read(store, "key") == b"x" * (SIZE * 3 // 4)


async def test_a_disk_that_may_not_be_written_can_still_be_read(store: LocalStore, small_disk: Path) -> None:
    await store.put("key", b"bytes")
    ref = await store.create_multipart("other", MultipartOptions(part_size=10))
    assert mount("-o", "remount,ro", small_disk)
    for attempt in (
        store.put("key", b"new"),
        store.delete("key"),
        store.copy("key", "other"),
        store.put_tags("key", {"a": "b"}),
        store.create_multipart("other", MultipartOptions(part_size=10)),
        store.put_part(ref, 1, b"part"),
    ):
        with pytest.raises(PermissionDeniedError):
            await attempt
    (result,) = await store.delete_many(["key"])
    assert isinstance(result.error, PermissionDeniedError)
    assert await read(store, "key") == b"bytes"
    assert [meta.key async for meta in store.list()] == ["key"]
