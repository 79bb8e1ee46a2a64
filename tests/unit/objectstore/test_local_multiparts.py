import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rindle.objectstore.errors import (
    AlreadyExistsError,
    InvalidPartError,
    MultipartNotFoundError,
    PreconditionFailedError,
    StoreUnavailableError,
)
from rindle.objectstore.ext import exists, read
from rindle.objectstore.local import LocalStore
from rindle.objectstore.types import Attributes, GetOptions, MultipartOptions, MultipartRef, PartMeta, PutOptions
from rindle.testing.payloads import HeldPayload

SIZE = 1000
OPTIONS = MultipartOptions(part_size=SIZE)
SLOT = 64


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
async def store(root: Path) -> AsyncIterator[LocalStore]:
    async with LocalStore(root) as store:
        yield store


def staging(root: Path, ref: MultipartRef) -> Path:
    return root / ".rindle/staging" / ref.multipart_id


def own_files(root: Path, folder: str) -> list[str]:
    found = root / ".rindle" / folder
    return sorted(str(path.relative_to(found)) for path in found.rglob("*"))


def overwrite(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def inode(path: Path) -> int:
    return path.stat().st_ino


async def list_parts(store: LocalStore, ref: MultipartRef) -> list[PartMeta]:
    return [part async for part in store.list_parts(ref)]


async def unfinished(store: LocalStore) -> list[MultipartRef]:
    return [multipart.ref async for multipart in store.list_multiparts()]


# Completion


@pytest.mark.parametrize("mode", ["overwrite", "create"])
async def test_completion_moves_the_data_and_copies_nothing(store: LocalStore, root: Path, mode: str) -> None:
    ref = await store.create_multipart("a/key", OPTIONS)
    parts = [await store.put_part(ref, 1, b"x" * SIZE), await store.put_part(ref, 2, b"y")]
    data = inode(staging(root, ref) / "data")
    await store.complete_multipart(ref, parts, mode="create" if mode == "create" else "overwrite")
    assert inode(root / "a/key") == data
    assert (own_files(root, "staging"), own_files(root, "tmp")) == ([], [])
    with pytest.raises(MultipartNotFoundError):
        await store.complete_multipart(ref, parts)


async def test_the_data_is_cut_to_the_parts_that_were_named(store: LocalStore) -> None:
    ref = await store.create_multipart("key", OPTIONS)
    first = await store.put_part(ref, 1, b"a" * SIZE)
    await store.put_part(ref, 2, b"b" * SIZE)
    await store.put_part(ref, 7, b"c" * SIZE)
    second = await store.put_part(ref, 2, b"short")
    await store.complete_multipart(ref, [first, second])
    assert await read(store, "key") == b"a" * SIZE + b"short"


async def test_a_refused_completion_drops_no_part(store: LocalStore) -> None:
    ref = await store.create_multipart("key", OPTIONS)
    parts = [await store.put_part(ref, number, b"x" * SIZE) for number in (1, 2, 3)]
    await store.put("key", b"old")
    with pytest.raises(AlreadyExistsError):
        await store.complete_multipart(ref, parts[:1], mode="create")
    with pytest.raises(InvalidPartError):
        await store.complete_multipart(ref, [parts[1], parts[2]])
    assert await list_parts(store, ref) == parts
    await store.complete_multipart(ref, parts)
    assert (await store.head("key")).size == 3 * SIZE


async def test_a_completed_object_has_a_version_of_its_own(store: LocalStore) -> None:
    tags = set()
    for _ in range(4):
        ref = await store.create_multipart("key", OPTIONS)
        tags.add((await store.complete_multipart(ref, [await store.put_part(ref, 1, b"same")])).e_tag)
        tags.add((await store.put("key", b"same")).e_tag)
    assert len(tags) == 8
    assert (await store.head("key")).e_tag in tags


async def test_an_empty_part_makes_an_empty_object(store: LocalStore) -> None:
    ref = await store.create_multipart("key", OPTIONS)
    await store.complete_multipart(ref, [await store.put_part(ref, 1, b"")])
    assert await read(store, "key") == b""


async def test_the_largest_part_of_the_highest_number_has_an_offset() -> None:
    limits = LocalStore(Path("unused")).part_limits
    assert limits.max_count * limits.max_size <= limits.max_object_size


# What a crash or a hand may leave of the index


@pytest.mark.parametrize("offset", [0, 8, 16, 31, 32, 63])
async def test_a_torn_slot_is_an_absent_part(store: LocalStore, root: Path, offset: int) -> None:
    ref = await store.create_multipart("key", OPTIONS)
    parts = [await store.put_part(ref, number, b"x" * SIZE) for number in (1, 2, 3)]
    index = staging(root, ref) / "index"
    torn = (index.read_bytes()[SLOT + offset]) ^ 0xFF
    overwrite(index, SLOT + offset, bytes([torn]))
    assert await list_parts(store, ref) == [parts[0], parts[2]]
    with pytest.raises(InvalidPartError):
        await store.complete_multipart(ref, parts)
    parts[1] = await store.put_part(ref, 2, b"y" * SIZE)
    await store.complete_multipart(ref, parts)
    assert await read(store, "key") == b"x" * SIZE + b"y" * SIZE + b"x" * SIZE


async def test_a_slot_that_was_cut_off_is_an_absent_part(store: LocalStore, root: Path) -> None:
    ref = await store.create_multipart("key", OPTIONS)
    parts = [await store.put_part(ref, number, b"x" * SIZE) for number in (1, 2)]
    os.truncate(staging(root, ref) / "index", SLOT + SLOT // 2)
    assert await list_parts(store, ref) == parts[:1]
    with pytest.raises(InvalidPartError):
        await store.complete_multipart(ref, parts)


async def test_a_slot_in_the_place_of_another_is_an_absent_part(store: LocalStore, root: Path) -> None:
    ref = await store.create_multipart("key", OPTIONS)
    first = await store.put_part(ref, 1, b"x" * SIZE)
    index = staging(root, ref) / "index"
    overwrite(index, SLOT, index.read_bytes()[:SLOT])
    assert await list_parts(store, ref) == [first]


async def test_parts_far_apart_are_found(store: LocalStore) -> None:
    ref = await store.create_multipart("key", OPTIONS)
    put = [await store.put_part(ref, number, b"x") for number in (1, 1024, 1025, 2049, 999_999, 1_000_000)]
    assert await list_parts(store, ref) == put


# Attempts at the same part, and at the same multipart


async def begin_part(store: LocalStore, ref: MultipartRef, number: int) -> tuple[HeldPayload, asyncio.Task[PartMeta]]:
    """An attempt that has written half of the part and waits."""
    payload = HeldPayload(b"h" * (SIZE // 2), b"H" * (SIZE // 2))
    task = asyncio.create_task(store.put_part(ref, number, payload))
    await payload.begun.wait()
    return payload, task


async def test_a_part_is_put_by_one_at_a_time(store: LocalStore, root: Path) -> None:
    ref = await store.create_multipart("key", OPTIONS)
    payload, putting = await begin_part(store, ref, 1)
    async with LocalStore(root) as other:
        for busy in (store, other):
            with pytest.raises(StoreUnavailableError, match="part 1 is being put by somebody else"):
                await busy.put_part(ref, 1, b"x" * SIZE)
        second = await other.put_part(ref, 2, b"another part")
    payload.go_on.set()
    await store.complete_multipart(ref, [await putting, second])
    assert await read(store, "key") == b"h" * 500 + b"H" * 500 + b"another part"


async def test_a_part_is_free_again_after_an_attempt_was_cancelled(store: LocalStore, root: Path) -> None:
    ref = await store.create_multipart("key", OPTIONS)
    _, putting = await begin_part(store, ref, 1)
    putting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await putting
    part = await store.put_part(ref, 1, b"x" * SIZE)
    assert await list_parts(store, ref) == [part]
    assert own_files(root, "staging") == [
        ref.multipart_id,
        *(f"{ref.multipart_id}/{name}" for name in ("data", "index", "meta.json")),
    ]


async def test_a_part_is_absent_while_it_is_put_again(store: LocalStore) -> None:
    ref = await store.create_multipart("key", OPTIONS)
    before = await store.put_part(ref, 1, b"x" * SIZE)
    payload, putting = await begin_part(store, ref, 1)
    assert await list_parts(store, ref) == []
    payload.go_on.set()
    after = await putting
    assert await list_parts(store, ref) == [after]
    with pytest.raises(InvalidPartError):
        await store.complete_multipart(ref, [before])


async def test_a_multipart_is_not_completed_while_a_part_is_put(store: LocalStore, root: Path) -> None:
    ref = await store.create_multipart("key", OPTIONS)
    first = await store.put_part(ref, 1, b"x" * SIZE)
    payload, putting = await begin_part(store, ref, 2)
    async with LocalStore(root) as other:
        for busy in (store, other):
            with pytest.raises(StoreUnavailableError, match="is being put"):
                await busy.complete_multipart(ref, [first])
    assert not await exists(store, "key")
    payload.go_on.set()
    await store.complete_multipart(ref, [first, await putting])


async def test_a_part_put_into_a_multipart_that_is_aborted_meanwhile_is_not_acknowledged(
    store: LocalStore, root: Path
) -> None:
    ref = await store.create_multipart("key", OPTIONS)
    payload, putting = await begin_part(store, ref, 1)
    await store.abort_multipart(ref)
    payload.go_on.set()
    with pytest.raises(MultipartNotFoundError):
        await putting
    assert (own_files(root, "staging"), own_files(root, "tmp")) == ([], [])


async def test_completions_and_aborts_at_once_leave_the_object_or_nothing(store: LocalStore, root: Path) -> None:
    for number in range(20):
        ref = await store.create_multipart(f"key {number}", OPTIONS)
        part = await store.put_part(ref, 1, b"x")
        done, *_ = await asyncio.gather(
            store.complete_multipart(ref, [part]),
            store.abort_multipart(ref),
            store.abort_multipart(ref),
            return_exceptions=True,
        )
        assert await exists(store, ref.key) == (not isinstance(done, MultipartNotFoundError))
    assert (own_files(root, "staging"), own_files(root, "tmp")) == ([], [])
    assert await unfinished(store) == []


# What a crash left of a finished multipart


async def leave_behind(store: LocalStore, root: Path, mode: str) -> tuple[MultipartRef, PartMeta]:
    """The state after a crash between the object's name and the removal of the directory."""
    ref = await store.create_multipart("key", OPTIONS)
    part = await store.put_part(ref, 1, b"finished")
    if mode == "create":
        os.link(staging(root, ref) / "data", root / "key")
    else:
        (staging(root, ref) / "data").rename(root / "key")
    return ref, part


@pytest.mark.parametrize("mode", ["create", "overwrite"])
async def test_a_finished_multipart_is_gone_though_its_directory_is_there(
    store: LocalStore, root: Path, mode: str
) -> None:
    ref, part = await leave_behind(store, root, mode)
    assert await unfinished(store) == []
    for attempt in (
        store.complete_multipart(ref, [part]),
        store.complete_multipart(ref, [part], mode="create"),
        store.put_part(ref, 1, b"more"),
        list_parts(store, ref),
    ):
        with pytest.raises(MultipartNotFoundError):
            await attempt
    assert await read(store, "key") == b"finished"


@pytest.mark.parametrize("mode", ["create", "overwrite"])
@pytest.mark.parametrize("way", ["abort", "sweep"])
async def test_what_is_left_of_a_finished_multipart_can_be_removed(
    store: LocalStore, root: Path, mode: str, way: str
) -> None:
    ref, _ = await leave_behind(store, root, mode)
    alive = await store.create_multipart("key", OPTIONS)
    if way == "abort":
        await store.abort_multipart(ref)
    else:
        assert await store.sweep() == 1
    assert await read(store, "key") == b"finished"
    assert [name for name in own_files(root, "staging") if "/" not in name] == [alive.multipart_id]


async def test_a_stray_link_to_the_data_does_not_make_a_multipart_finished(
    store: LocalStore, root: Path, tmp_path: Path
) -> None:
    ref = await store.create_multipart("key", OPTIONS)
    part = await store.put_part(ref, 1, b"part")
    os.link(staging(root, ref) / "data", tmp_path / "backup")
    assert await unfinished(store) == [ref]
    await store.complete_multipart(ref, [part])


# Beside the parts


async def test_attributes_wait_in_the_multipart(store: LocalStore, root: Path) -> None:
    attributes = Attributes(content_type="text/plain", metadata={"title": "Grüße"})
    options = MultipartOptions(part_size=SIZE, attributes=attributes, tags={"a": "b"})
    before = await store.put("key", b"old", PutOptions(attributes=Attributes(content_type="old")))
    ref = await store.create_multipart("key", options)
    async with LocalStore(root) as other:
        await other.complete_multipart(ref, [await other.put_part(ref, 1, b"new")])
    async with await store.get("key") as result:
        assert (result.attributes, await result.read()) == (attributes, b"new")
    assert await store.get_tags("key") == {"a": "b"}
    assert len([name for name in own_files(root, "attributes") if name.endswith(".json")]) == 1
    with pytest.raises(PreconditionFailedError):
        await store.get("key", GetOptions(if_match=before.e_tag))


async def test_a_copied_part_of_many_blocks_is_whole(store: LocalStore) -> None:
    data = os.urandom(3 << 20)
    await store.put("source", data)
    ref = await store.create_multipart("key", MultipartOptions(part_size=len(data)))
    await store.complete_multipart(ref, [await store.copy_part(ref, 1, "source")])
    assert await read(store, "key") == data


async def test_a_copy_larger_than_a_part_is_refused(store: LocalStore) -> None:
    await store.put("source", bytes(SIZE + 1))
    ref = await store.create_multipart("key", OPTIONS)
    with pytest.raises(InvalidPartError):
        await store.copy_part(ref, 1, "source")
