import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace

import pytest
from typing_extensions import override

from rindle.objectstore.base import ObjectStore
from rindle.objectstore.errors import (
    InvalidKeyError,
    PermissionDeniedError,
    StoreUnavailableError,
    UnsupportedOperationError,
)
from rindle.objectstore.ext import exists, read
from rindle.objectstore.memory import MemoryStore
from rindle.objectstore.types import Capabilities, DeleteResult
from rindle.snapshots import (
    CurrentMovedError,
    CurrentSnapshotError,
    DamagedSnapshotError,
    NoCurrentError,
    NoEncryption,
    RevisionsExhaustedError,
    Snapshot,
    SnapshotNotFoundError,
    SnapshotStore,
)
from rindle.snapshots.revisions import make_revision
from rindle.testing.faults import FaultyStore
from tests.stores import LaggingStore, lose_answers

NOON = 1_767_355_200_000_000_000
REV = "2026-01-02T12:00:00.000000000Z"


def snapshots_in(store: ObjectStore, *, prefix: str = "states", stack: str = "prod") -> SnapshotStore:
    return SnapshotStore(store, "network", stack, prefix=prefix, encrypter=NoEncryption())


class Stubborn(MemoryStore):
    """One object may not be removed."""

    stays = ""

    @override
    async def _delete_many(self, keys: Sequence[str]) -> Sequence[DeleteResult]:
        denied = PermissionDeniedError("not this one", store=self.name, key=self.stays)
        await super()._delete_many([key for key in keys if key != self.stays])
        return [DeleteResult(key, denied if key == self.stays else None) for key in keys]


@pytest.fixture
def in_memory() -> FaultyStore:
    return FaultyStore(MemoryStore())


@pytest.fixture
def frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rindle.snapshots.store.wall_time_ns", lambda: NOON)


async def keys(store: ObjectStore) -> list[str]:
    return [meta.key async for meta in store.list()]


class TestSnapshots:
    async def test_what_was_written_can_be_read(self, any_store: ObjectStore) -> None:
        snapshots = snapshots_in(any_store)
        first, second = await snapshots.write(b"one"), await snapshots.write(b"")
        assert await snapshots.get(first) == Snapshot(rev=first, data=b"one")
        assert await snapshots.get(second) == Snapshot(rev=second, data=b"")
        assert await snapshots.list() == [first, second]

    @pytest.mark.parametrize(("prefix", "base"), [("", ""), ("a/b", "a/b/")])
    @pytest.mark.usefixtures("frozen")
    async def test_where_it_all_lies(self, in_memory: FaultyStore, prefix: str, base: str) -> None:
        snapshots = snapshots_in(in_memory, prefix=prefix)
        rev = await snapshots.write(b"state")
        await snapshots.set_current(rev)
        async with snapshots.lock.hold():
            pass
        assert await keys(in_memory) == [
            f"{base}network/prod/current",
            f"{base}network/prod/lock",
            f"{base}network/prod/snapshots/{REV}.json.enc",
        ]
        assert await read(in_memory, f"{base}network/prod/current") == f"{REV}\n".encode()
        assert (snapshots.factory, snapshots.stack) == ("network", "prod")

    @pytest.mark.parametrize(
        ("factory", "stack", "prefix"),
        [("", "s", ""), ("f", "", ""), ("a/b", "s", ""), ("f", "..", ""), ("f", "s", "/"), ("f", "s", "../up")],
    )
    def test_names_that_make_no_key(self, factory: str, stack: str, prefix: str) -> None:
        with pytest.raises(InvalidKeyError):
            SnapshotStore(MemoryStore(), factory, stack, prefix=prefix, encrypter=NoEncryption())

    async def test_stacks_do_not_see_each_other(self, in_memory: FaultyStore) -> None:
        one, other = snapshots_in(in_memory, stack="a"), snapshots_in(in_memory, stack="ab")
        rev = await one.write(b"one")
        await one.set_current(rev)
        assert await other.list() == []
        assert await other.find_current_rev() is None

    @pytest.mark.usefixtures("frozen")
    async def test_a_clock_that_stands_makes_suffixes(self, any_store: ObjectStore) -> None:
        snapshots = snapshots_in(any_store)
        revs = [await snapshots.write(b"%d" % number) for number in range(3)]
        assert revs == [REV, f"{REV}_01", f"{REV}_02"] == await snapshots.list()
        assert [(await snapshots.get(rev)).data for rev in revs] == [b"0", b"1", b"2"]

    @pytest.mark.usefixtures("frozen")
    async def test_of_many_at_once_none_is_lost(self, in_memory: FaultyStore) -> None:
        snapshots = snapshots_in(in_memory)
        revs = await asyncio.gather(*(snapshots.write(b"%d" % number) for number in range(30)))
        assert sorted(revs) == await snapshots.list()
        assert [(await snapshots.get(rev)).data for rev in revs] == [b"%d" % number for number in range(30)]

    @pytest.mark.usefixtures("frozen")
    async def test_a_hundred_in_one_nanosecond_are_all(self, in_memory: FaultyStore) -> None:
        snapshots = snapshots_in(in_memory)
        for number in range(99):
            await in_memory.put(f"states/network/prod/snapshots/{make_revision(NOON, number)}.json.enc", b"")
        assert await snapshots.write(b"") == f"{REV}_99"
        with pytest.raises(RevisionsExhaustedError, match=f"100 snapshots of network/prod have the revision {REV}"):
            await snapshots.write(b"")

    @pytest.mark.usefixtures("frozen")
    async def test_a_lost_answer_makes_no_second_snapshot(self, faulty: FaultyStore) -> None:
        snapshots = snapshots_in(faulty)
        lose_answers(faulty)
        assert await snapshots.write(b"same") == REV
        assert await snapshots.list() == [REV]
        assert await snapshots.write(b"same") == f"{REV}_01"

    @pytest.mark.parametrize("rev", [REV, "nonsense", "a/b", "../current", ""])
    async def test_a_revision_that_is_not_there(self, in_memory: FaultyStore, rev: str) -> None:
        snapshots = snapshots_in(in_memory)
        with pytest.raises(SnapshotNotFoundError, match=r"there is no snapshot .* of network/prod"):
            await snapshots.get(rev)
        with pytest.raises(SnapshotNotFoundError):
            await snapshots.set_current(rev)
        assert await keys(in_memory) == []

    async def test_other_names_come_last_and_other_things_not_at_all(self, in_memory: FaultyStore) -> None:
        snapshots = snapshots_in(in_memory)
        folder = "states/network/prod/snapshots"
        names = ("2026-01-02T12:00:00Z", "2026-01-02T12:00:00.1Z", "mine")
        for name in (*(f"{name}.json.enc" for name in names), "notes.txt", "deeper/2026-01-02T12:00:00Z.json.enc"):
            await in_memory.put(f"{folder}/{name}", b"")
        assert await snapshots.list() == list(names)

    async def test_what_is_no_envelope_is_said_to_be_damaged(self, in_memory: FaultyStore) -> None:
        snapshots = snapshots_in(in_memory)
        rev = await snapshots.write(b"state")
        for damaged in (b"", b"state", b"{}", b'{"format": "rindle-snapshot-2"}', b"\xff"):
            await in_memory.put(f"states/network/prod/snapshots/{rev}.json.enc", damaged)
            with pytest.raises(DamagedSnapshotError, match=f"network/prod/{rev} is not a snapshot of the format"):
                await snapshots.get(rev)


class TestCurrent:
    async def test_it_is_what_was_set_last(self, any_store: ObjectStore) -> None:
        snapshots = snapshots_in(any_store)
        first = await snapshots.write(b"one")
        await snapshots.set_current(first)
        second = await snapshots.write(b"two")
        assert await snapshots.current() == Snapshot(rev=first, data=b"one")
        await snapshots.set_current(second)
        assert await snapshots.current_rev() == second
        await snapshots.set_current(first)
        assert await snapshots.current_rev() == first

    async def test_before_any_was_set(self, any_store: ObjectStore) -> None:
        snapshots = snapshots_in(any_store)
        await snapshots.write(b"one")
        for ask in (snapshots.current, snapshots.current_rev):
            with pytest.raises(NoCurrentError, match="network/prod has no current snapshot"):
                await ask()
        assert await snapshots.find_current_rev() is None

    async def test_an_empty_pointer_names_none(self, in_memory: FaultyStore) -> None:
        await in_memory.put("states/network/prod/current", b"\n")
        snapshots = snapshots_in(in_memory)
        with pytest.raises(NoCurrentError):
            await snapshots.current_rev()
        rev = await snapshots.write(b"one")
        await snapshots.set_current(rev, replacing=None)
        assert await snapshots.current_rev() == rev

    async def test_a_snapshot_that_is_not_there_does_not_become_it(self, any_store: ObjectStore) -> None:
        snapshots = snapshots_in(any_store)
        rev = await snapshots.write(b"one")
        await snapshots.set_current(rev)
        with pytest.raises(SnapshotNotFoundError):
            await snapshots.set_current(REV)
        assert await snapshots.current_rev() == rev

    async def test_who_goes_on_from_another_one_is_told(self, any_store: ObjectStore) -> None:
        snapshots = snapshots_in(any_store)
        base, mine, theirs = [await snapshots.write(b"") for _ in range(3)]
        await snapshots.set_current(base, replacing=None)
        await snapshots.set_current(theirs, replacing=base)
        for replacing in (base, None):
            with pytest.raises(CurrentMovedError, match=f"{mine} was not made current: {theirs} has become") as moved:
                await snapshots.set_current(mine, replacing=replacing)
            assert moved.value.current == theirs
        assert await snapshots.current_rev() == theirs

    @pytest.mark.parametrize(
        ("moment", "call"), [("after", ("get", 2)), ("before", ("put", 1))], ids=["after it looked", "before it writes"]
    )
    async def test_who_loses_a_race_is_told(self, in_memory: FaultyStore, moment: str, call: tuple[str, int]) -> None:
        ours, others = snapshots_in(in_memory), snapshots_in(in_memory.inner)
        base, mine, theirs = [await ours.write(b"") for _ in range(3)]
        await ours.set_current(base)

        async def be_quicker(operation: str, _: str) -> None:
            if (operation, in_memory.calls[operation]) == call:
                await others.set_current(theirs)

        in_memory.calls.clear()
        setattr(in_memory, moment, be_quicker)
        with pytest.raises(CurrentMovedError) as moved:
            await ours.set_current(mine)
        assert moved.value.current == await ours.current_rev() == theirs

    async def test_of_many_at_once_one_is_set(self, in_memory: FaultyStore) -> None:
        snapshots = snapshots_in(in_memory)
        revs = [await snapshots.write(b"") for _ in range(10)]
        outcomes = await asyncio.gather(
            *(snapshots.set_current(rev, replacing=None) for rev in revs), return_exceptions=True
        )
        (winner,) = [rev for rev, outcome in zip(revs, outcomes, strict=True) if outcome is None]
        assert await snapshots.current_rev() == winner
        assert sum(isinstance(outcome, CurrentMovedError) for outcome in outcomes) == 9

    async def test_setting_it_again_is_fine(self, in_memory: FaultyStore) -> None:
        snapshots = snapshots_in(in_memory)
        first, second = [await snapshots.write(b"") for _ in range(2)]
        await snapshots.set_current(first)
        await snapshots.set_current(second, replacing=first)
        await snapshots.set_current(second, replacing=first)
        assert await snapshots.current_rev() == second

    async def test_a_lost_answer_is_no_lost_race(self, faulty: FaultyStore) -> None:
        snapshots = snapshots_in(faulty)
        first, second = [await snapshots.write(b"") for _ in range(2)]
        lose_answers(faulty)
        await snapshots.set_current(first, replacing=None)
        lose_answers(faulty)
        await snapshots.set_current(second, replacing=first)
        assert await snapshots.current_rev() == second


class TestRemoving:
    async def test_a_snapshot(self, any_store: ObjectStore) -> None:
        snapshots = snapshots_in(any_store)
        old, current = [await snapshots.write(b"") for _ in range(2)]
        await snapshots.set_current(current)
        await snapshots.delete(old)
        await snapshots.delete(old)
        assert await snapshots.list() == [current]
        with pytest.raises(CurrentSnapshotError, match=f"{current} is the current snapshot of network/prod"):
            await snapshots.delete(current)
        assert await snapshots.list() == [current]

    @pytest.mark.parametrize("keep", [0, 1, 2, 5, 6])
    async def test_all_but_some(self, any_store: ObjectStore, keep: int) -> None:
        snapshots = snapshots_in(any_store)
        revs = [await snapshots.write(b"") for _ in range(5)]
        await snapshots.set_current(revs[1])
        expected = [rev for rev in revs if rev == revs[1] or rev in revs[5 - min(keep, 5) :]]
        planned = await snapshots.collect(keep, dry_run=True)
        assert await snapshots.list() == revs
        done = await snapshots.collect(keep)
        assert planned == done
        assert list(done.kept) == expected == await snapshots.list()
        assert list(done.deleted) == [rev for rev in revs if rev not in expected]
        assert not done.failed

    async def test_what_others_have_put_there_stays_and_is_not_counted(self, in_memory: FaultyStore) -> None:
        snapshots = snapshots_in(in_memory)
        revs = [await snapshots.write(b"") for _ in range(3)]
        foreign = [f"states/network/prod/snapshots/{name}" for name in ("mine.json.enc", "notes.txt", "a/b.json.enc")]
        for key in foreign:
            await in_memory.put(key, b"")
        await snapshots.collect(1)
        assert await snapshots.list() == [revs[2], "mine"]
        assert all([await exists(in_memory, key) for key in foreign])

    async def test_one_that_cannot_be_removed_does_not_stop_the_rest(self) -> None:
        store = Stubborn()
        snapshots = snapshots_in(store)
        revs = [await snapshots.write(b"") for _ in range(4)]
        store.stays = f"states/network/prod/snapshots/{revs[1]}.json.enc"
        done = await snapshots.collect(1)
        assert list(done.deleted) == [revs[0], revs[2]]
        assert list(done.kept) == [revs[1], revs[3]] == await snapshots.list()
        assert isinstance(done.failed[revs[1]], PermissionDeniedError)

    async def test_fewer_than_none(self, in_memory: FaultyStore) -> None:
        with pytest.raises(ValueError, match="not -1"):
            await snapshots_in(in_memory).collect(-1)


async def test_a_store_without_conditional_writes_can_be_read_and_nothing_else(in_memory: FaultyStore) -> None:
    snapshots = snapshots_in(in_memory)
    rev = await snapshots.write(b"state")
    await snapshots.set_current(rev)
    await snapshots.write(b"other")
    in_memory.capabilities = Capabilities(put_create=True)
    assert (await snapshots.current()).data == b"state"
    before = await keys(in_memory)
    for write in (snapshots.write(b""), snapshots.set_current((await snapshots.list())[1]), snapshots.lock.acquire()):
        with pytest.raises(UnsupportedOperationError, match="this takes conditional writes, and the store has no"):
            await write
    assert await keys(in_memory) == before


async def test_what_the_store_says_comes_through(in_memory: FaultyStore) -> None:
    async def fail(operation: str, key: str) -> None:
        msg = "no answer"
        raise StoreUnavailableError(msg, store="memory", key=key)

    in_memory.before = fail
    snapshots = snapshots_in(in_memory)
    for act in (snapshots.current, snapshots.list, lambda: snapshots.write(b""), lambda: snapshots.get(REV)):
        with pytest.raises(StoreUnavailableError):
            await act()


async def test_an_envelope_says_how_it_is_sealed(in_memory: FaultyStore) -> None:
    rev = await snapshots_in(in_memory).write(b"state")
    fields = json.loads(await read(in_memory, f"states/network/prod/snapshots/{rev}.json.enc"))
    assert fields == {"format": "rindle-snapshot-1", "encrypter": {"name": "none"}, "ciphertext": "c3RhdGU="}


async def test_where_reads_may_be_old_what_was_written_is_there() -> None:
    snapshots = snapshots_in(LaggingStore())
    rev = await snapshots.write(b"state")
    await snapshots.set_current(rev)
    assert await snapshots.current() == Snapshot(rev=rev, data=b"state")
    assert await snapshots.list() == [rev]


async def test_where_reads_may_be_old_and_nothing_helps_they_are_read_all_the_same(in_memory: FaultyStore) -> None:
    snapshots = snapshots_in(in_memory)
    rev = await snapshots.write(b"state")
    await snapshots.set_current(rev)
    in_memory.capabilities = replace(in_memory.capabilities, consistency="eventual")
    assert (await snapshots.current()).data == b"state"
    assert await snapshots.list() == [rev]
    with pytest.raises(UnsupportedOperationError, match="consistency"):
        await snapshots.lock.acquire()
