"""Streams on their way: cut into parts of one size, and worked off several at a time."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterable, Sequence
from contextlib import aclosing
from typing import TypeVar

from rindle.objectstore.payload import BytesPayload

Item = TypeVar("Item")
Result = TypeVar("Result")


async def asynchronous(items: Iterable[Item]) -> AsyncGenerator[Item, None]:
    """The same items, for those who await them."""
    for item in items:
        yield item


async def chained(first: deque[Item], rest: AsyncIterator[Item]) -> AsyncGenerator[Item, None]:
    """The items of one, which has none of them any more then, and after them those of the other."""
    while first:
        yield first.popleft()
    async for item in rest:
        yield item


async def in_order(works: AsyncGenerator[Coroutine[None, None, Result], None], limit: int) -> Sequence[Result]:
    """Run coroutines side by side, at most ``limit``; none is asked for before there is room for it."""
    results: list[Result] = []
    running: deque[asyncio.Task[Result]] = deque()
    try:
        async with aclosing(works):
            while (work := await anext(works, None)) is not None:
                running.append(asyncio.create_task(work))
                if len(running) >= limit:
                    results.append(await running[0])
                    running.popleft()
            while running:
                results.append(await running[0])
                running.popleft()
        return results
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def repack(chunks: AsyncGenerator[bytes, None], part_size: int) -> AsyncGenerator[BytesPayload, None]:
    """The same bytes in parts of exactly ``part_size``, the last one shorter; only chunks on an edge are copied."""
    part: list[bytes] = []
    room = part_size
    async with aclosing(chunks):
        async for chunk in chunks:
            start = 0
            while len(chunk) - start >= room:
                yield BytesPayload(*part, chunk[start : start + room])
                start += room
                part, room = [], part_size
            if start < len(chunk):
                part.append(chunk[start:])
                room -= len(chunk) - start
    if part:
        yield BytesPayload(*part)
