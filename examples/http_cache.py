"""Objects are fetched again only when they have changed."""

import asyncio
import sys

import rindle
from rindle.recipes import HttpCache

KEY = "example-settings.json"


async def main(url: str) -> None:
    """Read one object several times, and change it in between."""
    async with rindle.open_store(url) as store:
        cache = HttpCache(store)
        for data in (b"one", b"two"):
            await store.put(KEY, data)
            for _ in range(3):
                found = await cache.get(KEY)
                print(f"{found.data.decode()} ({'from memory' if found.hit else 'from the store'})")
        stats = cache.stats
        print(f"{stats.hits} of {stats.hits + stats.misses} reads moved no bytes")
        await store.delete(KEY)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "memory://"))
