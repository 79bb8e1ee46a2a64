"""Taking back what was begun, when not all of it can be done."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from rindle.buckets.errors import BucketError, CredentialsNotMadeError, is_refusal
from rindle.errors import RindleError
from rindle.objectstore.tasks import outlast

logger = logging.getLogger(__name__)

Remove = Callable[[], Awaitable[object]]


@dataclass
class Step:
    """Something that is to be made: what it is called, and how it is removed. Both may be said better once it is."""

    what: str
    remove: Remove


class Undo:
    """What was begun, the last thing last.

    A step counts as begun before it is: a call without an answer may have been done. It no longer does if the service
    has refused it.
    """

    def __init__(self) -> None:
        self._steps: list[Step] = []

    @asynccontextmanager
    async def step(self, what: str, remove: Remove) -> AsyncIterator[Step]:
        """Make something in this block."""
        step = Step(what, remove)
        self._steps.append(step)
        try:
            yield step
        except RindleError as error:
            if is_refusal(error):
                self._steps.pop()
            raise

    async def run(self) -> tuple[str, ...]:
        """Remove everything, the last thing first, each whatever becomes of the others.

        Gives back what could not be removed, with the reasons.
        """
        left = []
        while self._steps:
            step = self._steps.pop()
            try:
                await step.remove()
            except RindleError as error:
                left.append(f"{step.what} ({error})")
        return tuple(left)


@asynccontextmanager
async def all_or_nothing(bucket: str) -> AsyncIterator[Undo]:
    """Make credentials for a bucket in this block, or remove again what was made of them, also when cancelled.

    CredentialsNotMadeError says why, and what could not be removed. An error about the bucket itself stays what it is.
    """
    made = Undo()
    try:
        yield made
    except BaseException as error:
        undoing = asyncio.ensure_future(made.run())
        await outlast(undoing)
        left = undoing.result()
        if isinstance(error, RindleError) and (left or not isinstance(error, BucketError)):
            raise CredentialsNotMadeError(bucket, error, left) from error
        if left:
            logger.exception("credentials for the bucket %s were not made; left behind: %s", bucket, "; ".join(left))
        raise
