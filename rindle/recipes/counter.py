"""A number that many processes change at once."""

import json
import secrets
from collections.abc import Callable
from datetime import timedelta

from rindle.objectstore.base import ObjectStore
from rindle.objectstore.cas import look
from rindle.recipes.errors import CounterLimitError, NotACounterError
from rindle.recipes.update import update_object

MAX_RETRIES = 100
"""More than for other updates: counters are for those whom many want at once."""


class Counter:
    """A whole number in an object, changed by compare-and-set: no change is lost, and none is made twice.

    A counter that is not there stands at ``initial``, and is made by its first change. Every change is a read and a
    write of the object, so a counter takes about as many changes a second as its store takes such pairs one after
    another. Errors are those of :func:`update_object`, and NotACounterError. UnsupportedOperationError if the store has
    no conditional writes.
    """

    def __init__(
        self,
        store: ObjectStore,
        key: str,
        *,
        initial: int = 0,
        max_retries: int = MAX_RETRIES,
        timeout: timedelta | None = None,
    ) -> None:
        self.key = key
        self._store = store
        self._initial = initial
        self._max_retries = max_retries
        self._timeout = timeout

    async def get(self) -> int:
        """The number now."""
        seen = await look(self._store, self.key)
        return self._initial if seen is None else self._parse(seen.data)

    async def increment(self, by: int = 1) -> int:
        """Add; the number afterwards."""
        return await self.update(lambda value: value + by)

    async def decrement(self, by: int = 1, *, min_value: int | None = None) -> int:
        """Subtract; the number afterwards. CounterLimitError if it would be below ``min_value``: then it stays."""

        def subtract(value: int) -> int:
            if min_value is not None and value - by < min_value:
                msg = f"the counter {self.key!r} stands at {value}: {by} less would be below {min_value}"
                raise CounterLimitError(msg)
            return value - by

        return await self.update(subtract)

    async def update(self, change: Callable[[int], int]) -> int:
        """Replace the number by what ``change`` makes of it, which may be called several times; the number afterwards.

        What ``change`` raises ends the update, and the number stays.
        """
        updated = await update_object(
            self._store,
            self.key,
            lambda data: _to_bytes(change(self._parse(data))),
            initial=_to_bytes(self._initial),
            max_retries=self._max_retries,
            timeout=self._timeout,
            content_type="application/json",
        )
        return self._parse(updated.data)

    def _parse(self, data: bytes) -> int:
        try:
            fields = json.loads(data)
        except ValueError:
            fields = None
        match fields:
            case {"value": int(value)} | int(value) if not isinstance(value, bool):  # a bare number: somebody began it
                return value
            case _:
                msg = f"the object {self.key!r} in the store {self._store.name} is not a counter"
                raise NotACounterError(msg)


def _to_bytes(value: int) -> bytes:
    # With something random, so that no two versions have the same e_tag even where that is a digest of the bytes.
    return json.dumps({"value": value, "write": secrets.token_hex(8)}).encode() + b"\n"
