"""Compare-and-set of one object, after which the writer knows whether it was done.

The store's answer alone does not say: it may be lost, or the write was repeated on the way and met what it had done
itself, which looks like a lost race. So each of these writes leaves a random mark in the object's metadata, ahead of
the marks of the writes that it goes on from. If its mark is there, it was done, even if others have written since.
"""

import asyncio
import random
import secrets
from dataclasses import dataclass, replace

from rindle.objectstore.base import Key, ObjectStore
from rindle.objectstore.errors import (
    AlreadyExistsError,
    NotFoundError,
    PreconditionFailedError,
    ThrottledError,
    TransientStoreError,
    UnsupportedOperationError,
)
from rindle.objectstore.types import (
    NO_ATTRIBUTES,
    Attributes,
    GetOptions,
    ObjectMeta,
    PutOptions,
    PutResult,
    UpdateVersion,
)

MARKS = "rindle-writes"
"""The metadata that holds the marks of the last writes, the newest first."""

_HISTORY = 32  # marks, of nine bytes with their commas: S3 has room for 2 kB of metadata
_PAUSES = (0.1, 0.4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One version of an object, as it was read: what a write may go on from. ``attributes`` are without the marks."""

    data: bytes
    meta: ObjectMeta
    attributes: Attributes
    marks: tuple[str, ...]


async def look(store: ObjectStore, key: Key, *, head: bool = False, consistent: bool = True) -> Seen | None:
    """The object as it is now, in memory; None if there is none. Other errors are those of :meth:`ObjectStore.get`.

    ``head``: without its bytes. Without ``consistent`` it may be as it was some time ago, but sooner here.
    """
    options = GetOptions(head=head, consistent=newest(store) if consistent else False)
    try:
        async with await store.get(key, options) as found:
            data = await found.read()
    except NotFoundError:
        return None
    metadata = dict(found.attributes.metadata)
    marks = tuple(filter(None, metadata.pop(MARKS, "").split(",")))
    return Seen(data=data, meta=found.meta, attributes=replace(found.attributes, metadata=metadata), marks=marks)


def newest(store: ObjectStore) -> bool | None:
    """How to ask for ``consistent`` reads, however the store was opened, without being refused where it has none."""
    return None if store.capabilities.consistency == "eventual" else True


def require_conditions(store: ObjectStore, key: Key) -> None:
    """UnsupportedOperationError, before anything is done, if the store cannot compare and set."""
    names = ("put_create", "put_update", "attributes")
    missing = [name for name in names if not getattr(store.capabilities, name)]
    if store.capabilities.consistency == "eventual":
        missing.append("consistency")  # so that one's own writes can be looked for
    if missing:
        msg = (
            f"this takes conditional writes, and the store has no {', '.join(missing)}"
            " (some stores know what they can only when prepare() has asked)"
        )
        raise UnsupportedOperationError(msg, store=store.name, key=str(key))


async def compare_and_set(
    store: ObjectStore, key: Key, seen: Seen | None, data: bytes, *, attributes: Attributes = NO_ATTRIBUTES
) -> PutResult:
    """Replace what was seen, or make the object where nothing was; all or nothing.

    AlreadyExistsError or PreconditionFailedError: another version stands there, and this was not written. The answer
    is without an e_tag if this was written and has been replaced since. Writes that get no answer are repeated; a
    TransientStoreError in the end means that this may have been written, or still be. UnsupportedOperationError if
    the store has no conditional writes, or no attributes, or no reads that see all writes before.

    Where e_tags are digests of the bytes (S3), bytes that were replaced and came back are the version that was seen.
    """
    require_conditions(store, key)
    write = _Write(store, key, seen, data, attributes)
    for pause in _PAUSES:
        try:
            return await write.attempt()
        except ThrottledError:
            pass  # nothing was done
        except TransientStoreError as error:
            write.unanswered = error
        await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - not to come back all at once
    try:
        return await write.attempt()
    except ThrottledError as error:
        raise write.unanswered or error from None


class _Write:
    """One write, under one mark however often it is attempted. ``unanswered``: why an attempt may have been done."""

    def __init__(self, store: ObjectStore, key: Key, seen: Seen | None, data: bytes, attributes: Attributes) -> None:
        self._store = store
        self._key = key
        self._seen = seen
        self._data = data
        self._mark = secrets.token_urlsafe(6)
        marks = (self._mark, *(seen.marks if seen else ()))[:_HISTORY]
        metadata = {**attributes.metadata, MARKS: ",".join(marks)}
        self._options = PutOptions(
            mode=UpdateVersion(seen.meta.e_tag, seen.meta.version) if seen else "create",
            attributes=replace(attributes, metadata=metadata),
        )
        self.unanswered: TransientStoreError | None = None

    async def attempt(self) -> PutResult:
        try:
            return await self._store.put(self._key, self._data, self._options)
        except (AlreadyExistsError, PreconditionFailedError):
            now = await look(self._store, self._key, head=True)
            if now is not None and self._mark in now.marks:
                return self._written(now)
            if self.unanswered is not None and not self._reaches_back(now):
                raise self.unanswered from None
            raise

    def _written(self, now: Seen) -> PutResult:
        is_newest = now.marks[0] == self._mark
        return PutResult(e_tag=now.meta.e_tag, version=now.meta.version) if is_newest else PutResult()

    def _reaches_back(self, now: Seen | None) -> bool:
        """Whether the marks go back to what was seen, so that one that is not among them was never there."""
        if now is None:
            return False
        if self._seen and self._seen.marks:
            return self._seen.marks[0] in now.marks
        return 0 < len(now.marks) < _HISTORY
