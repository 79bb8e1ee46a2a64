"""Large things in a process of their own, which says how much memory they took.

Run as ``python scale.py list|stream|file <url> <count or size> <scratch folder>``; prints JSON.
"""

import asyncio
import filecmp
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rindle.objectstore import ObjectStore, download, open_store
from rindle.objectstore.payload import crc64nvme

MIB = 1 << 20
KEY = "a/large/object"

Report = dict[str, object]


def memory() -> int:
    """The most that this program has had at once, in bytes."""
    # Not what getrusage says: on Linux that begins with the most of the process that started this one.
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "VmHWM":
            return int(value.split()[0]) << 10
    raise AssertionError


def chunks(size: int) -> Iterator[bytes]:
    """Bytes of which no two pieces are alike, made as they are asked for."""
    block = os.urandom(MIB)
    for number in range(size // MIB):
        yield number.to_bytes(8, "big") + block[8:]


@dataclass
class Digest:
    size: int = 0
    crc: int = 0

    def through(self, source: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in source:
            self.add(chunk)
            yield chunk

    async def of(self, source: AsyncIterator[bytes]) -> None:
        async for chunk in source:
            self.add(chunk)

    def add(self, chunk: bytes) -> None:
        self.size += len(chunk)
        self.crc = crc64nvme(chunk, self.crc)


async def list_keys(store: ObjectStore, _count: int, _folder: Path) -> Report:
    await store.list_page(limit=1)
    before = memory()
    count, last = 0, ""
    async for meta in store.list():
        assert meta.key > last
        count, last = count + 1, meta.key
    return {"count": count, "grown": memory() - before}


async def stream(store: ObjectStore, size: int, _folder: Path) -> Report:
    await stream_once(store, 32 * MIB)  # so that what grows once has grown
    before = memory()
    sent, received = await stream_once(store, size)
    return {"equal": sent == received, "size": received.size, "grown": memory() - before}


async def stream_once(store: ObjectStore, size: int) -> tuple[Digest, Digest]:
    sent, received = Digest(), Digest()
    await store.put(KEY, sent.through(chunks(size)))
    async with await store.get(KEY) as result:
        await received.of(aiter(result))
    return sent, received


async def file(store: ObjectStore, size: int, folder: Path) -> Report:
    source, target = folder / "source", folder / "target"
    await file_once(store, 96 * MIB, source, target)
    before = memory()
    await file_once(store, size, source, target)
    grown = memory() - before
    equal = await asyncio.to_thread(filecmp.cmp, source, target, shallow=False)
    return {"equal": equal, "size": target.stat().st_size, "grown": grown}


async def file_once(store: ObjectStore, size: int, source: Path, target: Path) -> None:
    """There and back, of a file that is mostly nothing."""
    with source.open("wb") as opened:
        opened.seek(size - MIB)
        opened.write(os.urandom(MIB))
    await store.put(KEY, source)
    await download(store, KEY, target)


ACTS: dict[str, Callable[[ObjectStore, int, Path], Awaitable[Report]]] = {
    "list": list_keys,
    "stream": stream,
    "file": file,
}


async def main(what: str, url: str, amount: int, folder: Path) -> Report:
    async with open_store(url) as store:
        return await ACTS[what](store, amount, folder)


if __name__ == "__main__":
    begun = time.monotonic()
    report = asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4])))
    sys.stdout.write(json.dumps({**report, "seconds": round(time.monotonic() - begun, 1)}))
