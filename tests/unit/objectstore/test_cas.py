from collections.abc import Callable

import pytest

from rindle.objectstore.base import ObjectStore
from rindle.objectstore.cas import MARKS, Seen, compare_and_set, look
from rindle.objectstore.errors import (
    AlreadyExistsError,
    PermissionDeniedError,
    PreconditionFailedError,
    StoreTimeoutError,
    StoreUnavailableError,
    ThrottledError,
    UnsupportedOperationError,
)
from rindle.objectstore.ext import exists, read
from rindle.objectstore.memory import MemoryStore
from rindle.objectstore.types import Attributes, Capabilities, PutOptions
from rindle.testing.faults import FaultyStore
from tests.stores import LaggingStore, lose_answers

REFUSED = (AlreadyExistsError, PreconditionFailedError)


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rindle.objectstore.cas._PAUSES", (0, 0))


@pytest.fixture
def in_memory() -> FaultyStore:
    return FaultyStore(MemoryStore())


async def found(store: ObjectStore, key: str = "key") -> Seen:
    seen = await look(store, key)
    assert seen is not None
    return seen


class TestWithoutFaults:
    async def test_an_object_is_made_where_there_is_none(self, faulty: FaultyStore) -> None:
        result = await compare_and_set(faulty, "key", None, b"one")
        seen = await found(faulty)
        assert (seen.data, seen.meta.e_tag) == (b"one", result.e_tag)

    async def test_an_object_is_not_made_twice(self, faulty: FaultyStore) -> None:
        await compare_and_set(faulty, "key", None, b"one")
        with pytest.raises(AlreadyExistsError):
            await compare_and_set(faulty, "key", None, b"two")
        assert await read(faulty, "key") == b"one"

    async def test_what_was_seen_is_replaced(self, faulty: FaultyStore) -> None:
        await compare_and_set(faulty, "key", None, b"one")
        result = await compare_and_set(faulty, "key", await found(faulty), b"two")
        now = await found(faulty)
        assert (now.data, now.meta.e_tag) == (b"two", result.e_tag)

    async def test_another_version_is_not_replaced(self, faulty: FaultyStore) -> None:
        await compare_and_set(faulty, "key", None, b"one")
        old = await found(faulty)
        await compare_and_set(faulty, "key", old, b"two")
        with pytest.raises(PreconditionFailedError):
            await compare_and_set(faulty, "key", old, b"three")
        assert await read(faulty, "key") == b"two"

    async def test_what_is_gone_is_not_replaced(self, faulty: FaultyStore) -> None:
        await compare_and_set(faulty, "key", None, b"one")
        old = await found(faulty)
        await faulty.delete("key")
        with pytest.raises(PreconditionFailedError):
            await compare_and_set(faulty, "key", old, b"two")
        assert not await exists(faulty, "key")

    async def test_attributes_are_kept_apart_from_the_marks(self, faulty: FaultyStore) -> None:
        attributes = Attributes(content_type="text/plain", metadata={"owner": "me"})
        await compare_and_set(faulty, "key", None, b"one", attributes=attributes)
        assert (await found(faulty)).attributes == attributes

    async def test_there_is_room_for_the_marks_however_many_writes_there_were(self, in_memory: FaultyStore) -> None:
        await compare_and_set(in_memory, "key", None, b"0")
        for number in range(1, 40):
            await compare_and_set(in_memory, "key", await found(in_memory), b"%d" % number)
        async with await in_memory.get("key") as result:
            assert len(result.attributes.metadata[MARKS]) < 300


class TestLostAnswers:
    @pytest.mark.parametrize("times", [1, 2])
    async def test_a_creation_is_known_to_be_ones_own(self, faulty: FaultyStore, times: int) -> None:
        lose_answers(faulty, times=times)
        result = await compare_and_set(faulty, "key", None, b"one")
        now = await found(faulty)
        assert (now.data, now.meta.e_tag) == (b"one", result.e_tag)

    async def test_a_replacement_is_known_to_be_ones_own(self, faulty: FaultyStore) -> None:
        await compare_and_set(faulty, "key", None, b"one")
        seen = await found(faulty)
        lose_answers(faulty)
        result = await compare_and_set(faulty, "key", seen, b"two")
        now = await found(faulty)
        assert (now.data, now.meta.e_tag) == (b"two", result.e_tag)

    async def test_the_same_bytes_of_somebody_else_are_not_ones_own(self, in_memory: FaultyStore) -> None:
        other = in_memory.inner

        async def be_quicker(operation: str, key: str) -> None:
            if operation == "put":
                in_memory.before = None
                await compare_and_set(other, key, None, b"same")
                msg = "cut off"
                raise StoreUnavailableError(msg, store=in_memory.name, key=key)

        in_memory.before = be_quicker
        with pytest.raises(AlreadyExistsError):
            await compare_and_set(in_memory, "key", None, b"same")

    async def test_a_write_that_others_have_gone_on_from_was_done(self, in_memory: FaultyStore) -> None:
        await compare_and_set(in_memory, "key", None, b"one")
        seen = await found(in_memory)
        self.then(in_memory, lambda now: b"after " + now)
        result = await compare_and_set(in_memory, "key", seen, b"two")
        assert result.e_tag is None
        assert await read(in_memory, "key") == b"after two"

    async def test_a_write_that_was_not_done_is_known_not_to_be(self, in_memory: FaultyStore) -> None:
        await compare_and_set(in_memory, "key", None, b"one")
        seen = await found(in_memory)
        await compare_and_set(in_memory, "key", seen, b"other")

        async def cut(operation: str, key: str) -> None:
            if operation == "put" and in_memory.calls["put"] == 3:
                msg = "cut off"
                raise StoreUnavailableError(msg, store=in_memory.name, key=key)

        in_memory.before = cut
        with pytest.raises(PreconditionFailedError):
            await compare_and_set(in_memory, "key", seen, b"two")

    async def test_a_store_that_repeats_a_call_and_refuses_what_it_has_done_is_not_believed(
        self, in_memory: FaultyStore
    ) -> None:
        async def refuse(operation: str, key: str) -> None:
            if operation == "put":
                in_memory.after = None
                msg = "met by its own repetition"
                raise AlreadyExistsError(msg, store=in_memory.name, key=key)

        in_memory.after = refuse
        assert (await compare_and_set(in_memory, "key", None, b"one")).e_tag == (await found(in_memory)).meta.e_tag

    @pytest.mark.parametrize("wipe", [True, False], ids=["overwritten without marks", "overwritten too often"])
    async def test_what_cannot_be_known_is_said(self, in_memory: FaultyStore, *, wipe: bool) -> None:
        await compare_and_set(in_memory, "key", None, b"one")
        seen = await found(in_memory)
        other = in_memory.inner

        async def bury(operation: str, key: str) -> None:
            if operation == "put":
                in_memory.after = None
                if wipe:
                    await other.put(key, b"plain")
                for number in range(0 if wipe else 40):
                    await compare_and_set(other, key, await found(other), b"%d" % number)
                msg = "no answer"
                raise StoreTimeoutError(msg, store=in_memory.name, key=key)

        in_memory.after = bury
        with pytest.raises(StoreTimeoutError):
            await compare_and_set(in_memory, "key", seen, b"two")

    async def test_a_deletion_afterwards_is_no_lost_race(self, in_memory: FaultyStore) -> None:
        await compare_and_set(in_memory, "key", None, b"one")
        seen = await found(in_memory)
        other = in_memory.inner

        async def remove(operation: str, key: str) -> None:
            if operation == "put":
                in_memory.after = None
                await other.delete(key)
                msg = "no answer"
                raise StoreTimeoutError(msg, store=in_memory.name, key=key)

        in_memory.after = remove
        with pytest.raises(StoreTimeoutError):
            await compare_and_set(in_memory, "key", seen, b"two")

    async def test_a_store_that_never_answers_is_given_up(self, in_memory: FaultyStore) -> None:
        lose_answers(in_memory, times=100)

        async def and_no_reads(operation: str, key: str) -> None:
            if operation == "get":
                msg = "no answer"
                raise StoreTimeoutError(msg, store=in_memory.name, key=key)

        in_memory.before = and_no_reads
        with pytest.raises(StoreTimeoutError):
            await compare_and_set(in_memory, "key", None, b"one")
        assert in_memory.calls["put"] == 3

    async def test_that_it_may_have_been_done_is_not_hidden_by_a_refusal_to_do_it_again(
        self, in_memory: FaultyStore
    ) -> None:
        kinds = iter([StoreTimeoutError, ThrottledError, ThrottledError])

        async def fail(operation: str, key: str) -> None:
            if operation == "put":
                msg = "as the test wants it"
                raise next(kinds)(msg, store=in_memory.name, key=key)

        in_memory.before = fail
        with pytest.raises(StoreTimeoutError):
            await compare_and_set(in_memory, "key", None, b"one")

    async def test_what_is_not_passing_is_not_repeated(self, in_memory: FaultyStore) -> None:
        async def deny(operation: str, key: str) -> None:
            msg = "not you"
            raise PermissionDeniedError(msg, store=in_memory.name, key=key)

        in_memory.before = deny
        with pytest.raises(PermissionDeniedError):
            await compare_and_set(in_memory, "key", None, b"one")
        assert in_memory.calls["put"] == 1

    @staticmethod
    def then(store: FaultyStore, change: Callable[[bytes], bytes]) -> None:
        """Let somebody else go on from the next put, whose answer is lost."""

        async def go_on(operation: str, key: str) -> None:
            if operation == "put":
                store.after = None
                seen = await found(store.inner, key)
                await compare_and_set(store.inner, key, seen, change(seen.data))
                msg = "no answer"
                raise StoreTimeoutError(msg, store=store.name, key=key)

        store.after = go_on


@pytest.mark.parametrize(
    ("able", "lacking"),
    [
        (Capabilities(put_update=True, attributes=True), "has no put_create "),
        (Capabilities(put_create=True, attributes=True), "has no put_update "),
        (Capabilities(put_create=True, put_update=True), "has no attributes "),
        (Capabilities(), "has no put_create, put_update, attributes "),
        (
            Capabilities(put_create=True, put_update=True, attributes=True, consistency="eventual"),
            "has no consistency ",
        ),
    ],
)
async def test_a_store_that_cannot_is_refused_before_anything_is_done(
    able: Capabilities, lacking: str, in_memory: FaultyStore
) -> None:
    in_memory.capabilities = able
    with pytest.raises(UnsupportedOperationError, match=lacking):
        await compare_and_set(in_memory, "key", None, b"one")
    assert not in_memory.calls


async def test_an_object_without_marks_can_be_seen_and_replaced(faulty: FaultyStore) -> None:
    await faulty.put("key", b"plain", PutOptions(attributes=Attributes(content_type="text/plain")))
    seen = await found(faulty)
    assert (seen.data, seen.marks) == (b"plain", ())
    lose_answers(faulty)
    await compare_and_set(faulty, "key", seen, b"two")
    assert await read(faulty, "key") == b"two"


async def test_reads_are_consistent_however_the_store_was_opened() -> None:
    store = LaggingStore()
    await compare_and_set(store, "key", None, b"one")
    assert (await found(store)).data == b"one"
    assert await look(store, "key", consistent=False) is None
    faulty = FaultyStore(store)
    lose_answers(faulty)
    await compare_and_set(faulty, "key", await found(store), b"two")
    assert (await found(store)).data == b"two"
