"""What other processes do with a local store; run as ``python local_processes.py <what> <root> [<how many>]``."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from rindle.objectstore.errors import AlreadyExistsError, PermissionDeniedError, PreconditionFailedError
from rindle.objectstore.local import LocalStore
from rindle.objectstore.types import GetOptions, MultipartOptions, PutOptions, UpdateVersion
from rindle.testing.payloads import HeldPayload
from tests.racing import race

WON, LOST = 0, 10
NOBODY = 65534
DENIED = 1200
DELETED = [f"{'locked' if number == DENIED else number % 7}/{number}" for number in range(1500)]
OTHERS = [number for number in range(1500) if number != DENIED]
PART_SIZE = 1000

Act = Callable[[LocalStore, int], Awaitable[int]]


def run(root: Path, act: Act, number: int) -> int:
    async def with_store() -> int:
        async with LocalStore(root) as store:
            return await act(store, number)

    return asyncio.run(with_store())


async def create(store: LocalStore, number: int) -> int:
    try:
        await store.put("a/b/key", f"process {number}".encode(), PutOptions(mode="create"))
    except AlreadyExistsError:
        return LOST
    return WON


async def complete_to_create(store: LocalStore, number: int) -> int:
    ref = await store.create_multipart("a/b/key", MultipartOptions(part_size=PART_SIZE))
    part = await store.put_part(ref, 1, f"process {number}".encode())
    try:
        await store.complete_multipart(ref, [part], mode="create")
    except AlreadyExistsError:
        await store.abort_multipart(ref)
        return LOST
    return WON


async def increment(store: LocalStore, _number: int) -> int:
    for _ in range(10):
        while not await incremented(store):
            pass
    return WON


async def incremented(store: LocalStore) -> bool:
    async with await store.get("counter") as found:
        value = int(await found.read()) + 1
        mode = UpdateVersion(found.meta.e_tag)
    try:
        await store.put("counter", str(value).encode(), PutOptions(mode=mode))
    except PreconditionFailedError:
        return False
    return True


async def come_and_go(store: LocalStore, number: int) -> int:
    for _ in range(10):
        await store.put(f"a/b/c/{number}", b"bytes")
        async with await store.get(f"a/b/c/{number}", GetOptions()) as found:
            await found.read()
        await store.delete(f"a/b/c/{number}")
        await store.sweep()
    return WON


async def hold(payload: HeldPayload, write: Awaitable[object]) -> int:
    """Begin a write, say so on the standard output, and wait to be killed."""
    writing = asyncio.ensure_future(write)
    await payload.begun.wait()
    sys.stdout.write("begun\n")
    sys.stdout.flush()
    await writing
    return LOST


async def hold_put(store: LocalStore, _number: int) -> int:
    payload = HeldPayload(b"n" * (6 << 20), b"rest")
    return await hold(payload, store.put("key", payload))


async def hold_part(store: LocalStore, _number: int) -> int:
    (multipart,) = [multipart async for multipart in store.list_multiparts()]
    payload = HeldPayload(b"h" * (PART_SIZE // 2), b"rest")
    return await hold(payload, store.put_part(multipart.ref, 1, payload))


async def delete_as_somebody_else(store: LocalStore, _number: int) -> int:
    """Of many keys one is in a directory that is nobody's to change: each gets its own answer."""
    if os.geteuid() == 0:
        os.setuid(NOBODY)
    results = await store.delete_many(DELETED)
    denied = [number for number, result in enumerate(results) if isinstance(result.error, PermissionDeniedError)]
    return WON if denied == [DENIED] and all(results[number].error is None for number in OTHERS) else LOST


ACTS: dict[str, Act] = {
    "delete_as_somebody_else": delete_as_somebody_else,
    "create": create,
    "complete_to_create": complete_to_create,
    "increment": increment,
    "come_and_go": come_and_go,
    "hold_put": hold_put,
    "hold_part": hold_part,
}


if __name__ == "__main__":
    what, where, *how_many = sys.argv[1:]
    if how_many:
        sys.stdout.write(" ".join(map(str, race(partial(run, Path(where), ACTS[what]), int(how_many[0])))))
    else:
        run(Path(where), ACTS[what], 0)
