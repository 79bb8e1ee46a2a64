"""One client in a process of its own, so that what the process costs is what the client costs.

It reads jobs from its standard input, a line of JSON each, and answers on its standard output how many seconds of CPU
they took.
"""

import asyncio
import json
import random
import resource
import sys
from collections.abc import Awaitable, Callable, Iterable

import uvloop

from benchmarks.objectstore_clients import CLIENTS, PARALLEL, Client, Place


async def main(name: str, place: Place) -> None:
    """Work until the input ends."""
    async with CLIENTS[name](place) as client:
        for line in sys.stdin:
            job = json.loads(line)
            work = prepare(client, job["operation"], job["size"])
            before = cpu_seconds()
            await in_parallel(work, range(job["count"]))
            sys.stdout.write(f"{cpu_seconds() - before}\n")
            sys.stdout.flush()


def prepare(client: Client, operation: str, size: int) -> Callable[[int], Awaitable[object]]:
    """What is done with each number. What comes back is looked at, as little as can be."""
    data = random.Random(size).randbytes(size if operation == "put" else 0)

    async def put(number: int) -> None:
        await client.put(f"put/{size}/{number}", data)

    async def get(_: int) -> None:
        found = len(await client.get(f"get/{size}"))
        assert found == size, found

    async def list_page(_: int) -> None:
        found = await client.list("list/")
        assert found == size, found

    return {"put": put, "get": get, "list": list_page}[operation]


async def in_parallel(work: Callable[[int], Awaitable[object]], numbers: Iterable[int]) -> None:
    """As many at a time as all clients do."""
    left = iter(numbers)

    async def take() -> None:
        for number in left:
            await work(number)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(PARALLEL):
            tasks.create_task(take())


def cpu_seconds() -> float:
    """User and system time of this process, with all its threads."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], Place(*sys.argv[2:4])))
