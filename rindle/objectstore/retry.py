"""Trying again what may succeed then: for backends whose SDK does not, or not in a bounded way."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from rindle.objectstore.errors import TransientStoreError

Result = TypeVar("Result")

_FIRST, _LONGEST = 0.2, 10.0  # seconds


async def persist(attempt: Callable[[], Awaitable[Result]], *, attempts: int) -> Result:
    """The first answer to as many attempts at most, if all before it end in a TransientStoreError.

    An attempt that failed may have been done all the same: whoever asks for a condition looks whether what stands in
    the way is its own.
    """
    for number in range(1, attempts):
        try:
            return await attempt()
        except TransientStoreError:
            await asyncio.sleep(pause_after(number))
    return await attempt()


def pause_after(number: int) -> float:
    """Seconds to wait after this attempt: twice as long each time, and not as long as others, who failed with it."""
    return min(_FIRST * 2.0 ** (number - 1), _LONGEST) * random.uniform(0.5, 1.5)  # noqa: S311 - no secret
