"""Changing an object in its place: read, modify, write if it is still what was read."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from inspect import isawaitable

from rindle.objectstore.base import Key, ObjectStore
from rindle.objectstore.cas import Seen, compare_and_set, look, require_conditions
from rindle.objectstore.errors import AlreadyExistsError, NotFoundError, PreconditionFailedError
from rindle.objectstore.types import NO_ATTRIBUTES
from rindle.recipes.errors import UpdateConflictError, UpdateTimeoutError

MAX_RETRIES = 5
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 1.0

Change = Callable[[bytes], bytes | Awaitable[bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Updated:
    """What an update has made. ``e_tag`` is None if somebody else has replaced it since."""

    data: bytes
    e_tag: str | None


async def update_object(
    store: ObjectStore,
    key: Key,
    change: Change,
    *,
    initial: bytes | None = None,
    max_retries: int = MAX_RETRIES,
    timeout: timedelta | None = None,  # noqa: ASYNC109 - it bounds the retries too, and the error says what was done
    consistent: bool = True,
    content_type: str | None = None,
) -> Updated:
    """Replace an object by what ``change`` makes of its bytes, so that nobody's update in between is lost.

    ``change`` may be asynchronous, and is called again with newer bytes when somebody else was quicker; what it raises
    ends the update, and nothing is written. If it gives back the bytes that it was given, nothing is written either.
    ``initial`` is what it is given where there is no object; without it that is a NotFoundError. The attributes stay,
    but for a ``content_type`` that is given; tags do not, as no store puts them under the same condition.

    Without ``consistent`` the first attempt may go on from older bytes that are read sooner, where a store has such; it
    then fails, and the next one goes on from the newest.

    UpdateConflictError after ``max_retries`` more attempts; pauses between them grow from 0.1 to 1 s, at random.
    UpdateTimeoutError. A TransientStoreError means that it may have been written, once.
    """
    require_conditions(store, key)
    update = _Update(store, key, change, initial, content_type, consistent=consistent)
    scope = asyncio.timeout(None if timeout is None else timeout.total_seconds())
    try:
        async with scope:
            for attempt in range(max_retries):
                result = await update.attempt()
                if result is not None:
                    return result
                longest = min(_FIRST_PAUSE * 2**attempt, _LONGEST_PAUSE)
                await asyncio.sleep(random.uniform(0, longest))  # noqa: S311 - not to come back all at once
            result = await update.attempt()
    except TimeoutError as error:
        if not scope.expired():
            raise
        msg = f"{store.name}: there was no time to update {str(key)!r}; {update.outcome}"
        raise UpdateTimeoutError(msg) from error
    if result is None:
        msg = f"{store.name}: others were quicker to update {str(key)!r}, {max_retries + 1} times; it was not written"
        raise UpdateConflictError(msg)
    return result


class _Update:
    def __init__(
        self,
        store: ObjectStore,
        key: Key,
        change: Change,
        initial: bytes | None,
        content_type: str | None,
        *,
        consistent: bool,
    ) -> None:
        self._store = store
        self._key = key
        self._change = change
        self._initial = initial
        self._content_type = content_type
        self._consistent = consistent
        self._is_writing = False

    @property
    def outcome(self) -> str:
        """What has become of it, when it was stopped."""
        return "it may have been written" if self._is_writing else "nothing was written"

    async def attempt(self) -> Updated | None:
        """None: somebody else was quicker."""
        seen = await look(self._store, self._key, consistent=self._consistent)
        if seen is None and not self._consistent:
            self._consistent = True
            return await self.attempt()
        before = self._initial if seen is None else seen.data
        if before is None:
            msg = "there is no object to update"
            raise NotFoundError(msg, store=self._store.name, key=str(self._key))
        changed = self._change(before)
        data: object = await changed if isawaitable(changed) else changed
        if not isinstance(data, bytes):
            msg = f"an update takes the new bytes of the object from its function, which gave {type(data).__name__}"
            raise TypeError(msg)
        if seen is not None and data == before:
            return Updated(data=data, e_tag=seen.meta.e_tag)
        return await self._write(seen, data)

    async def _write(self, seen: Seen | None, data: bytes) -> Updated | None:
        attributes = NO_ATTRIBUTES if seen is None else seen.attributes
        if self._content_type is not None:
            attributes = replace(attributes, content_type=self._content_type)
        self._is_writing = True
        try:
            result = await compare_and_set(self._store, self._key, seen, data, attributes=attributes)
        except (AlreadyExistsError, PreconditionFailedError):
            self._is_writing = False
            self._consistent = True
            return None
        return Updated(data=data, e_tag=result.e_tag)
