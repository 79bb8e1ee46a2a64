"""Work that goes on, and is waited for, although the one who waits was cancelled; and work side by side."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from rindle.objectstore.errors import ObjectStoreError
from rindle.objectstore.types import DeleteResult

Result = TypeVar("Result")


async def outlast(work: asyncio.Future[Result]) -> None:
    """Return when the work is done, however often the waiting is cancelled; its error counts as seen."""
    while not work.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait([work])
    if not work.cancelled():
        work.exception()


async def delete_each(
    delete: Callable[[str], Awaitable[None]], keys: Sequence[str], *, at_once: int
) -> Sequence[DeleteResult]:
    """One result for each key, in order; at most so many are under way at once."""
    results = [DeleteResult(key) for key in keys]
    waiting = iter(range(len(keys)))

    async def work() -> None:
        for number in waiting:
            try:
                await delete(keys[number])
            except ObjectStoreError as error:
                results[number] = DeleteResult(keys[number], error)

    async with asyncio.TaskGroup() as group:
        for _ in range(min(at_once, len(keys))):
            group.create_task(work())
    return results


async def settle(work: Coroutine[Any, Any, Result], *, patience: float) -> Result:
    """The result of work that goes on when the one who waits is cancelled, who hears of that when it is done.

    TimeoutError, and the work is cancelled, after ``patience`` seconds.
    """
    task = asyncio.ensure_future(within(patience, work))
    try:
        await asyncio.wait([task])
    except asyncio.CancelledError:
        await outlast(task)
        raise
    return task.result()


async def within(seconds: float, work: Coroutine[Any, Any, Result]) -> Result:
    """The result of work, which is cancelled when it takes longer: TimeoutError."""
    scope = asyncio.timeout(seconds)
    try:
        async with scope:
            return await work
    except TimeoutError as error:
        if not scope.expired():
            raise
        msg = f"no answer within {seconds:g} s"
        raise TimeoutError(msg) from error
