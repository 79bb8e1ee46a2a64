"""Versions of a state, encrypted; two runs that do not know of each other; a rollback."""

import asyncio
import json
import secrets
import sys

import rindle
from rindle.snapshots import CurrentMovedError, SnapshotStore
from rindle.snapshots.aes import AesEncrypter


async def main(url: str) -> None:
    """Live through a few versions of one stack."""
    async with rindle.open_store(url) as store:
        await store.prepare()
        key = secrets.token_bytes(32)
        snapshots = SnapshotStore(store, "example", "demo", encrypter=AesEncrypter(key))

        async with snapshots.lock.hold(who="the first run"):
            base = await snapshots.write(json.dumps({"servers": 1}).encode())
            await snapshots.set_current(base)
        print(f"current: {(await snapshots.current()).data.decode()}")

        # Two that go on from the same snapshot, without the lock: one of them is told.
        mine, theirs = [await snapshots.write(json.dumps({"servers": count}).encode()) for count in (2, 3)]
        await snapshots.set_current(theirs, replacing=base)
        try:
            await snapshots.set_current(mine, replacing=base)
        except CurrentMovedError as error:
            print(error)
        print(f"current: {(await snapshots.current()).data.decode()}")

        await snapshots.set_current(base, replacing=theirs)
        print(f"rolled back: {(await snapshots.current()).data.decode()}")
        done = await snapshots.collect(keep=1)
        print(f"{len(done.deleted)} deleted, {len(done.kept)} kept")
        await store.delete_many([meta.key async for meta in store.list("example/demo/")])


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "memory://"))
