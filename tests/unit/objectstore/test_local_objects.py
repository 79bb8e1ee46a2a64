import asyncio
import gc
import json
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, suppress
from pathlib import Path

import pytest

from rindle.objectstore.errors import (
    AlreadyExistsError,
    InvalidKeyError,
    NotFoundError,
    ObjectStoreError,
    PreconditionFailedError,
    StoreUnavailableError,
)
from rindle.objectstore.ext import exists, read
from rindle.objectstore.local import LocalStore
from rindle.objectstore.types import Attributes, GetOptions, MultipartOptions, PutOptions, UpdateVersion
from rindle.testing.payloads import HeldPayload, UntouchablePayload

CREATE = PutOptions(mode="create")
NOTED = PutOptions(attributes=Attributes(content_type="text/plain"), tags={"a": "b"})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
async def store(root: Path) -> AsyncIterator[LocalStore]:
    async with LocalStore(root) as store:
        yield store


def place(path: Path, data: bytes) -> None:
    """Put a file there by hand."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def own_files(root: Path, folder: str) -> list[Path]:
    """What the store keeps for itself."""
    return [path for path in (root / ".rindle" / folder).rglob("*") if path.is_file()]


def all_files(root: Path) -> list[str]:
    """The objects as the file system has them."""
    found = (path.relative_to(root) for path in root.rglob("*"))
    return sorted(str(path) for path in found if path.parts[0] != ".rindle")


def permissions(path: Path) -> int:
    return path.stat().st_mode & 0o777


def open_descriptors() -> int:
    gc.collect()
    return len(list(Path("/dev/fd").iterdir()))


# Files


async def test_an_object_is_a_plain_file(store: LocalStore, root: Path) -> None:
    await store.put("a/b c.txt", b"bytes")
    assert all_files(root) == ["a", "a/b c.txt"]
    assert await asyncio.to_thread((root / "a/b c.txt").read_bytes) == b"bytes"


async def test_objects_have_the_usual_permissions_and_our_own_files_do_not(store: LocalStore, root: Path) -> None:
    umask = os.umask(0o022)
    try:
        await store.put("a/key", b"bytes", NOTED)
        ref = await store.create_multipart("a/other", MultipartOptions(part_size=10))
        await store.complete_multipart(ref, [await store.put_part(ref, 1, b"x")])
    finally:
        os.umask(umask)
    assert [permissions(root / key) for key in ("a/key", "a/other", "a")] == [0o644, 0o644, 0o755]
    assert permissions(root / ".rindle") == 0o700


async def test_reading_makes_no_directories(store: LocalStore, root: Path) -> None:
    assert not await exists(store, "key")
    assert [meta async for meta in store.list()] == []
    assert [multipart async for multipart in store.list_multiparts()] == []
    await store.delete("key")
    assert await store.sweep() == 0
    assert not await asyncio.to_thread(root.exists)


async def test_a_file_put_there_by_hand_is_an_object(store: LocalStore, root: Path) -> None:
    place(root / "a/by hand", b"bytes")
    async with await store.get("a/by hand") as result:
        assert (await result.read(), result.attributes) == (b"bytes", Attributes())
    await store.put_tags("a/by hand", {"now": "tagged"})
    assert await store.get_tags("a/by hand") == {"now": "tagged"}
    await store.delete("a/by hand")
    assert all_files(root) == []


async def test_what_lies_beside_an_object_does_not_fit_a_file_put_over_it_by_hand(
    store: LocalStore, root: Path
) -> None:
    before = await store.put("key", b"bytes", NOTED)
    place(root / "key", b"by hand")
    async with await store.get("key") as result:
        assert (await result.read(), result.attributes) == (b"by hand", Attributes())
        assert result.meta.e_tag != before.e_tag
    assert await store.get_tags("key") == {}


@pytest.mark.parametrize("kind", ["symlink", "fifo", "directory"])
async def test_what_is_no_regular_file_is_no_object(store: LocalStore, root: Path, kind: str) -> None:
    place(root / "target", b"bytes")
    make: dict[str, Callable[[], object]] = {
        "symlink": lambda: (root / "key").symlink_to(root / "target"),
        "fifo": lambda: os.mkfifo(root / "key"),
        "directory": (root / "key").mkdir,
    }
    make[kind]()
    with pytest.raises(NotFoundError):
        await store.get("key")
    with pytest.raises(NotFoundError):
        await store.head("key")
    await store.delete("key")
    assert [meta.key async for meta in store.list()] == ["target"]
    assert all_files(root) == ["key", "target"]


async def test_a_symlink_is_replaced_and_not_followed(store: LocalStore, root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"outside")
    place(root / "other", b"")
    (root / "key").symlink_to(outside)
    with pytest.raises(AlreadyExistsError):
        await store.put("key", b"new", CREATE)
    await store.put("key", b"new")
    assert await read(store, "key") == b"new"
    assert outside.read_bytes() == b"outside"


# Keys


@pytest.mark.parametrize("key", [".rindle", ".rindle/tmp/x", ".RINDLE/x", "x" * 256, "a/" + "é" * 128])
async def test_keys_that_are_no_path_here_are_refused(store: LocalStore, key: str) -> None:
    for attempt in (store.put(key, UntouchablePayload()), store.get(key), store.head(key), store.delete(key)):
        with pytest.raises(InvalidKeyError):
            await attempt


async def test_our_own_name_is_only_taken_at_the_top(store: LocalStore) -> None:
    for key in ("a/.rindle/key", ".rindled", ".rindl/e"):
        await store.put(key, b"")
        assert await exists(store, key)


async def test_one_bad_key_of_many_does_not_keep_the_others(store: LocalStore) -> None:
    await store.put("one", b"")
    await store.put("two", b"")
    results = await store.delete_many(["one", ".rindle/x", "y" * 256, "two"])
    assert [type(result.error) for result in results] == [type(None), InvalidKeyError, InvalidKeyError, type(None)]
    assert [meta async for meta in store.list()] == []


async def test_a_key_and_one_that_goes_on_from_it_cannot_both_be(store: LocalStore) -> None:
    options = MultipartOptions(part_size=10)
    waiting = await store.create_multipart("a/b", options)
    part = await store.put_part(waiting, 1, b"x")
    await store.put("a/b/c", b"below")
    await store.put("source", b"bytes")
    for attempt in (
        store.put("a/b", b"bytes", CREATE),
        store.put("a", b"bytes"),
        store.put("a/b/c/d", b"bytes"),
        store.put("a/b/c/d/e", b"bytes"),
        store.copy("source", "a/b"),
        store.copy("source", "a/b/c/d"),
        store.create_multipart("a", options),
        store.create_multipart("a/b/c/d", options),
        store.complete_multipart(waiting, [part]),
    ):
        with pytest.raises(InvalidKeyError, match=r"directory|go on from there"):
            await attempt
    assert await read(store, "a/b/c") == b"below"
    await store.delete("a/b/c")
    await store.complete_multipart(waiting, [part])
    assert await read(store, "a/b") == b"x"


# Versions


async def test_two_writes_never_share_an_e_tag_even_when_the_clock_stands(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 1_800_000_000_000_000_000)
    seen = set()
    for number in range(5):
        noted = PutOptions(attributes=Attributes(metadata={"number": str(number)}))
        seen.add((await store.put("key", b"same", noted)).e_tag)
        seen.add((await store.copy("key", "key")).e_tag)
        async with await store.get("key") as result:
            assert result.attributes == noted.attributes
    assert len(seen) == 10


async def test_the_time_of_a_write_is_in_nanoseconds(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: 1_800_000_000_123_456_789)
    result = await store.put("key", b"bytes")
    assert result.e_tag is not None
    assert result.e_tag.startswith(f"{1_800_000_000_123_456_789:x}-5-")
    assert (await store.head("key")).last_modified.microsecond == 123_456


async def test_a_write_that_is_refused_from_the_start_does_not_read_its_payload_to_the_end(store: LocalStore) -> None:
    await store.put("key", b"old")
    payload = HeldPayload(bytes(5 << 20), b"never asked for")
    with pytest.raises(AlreadyExistsError):
        await store.put("key", payload, CREATE)
    with pytest.raises(PreconditionFailedError):
        await store.put("key", payload, PutOptions(mode=UpdateVersion("other")))
    assert not payload.begun.is_set()


async def test_who_is_overtaken_while_creating_loses(store: LocalStore, root: Path) -> None:
    payload = HeldPayload(bytes(5 << 20), b"rest")
    late = asyncio.create_task(store.put("key", payload, CREATE))
    await payload.begun.wait()
    await store.put("key", b"first", CREATE)
    payload.go_on.set()
    with pytest.raises(AlreadyExistsError):
        await late
    assert await read(store, "key") == b"first"
    assert own_files(root, "tmp") == []


async def test_who_is_overtaken_while_updating_loses(store: LocalStore) -> None:
    before = await store.put("key", b"old")
    payload = HeldPayload(bytes(5 << 20), b"rest")
    late = asyncio.create_task(store.put("key", payload, PutOptions(mode=UpdateVersion(before.e_tag))))
    await payload.begun.wait()
    await store.put("key", b"first", PutOptions(mode=UpdateVersion(before.e_tag)))
    payload.go_on.set()
    with pytest.raises(PreconditionFailedError):
        await late
    assert await read(store, "key") == b"first"


async def test_a_file_that_comes_by_hand_in_the_last_moment_is_not_replaced_by_a_create(
    store: LocalStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def link_too_late(source: Path, target: Path) -> None:
        place(target, b"by hand")
        link(source, target)

    monkeypatch.setattr(os, "link", link_too_late)
    with pytest.raises(AlreadyExistsError):
        await store.put("key", b"new", PutOptions(mode="create", attributes=NOTED.attributes))
    ref = await store.create_multipart("other", MultipartOptions(part_size=10, tags=NOTED.tags))
    part = await store.put_part(ref, 1, b"x")
    with pytest.raises(AlreadyExistsError):
        await store.complete_multipart(ref, [part], mode="create")
    assert [await read(store, key) for key in ("key", "other")] == [b"by hand", b"by hand"]
    assert [own_files(root, folder) for folder in ("attributes", "tmp")] == [[], []]
    assert [part async for part in store.list_parts(ref)] == [part]


# What lies beside an object


async def test_nothing_is_kept_beside_an_object_that_has_nothing_to_say(store: LocalStore, root: Path) -> None:
    await store.put("key", b"bytes")
    assert own_files(root, "attributes") == []
    await store.put_tags("key", {"a": "b"})
    assert len(own_files(root, "attributes")) == 1
    await store.put_tags("key", {})
    assert own_files(root, "attributes") == []


async def test_what_lies_beside_goes_with_the_version_it_belongs_to(store: LocalStore, root: Path) -> None:
    for _ in range(3):
        await store.put("key", b"bytes", NOTED)
        assert len(own_files(root, "attributes")) == 1
    await store.put("key", b"bytes")
    assert own_files(root, "attributes") == []
    await store.put("key", b"bytes", NOTED)
    await store.copy("key", "other")
    assert len(own_files(root, "attributes")) == 2
    await store.delete("key")
    await store.delete_many(["other"])
    assert own_files(root, "attributes") == []


async def test_a_write_that_is_refused_leaves_nothing_beside(store: LocalStore, root: Path) -> None:
    place(root / "a", b"a file")
    (root / "key").symlink_to(root / "a")
    for key in ("key", "a/b"):
        options = PutOptions(mode="create", attributes=NOTED.attributes)
        with pytest.raises((AlreadyExistsError, InvalidKeyError)):
            await store.put(key, b"bytes", options)
    assert own_files(root, "attributes") == []
    assert own_files(root, "tmp") == []


async def test_a_bent_file_of_ours_is_an_error_and_not_no_attributes(store: LocalStore, root: Path) -> None:
    await store.put("key", b"bytes", NOTED)
    (sidecar,) = own_files(root, "attributes")
    content = json.loads(sidecar.read_text())
    assert (content["key"], content["tags"]) == ("key", {"a": "b"})
    place(sidecar, b'{"key": ')
    with pytest.raises(ObjectStoreError, match="cannot be read"):
        await store.get("key")


async def test_a_reader_never_sees_the_bytes_of_one_version_with_the_attributes_of_another(store: LocalStore) -> None:
    writing = True

    async def write(first: int) -> None:
        for number in range(first, first + 60):
            noted = Attributes(metadata={"number": str(number)}) if number % 3 else Attributes()
            tags = {"number": str(number)} if number % 3 else {}
            await store.put("key", str(number).encode() * 50, PutOptions(attributes=noted, tags=tags))

    async def watch() -> None:
        while writing:
            async with await store.get("key") as result:
                body = await result.read()
                number = result.attributes.metadata.get("number")
            if number is None:
                number = body[: len(body) // 50].decode()
                assert int(number) % 3 == 0
            assert body == number.encode() * 50

    await write(900)
    watchers = [asyncio.create_task(watch()) for _ in range(4)]
    await asyncio.gather(write(100), write(200))
    writing = False
    await asyncio.gather(*watchers)


# Directories come and go


async def test_a_delete_never_pulls_the_directory_from_under_a_put(store: LocalStore, root: Path) -> None:
    async def put_and_delete(name: str) -> None:
        for _ in range(25):
            await store.put(f"a/b/c/{name}", b"bytes")
            assert await read(store, f"a/b/c/{name}") == b"bytes"
            await store.delete(f"a/b/c/{name}")

    await asyncio.gather(*(put_and_delete(name) for name in "abcdefgh"))
    assert all_files(root) == []


async def test_the_root_stays_when_it_is_empty(store: LocalStore, root: Path) -> None:
    await store.put("key", b"")
    await store.delete("key")
    assert await asyncio.to_thread(root.is_dir)


# Streams and file descriptors


async def test_no_file_stays_open_after_a_read_however_it_ends(store: LocalStore) -> None:
    await store.put("key", bytes(3 << 20))
    await store.put("empty", b"")
    before = open_descriptors()
    await read(store, "key")
    await read(store, "empty")
    await read(store, "key", GetOptions(head=True))
    async with await store.get("key") as left_early:
        await anext(aiter(left_early))
    with pytest.raises(PreconditionFailedError):
        await store.get("key", GetOptions(if_match="other"))
    unread = await store.get("key")
    half_read = await store.get("key")
    await anext(aiter(half_read))
    assert open_descriptors() == before + 2
    del unread, half_read
    assert open_descriptors() == before


def turns() -> Iterator[int]:
    """How often to let others run before cancelling."""
    yield from range(40)


async def test_no_file_stays_open_after_a_call_that_was_cancelled(store: LocalStore, root: Path) -> None:
    await store.put("key", bytes(2 << 20), NOTED)
    ref = await store.create_multipart("multi", MultipartOptions(part_size=10))
    await store.put_part(ref, 1, b"x")
    before = open_descriptors()
    for number in turns():
        for call in (
            read(store, "key"),
            store.put("other", b"bytes", NOTED),
            store.copy("key", "copied"),
            store.put_part(ref, 2, b"part"),
            store.get_tags("key"),
        ):
            task = asyncio.ensure_future(call)
            for _ in range(number):
                await asyncio.sleep(0)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            del task
    await asyncio.sleep(0)
    assert open_descriptors() == before
    assert own_files(root, "tmp") == []
    await store.put_part(ref, 2, b"part")


async def test_closing_waits_for_the_read_that_is_under_way(store: LocalStore) -> None:
    data = os.urandom(4 << 20)
    await store.put("key", data)
    for number in range(10):
        result = await store.get("key")
        reading = asyncio.ensure_future(anext(aiter(result)))
        for _ in range(number):
            await asyncio.sleep(0)
        await result.aclose()
        with suppress(StopAsyncIteration):
            assert await reading == data[: 1 << 20]


async def test_two_who_share_a_stream_get_each_block_once(store: LocalStore) -> None:
    data = os.urandom(5 << 20)
    await store.put("key", data)
    result = await store.get("key")
    blocks = await asyncio.gather(*(anext(aiter(result)) for _ in range(5)))
    assert b"".join(blocks) == data
    with pytest.raises(StopAsyncIteration):
        await anext(aiter(result))


async def test_an_object_that_is_cut_by_hand_while_it_is_read_is_an_error(store: LocalStore, root: Path) -> None:
    await store.put("key", bytes(3 << 20))
    async with await store.get("key") as result:
        await anext(aiter(result))
        os.truncate(root / "key", 1 << 20)
        with pytest.raises(StoreUnavailableError, match="was cut while it was read"):
            await anext(aiter(result))


async def test_a_large_object_is_copied_whole(store: LocalStore) -> None:
    data = os.urandom(9 << 20)
    await store.put("key", data)
    await store.copy("key", "copied")
    assert await read(store, "copied") == data


# Sweeping


async def test_a_sweep_leaves_alone_what_is_being_written(store: LocalStore, root: Path) -> None:
    payload = HeldPayload(bytes(5 << 20), b"rest")
    writing = asyncio.create_task(store.put("key", payload))
    await payload.begun.wait()
    assert len(own_files(root, "tmp")) == 1
    async with LocalStore(root) as other:
        assert await other.sweep() == 0
    payload.go_on.set()
    await writing
    assert (await store.head("key")).size == (5 << 20) + 4


async def test_a_sweep_removes_what_nobody_writes_any_more(store: LocalStore, root: Path) -> None:
    await store.put("key", b"bytes")
    place(root / ".rindle/tmp/dead", b"half an obj")
    place(root / ".rindle/tmp/removed multipart/data", b"")
    place(root / ".rindle/tmp/removed multipart/index", b"")
    assert await store.sweep() == 2
    assert await store.sweep() == 0
    assert own_files(root, "tmp") == []
    assert await read(store, "key") == b"bytes"


async def test_listing_a_stream_may_be_left_early(store: LocalStore) -> None:
    ref = await store.create_multipart("key", MultipartOptions(part_size=10))
    for number in range(1, 4):
        await store.put_part(ref, number, b"x")
    before = open_descriptors()
    listing = store.list_parts(ref)
    assert (await anext(aiter(listing))).part_number == 1
    async with aclosing(listing):  # type: ignore[type-var]
        pass
    assert open_descriptors() == before
