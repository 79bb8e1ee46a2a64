"""A stock that does not fall below zero, whoever buys at once."""

import asyncio
import sys

import rindle
from rindle.recipes import Counter, CounterLimitError

KEY = "example-stock"


async def main(url: str) -> None:
    """Let ten customers buy what there is six of."""
    async with rindle.open_store(url) as store:
        await store.prepare()
        stock = Counter(store, KEY, initial=6)

        async def buy() -> bool:
            try:
                await stock.decrement(min_value=0)
            except CounterLimitError:
                return False
            return True

        bought = await asyncio.gather(*(buy() for _ in range(10)))
        print(f"{sum(bought)} were sold, {bought.count(False)} customers came too late, {await stock.get()} are left")
        print(f"restocked: {await stock.increment(100)}")
        await store.delete(KEY)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "memory://"))
