"""One works at a time; and what happens when a holder dies."""

import asyncio
import sys
from datetime import timedelta

import rindle
from rindle.objectstore.base import ObjectStore
from rindle.recipes import Lock, LockedError

KEY = "example-lock"


async def work(store: ObjectStore, who: str) -> None:
    """Wait for the lock, and do something that nobody else may do meanwhile."""
    async with Lock(store, KEY, who=who).hold() as holder:
        print(f"{who} works, with token {holder.token}")
        await asyncio.sleep(0.05)
        print(f"{who} is done")


async def main(url: str) -> None:
    """Let three work in turn, then one die."""
    async with rindle.open_store(url) as store:
        await store.prepare()
        await asyncio.gather(*(work(store, who) for who in ("ann", "bea", "cid")))

        await Lock(store, KEY, who="dan", lease=timedelta(seconds=0.5)).acquire()  # and is never heard of again
        try:
            await Lock(store, KEY).acquire(timeout=timedelta(0))
        except LockedError as error:
            print(error)
        await work(store, "eve")  # when dan's lease is over
        await store.delete(KEY)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "memory://"))
