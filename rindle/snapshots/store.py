"""Versions of a state, each kept under its revision, and a pointer to the current one.

::

    [<prefix>/]<factory>/<stack>/
      current                     the revision of the current snapshot, and a newline
      lock                        who holds the stack's lock
      snapshots/<rev>.json.enc    a snapshot in its envelope
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import EllipsisType

from rindle.clock import wall_time_ns
from rindle.objectstore.base import ObjectStore
from rindle.objectstore.cas import Seen, compare_and_set, look, newest
from rindle.objectstore.errors import AlreadyExistsError, InvalidKeyError, PreconditionFailedError
from rindle.objectstore.keys import validate_key
from rindle.objectstore.types import Attributes
from rindle.snapshots.encrypters import Encrypter
from rindle.snapshots.envelope import open_envelope, pack
from rindle.snapshots.errors import (
    CurrentMovedError,
    CurrentSnapshotError,
    NoCurrentError,
    RevisionsExhaustedError,
    SnapshotNotFoundError,
)
from rindle.snapshots.lock import StackLock
from rindle.snapshots.revisions import SUFFIXES, is_revision, make_revision, sort_revisions

_SUFFIX = ".json.enc"
_JSON = Attributes(content_type="application/json")
_TEXT = Attributes(content_type="text/plain")


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A state as it was written under a revision."""

    rev: str
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What a collection did, by revision in the order of time. ``failed``: why some are still there."""

    deleted: Sequence[str]
    kept: Sequence[str]
    failed: Mapping[str, Exception] = field(default_factory=dict)


class SnapshotStore:
    """The snapshots of one stack of a factory, in any object store. ``lock`` keeps others from changing them too.

    Snapshots are never changed. What writes needs a store with conditional writes: UnsupportedOperationError else.
    Errors of the object store are raised as they are; after a TransientStoreError the write may have been done.
    """

    def __init__(self, store: ObjectStore, factory: str, stack: str, *, encrypter: Encrypter, prefix: str = "") -> None:
        """ValueError (an InvalidKeyError) if the names make no key."""
        for what, name in (("factory", factory), ("stack", stack)):
            if "/" in name:
                msg = f"the name of a {what} holds no '/'"
                raise InvalidKeyError(msg, store=store.name, key=name)
            validate_key(name, store=store.name)
        self._store = store
        self._factory = factory
        self._stack = stack
        self._encrypter = encrypter
        self._base = validate_key("/".join(filter(None, (prefix, factory, stack))), store=store.name)
        self._current_key = f"{self._base}/current"
        self.lock = StackLock(store, f"{self._base}/lock", f"{factory}/{stack}")

    @property
    def stack(self) -> str:
        """The stack's name."""
        return self._stack

    @property
    def factory(self) -> str:
        """The factory's name."""
        return self._factory

    # Snapshots

    async def write(self, data: bytes) -> str:
        """Keep a state; its revision, which is new. The current snapshot stays the same until :meth:`set_current`.

        The revision is the time by this machine's clock, with a suffix if another was written in that nanosecond.
        RevisionsExhaustedError after a hundred of those.
        """
        now = wall_time_ns()
        for number in range(SUFFIXES):
            rev = make_revision(now, number)
            sealed = await self._encrypter.seal(data, place=self._place(rev))
            try:
                await compare_and_set(self._store, self._key(rev), None, pack(sealed), attributes=_JSON)
            except AlreadyExistsError:
                continue
            return rev
        msg = f"{SUFFIXES} snapshots of {self._factory}/{self._stack} have the revision {make_revision(now)}; try again"
        raise RevisionsExhaustedError(msg)

    async def get(self, rev: str) -> Snapshot:
        """The snapshot of a revision. SnapshotNotFoundError, DamagedSnapshotError, WrongKeyError, KeyServiceError."""
        found = await look(self._store, self._key(rev))
        if found is None:
            raise self._not_found(rev)
        return Snapshot(rev=rev, data=await open_envelope(found.data, self._encrypter, place=self._place(rev)))

    async def require(self, rev: str) -> None:
        """SnapshotNotFoundError if there is no such snapshot."""
        if await look(self._store, self._key(rev), head=True) is None:
            raise self._not_found(rev)

    async def list(self) -> list[str]:
        """The revisions of all snapshots, the oldest first; then those that have been given other names."""
        folder = f"{self._base}/snapshots/"
        found = self._store.list(folder, consistent=newest(self._store))
        names = [meta.key.removeprefix(folder) async for meta in found]
        return sort_revisions(
            name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX) and "/" not in name
        )

    async def delete(self, rev: str) -> None:
        """Remove a snapshot; one that is not there is fine. CurrentSnapshotError for the current one.

        Hold the lock, so that nobody makes it the current one meanwhile.
        """
        key = self._key(rev)
        if rev == await self.find_current_rev():
            msg = f"{rev} is the current snapshot of {self._factory}/{self._stack}; make another one current first"
            raise CurrentSnapshotError(msg)
        await self._store.delete(key)

    async def collect(self, keep: int, *, dry_run: bool = False) -> Collected:
        """Remove all but the ``keep`` newest snapshots and the current one. ``dry_run``: only say which that would be.

        What has another name than a revision stays. A snapshot that cannot be removed does not stop the rest. Hold the
        lock, so that nobody makes one of them the current one meanwhile.
        """
        if keep < 0:
            msg = f"one keeps no fewer than 0 snapshots, not {keep}"
            raise ValueError(msg)
        current = await self.find_current_rev()
        revs = [rev for rev in await self.list() if is_revision(rev)]
        surplus = [rev for rev in revs[: max(0, len(revs) - keep)] if rev != current]
        results = [] if dry_run else await self._store.delete_many([self._key(rev) for rev in surplus])
        errors = zip(surplus, (result.error for result in results), strict=not dry_run)
        failed = {rev: error for rev, error in errors if error is not None}
        gone = set(surplus) - set(failed)
        return Collected(
            deleted=[rev for rev in revs if rev in gone], kept=[rev for rev in revs if rev not in gone], failed=failed
        )

    # Which one is current

    async def current(self) -> Snapshot:
        """The current snapshot. NoCurrentError, and the errors of :meth:`get`."""
        return await self.get(await self.current_rev())

    async def current_rev(self) -> str:
        """The revision of the current snapshot. NoCurrentError."""
        rev = await self.find_current_rev()
        if rev is None:
            msg = f"{self._factory}/{self._stack} has no current snapshot"
            raise NoCurrentError(msg)
        return rev

    async def find_current_rev(self) -> str | None:
        """As :meth:`current_rev`; None if there is none."""
        return _rev_in(await look(self._store, self._current_key))

    async def set_current(self, rev: str, *, replacing: str | EllipsisType | None = ...) -> None:
        """Make a snapshot the current one, if still the one is current that it is to replace.

        That is ``replacing`` (None: none is), or the one that is when this begins. One that is current already is fine.
        CurrentMovedError: somebody else was quicker, and theirs stays. SnapshotNotFoundError.
        """
        await self.require(rev)
        seen = await look(self._store, self._current_key)
        current = _rev_in(seen)
        if current == rev:
            return
        if not isinstance(replacing, EllipsisType) and current != replacing:
            raise self._moved(rev, current)
        try:
            await compare_and_set(self._store, self._current_key, seen, f"{rev}\n".encode(), attributes=_TEXT)
        except (AlreadyExistsError, PreconditionFailedError) as error:
            raise self._moved(rev, await self.find_current_rev()) from error

    def _key(self, rev: str) -> str:
        if "/" in rev:
            raise self._not_found(rev)
        return f"{self._base}/snapshots/{rev}{_SUFFIX}"

    def _place(self, rev: str) -> str:
        return f"{self._factory}/{self._stack}/{rev}"

    def _not_found(self, rev: str) -> SnapshotNotFoundError:
        return SnapshotNotFoundError(f"there is no snapshot {rev!r} of {self._factory}/{self._stack}")

    def _moved(self, rev: str, current: str | None) -> CurrentMovedError:
        stands = "no snapshot is current" if current is None else f"{current} has become the current snapshot"
        msg = f"{rev} was not made current: {stands} of {self._factory}/{self._stack} meanwhile"
        return CurrentMovedError(msg, current)


def _rev_in(pointer: Seen | None) -> str | None:
    return None if pointer is None else pointer.data.decode(errors="replace").strip() or None
