"""Kills a process at every call by which it changes files, one after another, and looks at what is left.

Run as ``python local_crashes.py <scenario> <directory>``: it forks a child per step, which kills itself right before
its n-th such call, until one gets to its end. Prints how many steps there were; an AssertionError ends it.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from threading import Lock
from typing import Any

from rindle.objectstore.base import GetResult
from rindle.objectstore.errors import AlreadyExistsError, InvalidPartError, MultipartNotFoundError, NotFoundError
from rindle.objectstore.ext import exists, read
from rindle.objectstore.local import LocalStore
from rindle.objectstore.payload import BytesPayload
from rindle.objectstore.types import Attributes, MultipartOptions, MultipartRef, PartMeta, PutOptions

CALLS = ("pwritev", "ftruncate", "utime", "fsync", "fdatasync", "rename", "link", "unlink", "mkdir", "rmdir")
KEY = "a/b/key"
OLD, NEW = b"old " * 700_000, b"the new one " * 800_000  # two batches of a payload
OLD_OPTIONS = PutOptions(attributes=Attributes(metadata={"is": "old"}), tags={"is": "old"})
NEW_OPTIONS = PutOptions(attributes=Attributes(metadata={"is": "new"}), tags={"is": "new"})
PART = 1000
MULTIPART = MultipartOptions(part_size=PART, attributes=NEW_OPTIONS.attributes, tags=NEW_OPTIONS.tags)

Step = Callable[[LocalStore], Awaitable[None]]


async def nothing(store: LocalStore) -> None:
    """Begin with an empty store."""


async def put_old(store: LocalStore) -> None:
    await store.put(KEY, OLD, OLD_OPTIONS)


async def put_new(store: LocalStore) -> None:
    half = len(NEW) // 2
    await store.put(KEY, BytesPayload(NEW[:half], NEW[half:]), NEW_OPTIONS)


async def create_new(store: LocalStore) -> None:
    await store.put(KEY, NEW, replace(NEW_OPTIONS, mode="create"))


async def state(store: LocalStore) -> str:
    """Which object is there, whole and with what belongs to it: its attributes say what its bytes must be."""
    try:
        result: GetResult = await store.get(KEY)
    except NotFoundError:
        assert [meta async for meta in store.list()] == []
        assert (await store.list_with_delimiter()).prefixes == ()
        return "absent"
    is_, body = result.attributes.metadata["is"], await result.read()
    assert body == {"old": OLD, "new": NEW, "joined": joined()}[is_], "bytes of another version"
    assert await store.get_tags(KEY) == {"is": is_}
    assert [meta.key async for meta in store.list()] == [KEY]
    return is_


def joined() -> bytes:
    return b"1" * PART + b"2" * PART


async def old_or_new(store: LocalStore) -> None:
    assert await state(store) in {"old", "new"}
    await put_new(store)
    assert await state(store) == "new"


async def absent_or_new(store: LocalStore) -> None:
    if await state(store) == "absent":
        await create_new(store)
    else:
        try:
            await create_new(store)
        except AlreadyExistsError:
            pass
        else:
            raise AssertionError("created twice")
    assert await state(store) == "new"


async def delete(store: LocalStore) -> None:
    await store.delete(KEY)


async def old_or_absent(store: LocalStore) -> None:
    assert await state(store) in {"old", "absent"}
    await delete(store)
    assert await state(store) == "absent"


async def tag(store: LocalStore) -> None:
    await store.put_tags(KEY, {"is": "tagged"})


async def tagged_or_not(store: LocalStore) -> None:
    async with await store.get(KEY) as result:
        assert (await result.read(), result.attributes) == (OLD, OLD_OPTIONS.attributes)
    assert await store.get_tags(KEY) in ({"is": "old"}, {"is": "tagged"})


async def copy(store: LocalStore) -> None:
    await store.copy("source", KEY)


async def put_old_and_source(store: LocalStore) -> None:
    await put_old(store)
    await store.put("source", NEW, NEW_OPTIONS)


async def copied_or_not(store: LocalStore) -> None:
    await store.delete("source")
    await old_or_new(store)


async def multiparts(store: LocalStore) -> list[MultipartRef]:
    return [multipart.ref async for multipart in store.list_multiparts()]


async def create_multipart(store: LocalStore) -> None:
    await store.create_multipart(KEY, MULTIPART)


async def usable_multipart_or_none(store: LocalStore) -> None:
    for ref in await multiparts(store):
        await store.complete_multipart(ref, [await store.put_part(ref, 1, b"1")])
        assert await read(store, KEY) == b"1"
    assert await multiparts(store) == []


async def begin(store: LocalStore) -> None:
    await create_multipart(store)
    (ref,) = await multiparts(store)
    for number, fill in enumerate((b"1", b"2", b"3"), 1):
        await store.put_part(ref, number, fill * PART)


async def begin_over_old(store: LocalStore) -> None:
    await put_old(store)
    await begin(store)


async def put_part_again(store: LocalStore) -> None:
    (ref,) = await multiparts(store)
    await store.put_part(ref, 2, BytesPayload(b"two", b"x" * (PART - 3)))


async def list_parts(store: LocalStore, ref: MultipartRef) -> dict[int, PartMeta]:
    return {part.part_number: part async for part in store.list_parts(ref)}


async def part_of_one_attempt_or_absent(store: LocalStore) -> None:
    (ref,) = await multiparts(store)
    parts = await list_parts(store, ref)
    if 2 not in parts:
        try:
            await store.complete_multipart(ref, [parts[1], parts[3]])
        except InvalidPartError:
            parts[2] = await store.put_part(ref, 2, b"2" * PART)
    await store.complete_multipart(ref, [parts[1], parts[2], parts[3]])
    second = (await read(store, KEY))[PART : 2 * PART]
    assert second in {b"2" * PART, b"two" + b"x" * (PART - 3)}, "bytes of two attempts"


async def complete(store: LocalStore, *, create: bool = False) -> None:
    (ref,) = await multiparts(store)
    parts = await list_parts(store, ref)
    await store.complete_multipart(ref, [parts[1], parts[2]], mode="create" if create else "overwrite")


async def complete_to_create(store: LocalStore) -> None:
    await complete(store, create=True)


async def begin_joined(store: LocalStore) -> None:
    options = MultipartOptions(part_size=PART, attributes=Attributes(metadata={"is": "joined"}), tags={"is": "joined"})
    ref = await store.create_multipart(KEY, options)
    for number, fill in enumerate((b"1", b"2", b"3"), 1):
        await store.put_part(ref, number, fill * PART)


async def begin_joined_over_old(store: LocalStore) -> None:
    await put_old(store)
    await begin_joined(store)


async def completed_or_completable(store: LocalStore) -> None:
    if await state(store) == "joined":
        assert await multiparts(store) == []
    else:
        await complete(store)
    assert await state(store) == "joined"


async def completed_once(store: LocalStore) -> None:
    """Where the object is, its multipart is gone for whoever still has the handle."""
    for directory in own_entries("staging"):
        if await exists(store, KEY):
            try:
                await list_parts(store, MultipartRef(KEY, directory.name))
            except MultipartNotFoundError:
                continue
            raise AssertionError("the object is there and so is its multipart")
    await completed_or_completable(store)


async def abort(store: LocalStore) -> None:
    for ref in await multiparts(store):
        await store.abort_multipart(ref)


async def whole_or_gone(store: LocalStore) -> None:
    for ref in await multiparts(store):
        assert sorted(await list_parts(store, ref)) == [1, 2, 3]
    await abort(store)
    assert await multiparts(store) == []


SCENARIOS: dict[str, tuple[Step, Step, Step]] = {
    "overwrite": (put_old, put_new, old_or_new),
    "create": (nothing, create_new, absent_or_new),
    "delete": (put_old, delete, old_or_absent),
    "tags": (put_old, tag, tagged_or_not),
    "copy": (put_old_and_source, copy, copied_or_not),
    "create_multipart": (nothing, create_multipart, usable_multipart_or_none),
    "put_part": (begin, put_part_again, part_of_one_attempt_or_absent),
    "complete": (begin_joined_over_old, complete, completed_or_completable),
    "complete_create": (begin_joined, complete_to_create, completed_once),
    "abort": (begin, abort, whole_or_gone),
}
ROOT = Path()


def own_entries(folder: str) -> list[Path]:
    return list(ROOT.glob(f".rindle/{folder}/*"))


def run(step: Step) -> None:
    async def with_store() -> None:
        async with LocalStore(ROOT) as store:
            await step(store)

    asyncio.run(with_store())


def kill_before_call(number: int) -> None:
    """Make the n-th call that changes files the one that never comes."""
    counter, lock = count(1), Lock()

    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            with lock:
                if next(counter) == number:
                    os.kill(os.getpid(), signal.SIGKILL)
            return original(*args, **kwargs)

        return counted

    for name in CALLS:
        setattr(os, name, wrap(getattr(os, name)))


def survives(act: Step, number: int) -> bool:
    child = os.fork()
    if child == 0:
        kill_before_call(number)
        run(act)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "the child failed in another way"
    return os.WIFEXITED(status)


async def clean(store: LocalStore) -> None:
    """Whatever was left is found and removed, and nothing else."""
    await store.sweep()
    assert await store.sweep() == 0
    assert await multiparts(store) == []
    assert own_entries("tmp") + own_entries("staging") == []


def main(scenario: str, directory: Path) -> None:
    global ROOT  # noqa: PLW0603 - a script of one purpose
    prepare, act, check = SCENARIOS[scenario]
    for number in count(1):
        ROOT = directory / str(number)
        run(prepare)
        finished = survives(act, number)
        run(check)
        run(clean)
        if finished:
            sys.stdout.write(f"{number}\n")
            return


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
