"""Of several workers, one gets each job."""

import asyncio
import sys

import rindle
from rindle.recipes import try_claim

JOBS = ("resize", "transcode", "index")


async def main(url: str) -> None:
    """Let three workers run for three jobs."""
    async with rindle.open_store(url) as store:
        await store.prepare()

        async def work(worker: str) -> list[str]:
            return [job for job in JOBS if await try_claim(store, f"example-jobs/{job}", worker.encode())]

        workers = ("ann", "bea", "cid")
        for worker, jobs in zip(workers, await asyncio.gather(*map(work, workers)), strict=True):
            print(f"{worker} does {', '.join(jobs) or 'nothing'}")
        await store.delete_many(f"example-jobs/{job}" for job in JOBS)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "memory://"))
