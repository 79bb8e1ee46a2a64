import asyncio
import json
import os
import socket
from datetime import timedelta

import pytest

from rindle.objectstore.base import ObjectStore
from rindle.objectstore.errors import StoreUnavailableError
from rindle.objectstore.ext import read
from rindle.objectstore.memory import MemoryStore
from rindle.snapshots import NoEncryption, SnapshotStore, StackLockedError, StackLockLostError
from rindle.snapshots.lock import StackLock
from rindle.testing.faults import FaultyStore
from tests.stores import lose_answers
from tests.virtual_time import now, virtually

NO_TIME = timedelta(0)


def lock_in(store: ObjectStore) -> StackLock:
    return SnapshotStore(store, "network", "prod", encrypter=NoEncryption()).lock


@pytest.fixture
def in_memory() -> FaultyStore:
    return FaultyStore(MemoryStore())


async def test_one_holds_it_and_others_do_not(any_store: ObjectStore) -> None:
    lock = lock_in(any_store)
    async with lock.hold(who="ann@host"):
        with pytest.raises(StackLockedError) as locked:
            await lock.acquire(timeout=NO_TIME)
        assert locked.value.holder.who == "ann@host"
    assert await lock.find_holder() is None
    async with lock.hold(timeout=NO_TIME):
        pass


async def test_the_marker_says_who_holds_it(in_memory: FaultyStore) -> None:
    async with lock_in(in_memory).hold() as holder:
        fields = json.loads(await read(in_memory, "network/prod/lock"))
        assert fields["id"] == holder.id
        assert fields["who"].endswith(f"@{socket.gethostname()} (pid {os.getpid()})")
        assert holder.since is not None
        assert fields["created"] == holder.since.isoformat()
        assert "lease" not in fields


def test_it_has_no_end_of_its_own(in_memory: FaultyStore) -> None:
    async def wait() -> None:
        lock = lock_in(in_memory)
        await lock.acquire(who="dead")
        with pytest.raises(StackLockedError):
            await lock.acquire(timeout=timedelta(minutes=5))

    virtually(wait())


def test_who_waited_long_enough_is_told_who_holds_it_since_when_and_what_to_do(in_memory: FaultyStore) -> None:
    async def wait() -> None:
        lock = lock_in(in_memory)
        holder = await lock.acquire(who="ann@host")
        with pytest.raises(StackLockedError) as locked:
            await lock.acquire(timeout=timedelta(seconds=2))
        assert now() == 2
        assert str(locked.value) == (
            f"network/prod is locked by ann@host since {holder.since:%Y-%m-%dT%H:%M:%SZ}; if that one is gone,"
            " take the lock away: force_unlock(), or `rindle state unlock --force`"
        )
        assert "ann" not in locked.value.public_message

    virtually(wait())


def test_it_is_had_within_a_second_after_it_is_free(in_memory: FaultyStore) -> None:
    async def wait() -> None:
        lock = lock_in(in_memory)
        holder = await lock.acquire()
        waiting = asyncio.create_task(lock.acquire())
        await asyncio.sleep(100.3)
        assert not waiting.done()
        await lock.release(holder)
        await waiting
        assert now() <= 101

    virtually(wait())


def test_who_is_cancelled_is_told_who_holds_it(in_memory: FaultyStore) -> None:
    async def wait() -> None:
        lock = lock_in(in_memory)
        async with lock.hold(who="ann@host"):
            with pytest.raises(TimeoutError) as raised:
                async with asyncio.timeout(7):
                    await lock.acquire()
        cancelled = raised.value.__cause__
        assert isinstance(cancelled, asyncio.CancelledError)
        assert "network/prod is locked by ann@host since" in cancelled.__notes__[0]

    virtually(wait())


async def test_of_many_that_wait_all_have_it_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rindle.snapshots.lock._POLL", 0)
    lock = lock_in(MemoryStore())
    inside = 0

    async def work() -> int:
        nonlocal inside
        async with lock.hold() as holder:
            inside += 1
            await asyncio.sleep(0)
            assert inside == 1
            inside -= 1
            return holder.token

    assert sorted(await asyncio.gather(*(work() for _ in range(10)))) == list(range(1, 11))


async def test_who_lost_it_by_force_is_told_and_does_not_free_the_next_one(any_store: ObjectStore) -> None:
    lock = lock_in(any_store)

    async def lose() -> None:
        async with lock.hold(who="ann"):
            assert await lock.force_unlock() is not None
            await lock.acquire(timeout=NO_TIME, who="bea")

    with pytest.raises(StackLockLostError, match="the lock of network/prod is no longer held by ann since"):
        await lose()
    found = await lock.find_holder()
    assert found is not None
    assert found.who == "bea"


async def test_a_block_that_fails_is_told_of_its_own_error_first(in_memory: FaultyStore) -> None:
    lock = lock_in(in_memory)

    async def fail(*, forced: bool) -> None:
        async with lock.hold():
            if forced:
                await lock.force_unlock()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as plain:
        await fail(forced=False)
    assert not hasattr(plain.value, "__notes__")
    assert await lock.find_holder() is None
    with pytest.raises(ZeroDivisionError) as forced:
        await fail(forced=True)
    assert "and the lock of network/prod was not given back: the lock of" in forced.value.__notes__[0]


async def test_a_block_that_is_cancelled_gives_it_back(any_store: ObjectStore) -> None:
    lock = lock_in(any_store)
    held = asyncio.Event()

    async def hold() -> None:
        async with lock.hold():
            held.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(hold())
    await held.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await lock.find_holder() is None


async def test_a_second_cancellation_does_not_keep_it_from_being_given_back(in_memory: FaultyStore) -> None:
    lock = lock_in(in_memory)
    held, giving_back, go_on = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        async with lock.hold():
            held.set()
            await asyncio.Event().wait()

    async def pause(operation: str, _: str) -> None:
        if operation == "put":
            giving_back.set()
            await go_on.wait()

    task = asyncio.create_task(hold())
    await held.wait()
    in_memory.before = pause
    task.cancel()
    await giving_back.wait()
    task.cancel()
    await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await lock.find_holder() is None


async def test_one_that_cannot_be_given_back_is_said(in_memory: FaultyStore) -> None:
    async def fail(operation: str, key: str) -> None:
        msg = "cut off"
        raise StoreUnavailableError(msg, store="memory", key=key)

    async def hold() -> None:
        async with lock_in(in_memory).hold():
            in_memory.before = fail

    with pytest.raises(StoreUnavailableError):
        await hold()


async def test_forcing_is_for_the_one_that_is_meant(any_store: ObjectStore) -> None:
    lock = lock_in(any_store)
    assert await lock.force_unlock() is None
    first = await lock.acquire()
    await lock.release(first)
    second = await lock.acquire()
    assert await lock.force_unlock(first) is None
    forced = await lock.force_unlock(second)
    assert forced is not None
    assert forced.id == second.id
    with pytest.raises(StackLockLostError):
        await lock.release(second)


async def test_a_lost_answer_does_not_lock_oneself_out(faulty: FaultyStore) -> None:
    lock = lock_in(faulty)
    lose_answers(faulty)
    holder = await lock.acquire(timeout=NO_TIME)
    lose_answers(faulty)
    await lock.release(holder)
    assert await lock.find_holder() is None


async def test_who_is_cancelled_while_taking_it_does_not_hold_it(in_memory: FaultyStore) -> None:
    lock = lock_in(in_memory)
    done = asyncio.Event()

    async def answer_late(operation: str, _: str) -> None:
        if operation == "put":
            in_memory.after = None
            done.set()
            await asyncio.Event().wait()

    in_memory.after = answer_late
    taking = asyncio.create_task(lock.acquire())
    await done.wait()
    assert await lock.find_holder() is not None
    taking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await taking
    assert await lock.find_holder() is None
