"""Work that goes on, and is waited for, although the one who waits was cancelled."""

import asyncio
from contextlib import suppress
from typing import TypeVar

Result = TypeVar("Result")


async def outlast(work: asyncio.Future[Result]) -> None:
    """Return when the work is done, however often the waiting is cancelled; its error counts as seen."""
    while not work.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait([work])
    if not work.cancelled():
        work.exception()
