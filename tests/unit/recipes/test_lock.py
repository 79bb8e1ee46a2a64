import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta

import pytest
from typing_extensions import override

from rindle.objectstore.base import MultipartStore, ObjectStore
from rindle.objectstore.errors import AlreadyExistsError, StoreUnavailableError, UnsupportedOperationError
from rindle.objectstore.ext import exists, read
from rindle.objectstore.memory import MemoryStore
from rindle.objectstore.payload import Payload
from rindle.objectstore.types import Capabilities, PutOptions, PutResult
from rindle.recipes import Lock, LockedError, LockLostError
from rindle.testing.faults import FaultyStore
from tests.stores import LaggingStore, lose_answers
from tests.virtual_time import now, virtually

NO_TIME = timedelta(0)
LEASE = timedelta(seconds=30)


@pytest.fixture
def in_memory() -> FaultyStore:
    return FaultyStore(MemoryStore())


@asynccontextmanager
async def lasting(least: float, most: float | None = None) -> AsyncIterator[None]:
    """That the block takes so many seconds."""
    began = now()
    yield
    assert least <= now() - began <= (most or least)


async def forever() -> None:
    await asyncio.Event().wait()


class DetachedPut(FaultyStore):
    """The first put goes on when its caller has been cut off."""

    def __init__(self, inner: MultipartStore) -> None:
        super().__init__(inner)
        self.reached = asyncio.Event()
        self.go_on = asyncio.Event()
        self.under_way: list[asyncio.Task[PutResult]] = []

    @override
    async def _put(self, key: str, payload: Payload, options: PutOptions) -> PutResult:
        if self.under_way:
            return await super()._put(key, payload, options)
        self.under_way.append(asyncio.create_task(self._put_later(key, payload, options)))
        self.reached.set()
        return await asyncio.shield(self.under_way[0])

    async def _put_later(self, key: str, payload: Payload, options: PutOptions) -> PutResult:
        await self.go_on.wait()
        return await self.inner.put(key, payload, options)


def cut_off(store: FaultyStore, *operations: str) -> None:
    """From now on these get no answer, and are not done."""

    async def fail(operation: str, key: str) -> None:
        if operation in operations:
            msg = "cut off"
            raise StoreUnavailableError(msg, store=store.name, key=key)

    store.before = fail


class TestHolding:
    async def test_one_holds_it_and_others_do_not(self, any_store: ObjectStore) -> None:
        mine, yours = (Lock(any_store, "locks/nightly", who=who) for who in ("me", "you"))
        async with mine.hold():
            with pytest.raises(LockedError) as locked:
                await yours.acquire(timeout=NO_TIME)
            assert locked.value.holder.who == "me"
        async with yours.hold(timeout=NO_TIME) as holder:
            assert holder.who == "you"
        assert await mine.find_holder() is None

    async def test_by_hand(self, any_store: ObjectStore) -> None:
        lock = Lock(any_store, "key")
        holder = await lock.acquire()
        await lock.renew(holder)
        found = await lock.find_holder()
        assert found is not None
        assert (found.id, found.renewals) == (holder.id, 1)
        await lock.release(holder)
        assert await lock.find_holder() is None
        for after in (lock.renew, lock.release):
            with pytest.raises(LockLostError):
                await after(holder)

    async def test_tokens_grow_with_every_holder(self, any_store: ObjectStore) -> None:
        lock = Lock(any_store, "key")
        tokens = []
        for _ in range(3):
            async with lock.hold() as holder:
                tokens.append(holder.token)
        assert tokens == [1, 2, 3]

    async def test_where_reads_may_be_old_a_holder_knows_his_own_lock(self) -> None:
        store = LaggingStore()
        async with Lock(store, "key").hold():
            with pytest.raises(LockedError):
                await Lock(store, "key").acquire(timeout=NO_TIME)
            store.settle()
        async with Lock(store, "key").hold(timeout=NO_TIME):
            pass

    async def test_people_can_read_who_holds_it(self, in_memory: FaultyStore) -> None:
        async with Lock(in_memory, "key").hold() as holder:
            fields = json.loads(await read(in_memory, "key"))
            assert fields["who"] == holder.who
            assert holder.who.endswith(f"@{socket.gethostname()} (pid {os.getpid()})")
            assert (fields["token"], fields["lease"], "released" in fields) == (1, 30, False)
        assert "released" in json.loads(await read(in_memory, "key"))

    def test_it_is_renewed_while_the_block_runs(self, in_memory: FaultyStore) -> None:
        async def hold() -> None:
            async with Lock(in_memory, "key", lease=LEASE).hold():
                await asyncio.sleep(3600)
                with pytest.raises(LockedError):
                    await Lock(in_memory, "key", lease=LEASE).acquire(timeout=LEASE * 3)

        virtually(hold())

    async def test_an_error_of_the_block_sets_it_free_and_comes_through(self, any_store: ObjectStore) -> None:
        lock = Lock(any_store, "key")
        with pytest.raises(ZeroDivisionError):
            async with lock.hold():
                raise ZeroDivisionError
        assert await lock.find_holder() is None

    async def test_a_timeout_of_the_block_is_its_own(self, in_memory: FaultyStore) -> None:
        with pytest.raises(TimeoutError) as raised:
            async with Lock(in_memory, "key").hold(), asyncio.timeout(0):
                await forever()
        assert not isinstance(raised.value, LockedError)

    async def test_a_cancelled_block_sets_it_free(self, any_store: ObjectStore) -> None:
        lock = Lock(any_store, "key")
        held = asyncio.Event()

        async def hold() -> None:
            async with lock.hold():
                held.set()
                await forever()

        task = asyncio.create_task(hold())
        await held.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await lock.find_holder() is None

    def test_one_that_cannot_be_given_back_ends_with_its_lease(
        self, in_memory: FaultyStore, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def hold() -> None:
            async with Lock(in_memory, "key", lease=LEASE).hold():
                cut_off(in_memory, "put")
            in_memory.before = None
            async with lasting(30):
                await Lock(in_memory, "key").acquire()

        virtually(hold())
        assert "the lock 'key' was not given back, and ends with its lease: memory: cut off" in caplog.text

    @pytest.mark.parametrize("lease", [timedelta(0), timedelta(seconds=-1)])
    def test_a_lease_that_is_none(self, lease: timedelta) -> None:
        with pytest.raises(ValueError, match="a lease lasts longer than nothing"):
            Lock(MemoryStore(), "key", lease=lease)

    async def test_a_store_without_conditional_writes_is_refused_at_once(self, in_memory: FaultyStore) -> None:
        in_memory.capabilities = Capabilities(put_create=True, attributes=True)
        with pytest.raises(UnsupportedOperationError, match="put_update"):
            await Lock(in_memory, "key").acquire()
        assert not in_memory.calls


class TestWaiting:
    def test_it_is_had_soon_after_it_is_free(self, in_memory: FaultyStore) -> None:
        async def hold_for(seconds: float) -> None:
            async with Lock(in_memory, "key", lease=LEASE).hold():
                await asyncio.sleep(seconds)

        async def wait() -> None:
            holding = asyncio.create_task(hold_for(100))
            await asyncio.sleep(1)
            await Lock(in_memory, "key", lease=LEASE).acquire(timeout=timedelta(minutes=5))
            assert 100 <= now() <= 101
            await holding

        virtually(wait())

    def test_who_has_waited_long_enough_is_told_who_holds_it(self, in_memory: FaultyStore) -> None:
        async def wait() -> None:
            async with Lock(in_memory, "locks/key", who="ann@host", lease=LEASE).hold() as holder:
                with pytest.raises(LockedError) as locked:
                    await Lock(in_memory, "locks/key").acquire(timeout=timedelta(seconds=2))
                assert now() == 2
            assert locked.value.holder.id == holder.id
            assert str(locked.value) == (
                f"the lock 'locks/key' is held by ann@host since {holder.since:%Y-%m-%dT%H:%M:%SZ};"
                " it ends 30 s after the holder's last renewal, or by force_unlock()"
            )
            assert "ann" not in locked.value.public_message

        virtually(wait())

    def test_who_is_cancelled_is_told_who_holds_it(self, in_memory: FaultyStore) -> None:
        async def wait() -> None:
            async with Lock(in_memory, "key", who="ann@host").hold():
                with pytest.raises(TimeoutError) as raised:
                    async with asyncio.timeout(7):
                        await Lock(in_memory, "key").acquire()
            cancelled = raised.value.__cause__
            assert isinstance(cancelled, asyncio.CancelledError)
            assert "'key' is held by ann@host since" in cancelled.__notes__[0]

        virtually(wait())

    async def test_of_many_that_wait_all_have_it_in_turn(self) -> None:
        store = MemoryStore()
        inside = 0

        async def work() -> int:
            nonlocal inside
            async with Lock(store, "key").hold() as holder:
                inside += 1
                await asyncio.sleep(0)
                assert inside == 1
                inside -= 1
                return holder.token

        tokens = await asyncio.gather(*(work() for _ in range(10)))
        assert sorted(tokens) == list(range(1, 11))


class TestStaleness:
    @pytest.mark.parametrize("year", [1990, 2090])
    def test_a_silent_holder_is_replaced_after_his_lease_whatever_the_clocks_say(
        self, in_memory: FaultyStore, year: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def take_over() -> None:
            with monkeypatch.context() as patch:
                patch.setattr("rindle.objectstore.marker.utc_now", lambda: datetime(year, 1, 1, tzinfo=UTC))
                dead = await Lock(in_memory, "key", who="dead", lease=LEASE).acquire()
            await asyncio.sleep(1000)  # nobody looked meanwhile
            async with lasting(30):
                holder = await Lock(in_memory, "key", lease=timedelta(seconds=1)).acquire()
            assert holder.token == dead.token + 1

        virtually(take_over())
        assert "the lock 'key' was taken over from dead since" in caplog.text

    def test_a_holder_who_renews_late_but_in_time_keeps_it(self, in_memory: FaultyStore) -> None:
        async def wait() -> None:
            lock = Lock(in_memory, "key", lease=LEASE)
            holder = await lock.acquire()
            waiting = asyncio.create_task(Lock(in_memory, "key").acquire())
            for _ in range(5):
                await asyncio.sleep(29)
                await lock.renew(holder)
            assert not waiting.done()
            async with lasting(30, 31):  # from when it was seen, a pause later
                await waiting

        virtually(wait())

    @pytest.mark.parametrize("waiting", [2, 10])
    def test_of_all_who_wait_one_replaces_him(self, in_memory: FaultyStore, waiting: int) -> None:
        async def race() -> None:
            dead = await Lock(in_memory, "key", lease=LEASE).acquire()
            heirs = [
                asyncio.create_task(Lock(in_memory, "key", lease=LEASE).acquire(timeout=LEASE * 1.5))
                for _ in range(waiting)
            ]
            outcomes = await asyncio.gather(*heirs, return_exceptions=True)
            (winner,) = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
            assert winner.token == dead.token + 1
            assert sum(isinstance(outcome, LockedError) for outcome in outcomes) == waiting - 1
            found = await Lock(in_memory, "key").find_holder()
            assert found is not None
            assert found.id == winner.id

        virtually(race())

    async def test_a_holder_who_was_replaced_does_not_free_his_successor(self, in_memory: FaultyStore) -> None:
        lock = Lock(in_memory, "key", lease=timedelta(seconds=0.05))
        old = await lock.acquire()
        new = await Lock(in_memory, "key").acquire()
        for act in (lock.renew, lock.release):
            with pytest.raises(LockLostError):
                await act(old)
        found = await lock.find_holder()
        assert found is not None
        assert found.id == new.id


class TestLosing:
    def test_the_block_is_cancelled_when_the_lock_is_taken_away(self, in_memory: FaultyStore) -> None:
        async def hold() -> None:
            async with Lock(in_memory, "key", lease=LEASE).hold():
                await asyncio.sleep(101)
                assert await Lock(in_memory, "key").force_unlock() is not None
                await forever()

        async def check() -> None:
            with pytest.raises(LockLostError, match="the lock 'key' is no longer held by"):
                await hold()
            assert now() == 110, "told at the next renewal"

        virtually(check())

    def test_the_block_is_cancelled_before_others_may_take_a_lock_that_cannot_be_renewed(
        self, in_memory: FaultyStore
    ) -> None:
        async def hold() -> None:
            async with Lock(in_memory, "key", lease=LEASE).hold():
                await asyncio.sleep(11)  # it was renewed once, at 10
                cut_off(in_memory, "get", "put")
                await forever()

        async def inherit() -> float:
            await asyncio.sleep(1)
            await Lock(in_memory.inner, "key").acquire()
            return now()

        async def check() -> None:
            heir = asyncio.create_task(inherit())
            with pytest.raises(LockLostError):
                await hold()
            assert now() == 10 + 0.8 * 30
            assert not heir.done()
            assert await heir >= 10 + 30

        virtually(check())

    def test_a_store_that_hangs_is_asked_again(self, in_memory: FaultyStore) -> None:
        async def hang(operation: str, _: str) -> None:
            if operation == "get" and now() == 10:
                await asyncio.sleep(1000)

        async def hold() -> None:
            in_memory.before = hang
            async with Lock(in_memory, "key", lease=LEASE).hold():
                await asyncio.sleep(100)

        virtually(hold())

    def test_a_taking_whose_answer_came_too_late_is_lost_at_once(self, in_memory: FaultyStore) -> None:
        async def be_slow(operation: str, _: str) -> None:
            if operation == "put":
                in_memory.after = None
                await asyncio.sleep(1000)

        async def check() -> None:
            in_memory.after = be_slow
            with pytest.raises(LockLostError):
                async with Lock(in_memory, "key", lease=LEASE).hold():
                    await forever()
            assert now() == 1000

        virtually(check())

    async def test_a_block_that_ends_without_the_lock_is_told(self, any_store: ObjectStore) -> None:
        lock = Lock(any_store, "key")
        with pytest.raises(LockLostError):
            async with lock.hold():
                await lock.force_unlock()
        async with lock.hold():
            pass

    async def test_a_block_that_fails_without_the_lock_is_told_of_its_own_error(self, in_memory: FaultyStore) -> None:
        async def hold() -> None:
            async with Lock(in_memory, "key").hold():
                await Lock(in_memory, "key").force_unlock()
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await hold()

    def test_a_block_that_takes_no_notice_is_told_in_the_end(self, in_memory: FaultyStore) -> None:
        async def hold() -> None:
            async with Lock(in_memory, "key", lease=LEASE).hold():
                await Lock(in_memory, "key").force_unlock()
                with suppress(asyncio.CancelledError):
                    await forever()

        with pytest.raises(LockLostError):
            virtually(hold())

    def test_a_block_that_takes_no_notice_is_told_also_if_nobody_else_has_come(self, in_memory: FaultyStore) -> None:
        async def hold() -> None:
            async with Lock(in_memory, "key", lease=LEASE).hold():
                cut_off(in_memory, "get", "put")
                with suppress(asyncio.CancelledError):
                    await forever()
                in_memory.before = None

        with pytest.raises(LockLostError):
            virtually(hold())

    def test_who_is_cancelled_from_outside_stays_cancelled(self, in_memory: FaultyStore) -> None:
        async def hold() -> None:
            async with Lock(in_memory, "key", lease=LEASE).hold():
                await forever()

        async def check() -> None:
            task = asyncio.create_task(hold())
            await asyncio.sleep(100)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        virtually(check())


class TestForce:
    async def test_nobody_has_it(self, any_store: ObjectStore) -> None:
        assert await Lock(any_store, "key").force_unlock() is None
        assert not await exists(any_store, "key")

    async def test_whoever_has_it(self, any_store: ObjectStore) -> None:
        lock = Lock(any_store, "key", who="ann")
        held = await lock.acquire()
        forced = await lock.force_unlock()
        assert forced is not None
        assert (forced.id, forced.who) == (held.id, "ann")
        assert (await lock.acquire(timeout=NO_TIME)).token == held.token + 1

    async def test_only_the_one_that_is_meant(self, any_store: ObjectStore) -> None:
        lock = Lock(any_store, "key")
        first = await lock.acquire()
        await lock.release(first)
        second = await lock.acquire()
        assert await lock.force_unlock(first) is None
        found = await lock.find_holder()
        assert found is not None
        assert found.id == second.id
        assert await lock.force_unlock(second) is not None

    async def test_one_who_came_while_we_looked_stays(self, in_memory: FaultyStore) -> None:
        lock, other = Lock(in_memory, "key"), Lock(in_memory.inner, "key")
        first = await lock.acquire()

        async def change_hands(operation: str, _: str) -> None:
            if operation == "put":
                in_memory.before = None
                await other.release(first)
                await other.acquire()

        in_memory.before = change_hands
        assert await lock.force_unlock() is None
        found = await lock.find_holder()
        assert found is not None
        assert found.token == 2

    async def test_one_who_renewed_while_we_looked_loses_it(self, in_memory: FaultyStore) -> None:
        lock, other = Lock(in_memory, "key"), Lock(in_memory.inner, "key")
        first = await lock.acquire()

        async def renew(operation: str, _: str) -> None:
            if operation == "put":
                in_memory.before = None
                await other.renew(first)

        in_memory.before = renew
        assert await lock.force_unlock() is not None
        assert await lock.find_holder() is None

    @pytest.mark.parametrize(
        "data", [b"", b"somebody was here", b"[]", b'{"id": 1}', b'{"id": "1", "who": "x", "created": 5}']
    )
    async def test_a_marker_that_cannot_be_read_is_somebodys(self, in_memory: FaultyStore, data: bytes) -> None:
        await in_memory.put("key", data)
        lock = Lock(in_memory, "key")
        with pytest.raises(LockedError, match=r"somebody \(the marker cannot be read\); it ends by force_unlock"):
            await lock.acquire(timeout=NO_TIME)
        assert await lock.force_unlock() is not None
        await lock.acquire(timeout=NO_TIME)


class TestLostAnswers:
    async def test_every_step_knows_its_own_work(self, faulty: FaultyStore) -> None:
        lock = Lock(faulty, "key")
        lose_answers(faulty)
        holder = await lock.acquire(timeout=NO_TIME)
        lose_answers(faulty)
        await lock.renew(holder)
        lose_answers(faulty)
        await lock.release(holder)
        assert await lock.find_holder() is None

    async def test_one_that_was_given_back_and_taken_by_another_was_given_back(self, in_memory: FaultyStore) -> None:
        lock = Lock(in_memory, "key")
        holder = await lock.acquire()

        async def take(operation: str, key: str) -> None:
            if operation == "put":
                in_memory.after = None
                await Lock(in_memory.inner, "key").acquire()
                msg = "no answer"
                raise StoreUnavailableError(msg, store="memory", key=key)

        in_memory.after = take
        await lock.release(holder)
        assert await lock.find_holder() is not None

    async def test_one_that_was_taken_and_forced_before_we_knew_is_not_held(self, in_memory: FaultyStore) -> None:
        other = Lock(in_memory.inner, "key", who="other")

        async def force(operation: str, key: str) -> None:
            if operation == "put":
                in_memory.after = None
                await other.force_unlock()
                await other.acquire()
                msg = "no answer"
                raise StoreUnavailableError(msg, store="memory", key=key)

        in_memory.after = force
        with pytest.raises(LockedError) as locked:
            await Lock(in_memory, "key").acquire(timeout=NO_TIME)
        assert locked.value.holder.who == "other"

    @pytest.mark.parametrize("held_before", [False, True], ids=["never held", "held before"])
    @pytest.mark.parametrize("done", [False, True], ids=["not done", "done"])
    async def test_who_gets_no_answer_at_all_does_not_hold_it(
        self, in_memory: FaultyStore, *, held_before: bool, done: bool
    ) -> None:
        lock = Lock(in_memory, "key")
        if held_before:
            await lock.release(await lock.acquire())
        in_memory.calls.clear()
        silent = {("get", 2), ("get", 3)} if done else {("put", 1), ("put", 2), ("put", 3)}

        async def fail(operation: str, key: str) -> None:
            if (operation, in_memory.calls[operation]) in silent:
                msg = "no answer"
                raise StoreUnavailableError(msg, store="memory", key=key)

        in_memory.before = fail
        if done:
            lose_answers(in_memory)
        with pytest.raises(StoreUnavailableError):
            await lock.acquire()
        assert await lock.find_holder() is None
        await lock.acquire(timeout=NO_TIME)

    async def test_a_taking_that_is_still_under_way_when_it_is_given_up_comes_to_nothing(
        self, in_memory: FaultyStore
    ) -> None:
        """A request that was cut off on our side may still be done by the service, after we have looked."""
        store = DetachedPut(in_memory)
        taking = asyncio.create_task(Lock(store, "key").acquire())
        await store.reached.wait()
        taking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await taking
        store.go_on.set()
        with pytest.raises(AlreadyExistsError):
            await store.under_way[0]
        assert await Lock(in_memory, "key").find_holder() is None

    def test_who_cannot_make_sure_of_that_is_told(self, in_memory: FaultyStore) -> None:
        async def hang(operation: str, _: str) -> None:
            if operation == "put":
                await asyncio.sleep(1000)

        async def check() -> None:
            in_memory.before = hang
            taking = asyncio.create_task(Lock(in_memory, "key", who="ann").acquire())
            await asyncio.sleep(1)
            taking.cancel()
            with pytest.raises(asyncio.CancelledError) as cancelled:
                await taking
            (note,) = cancelled.value.__notes__
            assert "'key' may be left held by ann since" in note
            assert "no answer within 10 s" in note

        virtually(check())
