"""What other processes do by recipe; run as ``python processes.py <what> <store's URL> [<how many>]``."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial

from rindle.objectstore.base import ObjectStore
from rindle.objectstore.ext import read
from rindle.objectstore.urls import open_store
from rindle.recipes import Counter, Lock, LockedError
from tests.racing import race

WON, LOST = 0, 10
SHORT = timedelta(seconds=0.3)

Act = Callable[[ObjectStore], Awaitable[int]]


def run(url: str, act: Act, _: int = 0) -> int:
    async def with_store() -> int:
        async with open_store(url) as store:
            return await act(store)

    return asyncio.run(with_store())


async def increment(store: ObjectStore, *, times: int) -> int:
    counter = Counter(store, "counter")
    for _ in range(times):
        await counter.increment()
    return WON


async def work_under_lock(store: ObjectStore) -> int:
    """Read, then write without a condition: right only if nobody else does it between."""
    for _ in range(3):
        async with Lock(store, "lock").hold():
            value = int(await read(store, "value"))
            await asyncio.sleep(0.001)
            await store.put("value", str(value + 1).encode())
    return WON


async def take_for_good(store: ObjectStore) -> int:
    """Take the lock of somebody silent, and end without giving it back."""
    try:
        await Lock(store, "lock", lease=timedelta(minutes=1)).acquire(timeout=5 * SHORT)
    except LockedError:
        return LOST
    return WON


async def force(store: ObjectStore) -> int:
    return LOST if await Lock(store, "lock").force_unlock() is None else WON


async def hold(store: ObjectStore) -> int:
    """Hold the lock, say so on the standard output, and wait to be killed."""
    async with Lock(store, "lock", lease=timedelta(seconds=2)).hold():
        sys.stdout.write("held\n")
        sys.stdout.flush()
        await asyncio.Event().wait()
    return LOST


ACTS: dict[str, Act] = {
    "count_to_20": partial(increment, times=20),
    "count_to_100": partial(increment, times=100),
    "work_under_lock": work_under_lock,
    "take_for_good": take_for_good,
    "force": force,
    "hold": hold,
}


if __name__ == "__main__":
    what, where, *how_many = sys.argv[1:]
    if how_many:
        sys.stdout.write(" ".join(map(str, race(partial(run, where, ACTS[what]), int(how_many[0])))))
    else:
        run(where, ACTS[what])
