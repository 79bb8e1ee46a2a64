"""Processes that create one key at once; run as ``python race.py <url> <how many>``; prints who won."""

import asyncio
import os
import sys
from multiprocessing import get_context

import rindle.objectstore.s3  # noqa: F401 - once for all that are forked
from rindle.objectstore import AlreadyExistsError, PutOptions, exists, open_store

WON, LOST = 0, 10


async def create(url: str, number: int, ready: int, go: int) -> int:
    async with open_store(url) as store:
        await exists(store, "key")
        os.write(ready, b".")  # connected
        os.read(go, 1)  # ends when the parent lets all of them go
        try:
            await store.put("key", f"process {number}".encode(), PutOptions(mode="create"))
        except AlreadyExistsError:
            return LOST
        return WON


def run(url: str, number: int, ready: int, go: int, held: int) -> None:
    os.close(held)
    sys.exit(asyncio.run(create(url, number, ready, go)))


def main(url: str, racers: int) -> None:
    begun, ready = os.pipe()
    go, held = os.pipe()
    starts = [(url, number, ready, go, held) for number in range(racers)]
    processes = [get_context("fork").Process(target=run, args=start) for start in starts]
    for process in processes:
        process.start()
    os.close(ready)
    waiting = racers
    while waiting and (more := os.read(begun, waiting)):
        waiting -= len(more)
    os.close(held)
    for process in processes:
        process.join()
    codes = [process.exitcode for process in processes]
    assert sorted(codes, key=str) == [WON, *[LOST] * (racers - 1)], codes
    sys.stdout.write(str(codes.index(WON)))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
