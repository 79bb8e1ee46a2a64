"""What other processes do with a stack; run as ``python processes.py <what> <store's URL> [<how many>]``."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from functools import partial

import rindle.snapshots.store
from rindle.objectstore.urls import open_store
from rindle.snapshots import CurrentMovedError, NoEncryption, SnapshotStore
from tests.racing import race

WON, LOST = 0, 10
NOON = 1_767_355_200_000_000_000

Act = Callable[[SnapshotStore, int], Awaitable[int]]


def run(url: str, act: Act, number: int = 0) -> int:
    async def with_store() -> int:
        async with open_store(url) as store:
            return await act(SnapshotStore(store, "network", "prod", encrypter=NoEncryption()), number)

    return asyncio.run(with_store())


async def write_at_noon(snapshots: SnapshotStore, number: int) -> int:
    rindle.snapshots.store.wall_time_ns = lambda: NOON  # type: ignore[attr-defined]
    await snapshots.write(b"%d" % number)
    return WON


async def set_current(snapshots: SnapshotStore, _: int) -> int:
    """Go on from what is current, as everybody does, and write down what that was."""
    base = await snapshots.current_rev()
    rev = await snapshots.write(base.encode())
    try:
        await snapshots.set_current(rev, replacing=base)
    except CurrentMovedError:
        return LOST
    return WON


async def append(snapshots: SnapshotStore, number: int) -> int:
    """Go on from the current state under the lock."""
    async with snapshots.lock.hold():
        base = await snapshots.current()
        await snapshots.set_current(await snapshots.write(base.data + b"%d" % number), replacing=base.rev)
    return WON


async def hold(snapshots: SnapshotStore, _: int) -> int:
    """Hold the lock, say so on the standard output, and wait to be killed."""
    async with snapshots.lock.hold(who="the killed one"):
        sys.stdout.write("held\n")
        sys.stdout.flush()
        await asyncio.Event().wait()
    return LOST


ACTS: dict[str, Act] = {"write_at_noon": write_at_noon, "set_current": set_current, "append": append, "hold": hold}


if __name__ == "__main__":
    what, where, *how_many = sys.argv[1:]
    if how_many:
        sys.stdout.write(" ".join(map(str, race(partial(run, where, ACTS[what]), int(how_many[0])))))
    else:
        run(where, ACTS[what])
