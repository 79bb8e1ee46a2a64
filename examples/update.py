"""Many writers change one object, and none is overwritten."""

import asyncio
import json
import sys

import rindle
from rindle.recipes import update_object

KEY = "example-members.json"


async def main(url: str) -> None:
    """Let ten writers enter a name each."""
    async with rindle.open_store(url) as store:
        await store.prepare()

        async def enter(name: str) -> None:
            def change(data: bytes) -> bytes:
                return json.dumps([*json.loads(data), name]).encode()

            await update_object(store, KEY, change, initial=b"[]", max_retries=50, content_type="application/json")

        await asyncio.gather(*(enter(f"member {number}") for number in range(10)))
        members = json.loads(await (await store.get(KEY)).read())
        print(f"{len(members)} members: {', '.join(sorted(members))}")
        await store.delete(KEY)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "memory://"))
