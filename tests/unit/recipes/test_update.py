import asyncio
from datetime import timedelta

import pytest

from rindle.objectstore.base import ObjectStore
from rindle.objectstore.errors import NotFoundError, StoreTimeoutError, UnsupportedOperationError
from rindle.objectstore.ext import exists, read
from rindle.objectstore.memory import MemoryStore
from rindle.objectstore.types import Attributes, Capabilities, PutOptions
from rindle.recipes import UpdateConflictError, UpdateTimeoutError, update_object
from rindle.testing.faults import FaultyStore
from tests.stores import LaggingStore, lose_answers
from tests.virtual_time import now, virtually


def append(data: bytes) -> bytes:
    return data + b"x"


@pytest.fixture
def in_memory() -> FaultyStore:
    return FaultyStore(MemoryStore())


async def test_what_was_read_is_replaced_by_what_is_made_of_it(any_store: ObjectStore) -> None:
    await any_store.put("key", b"a")
    updated = await update_object(any_store, "key", append)
    assert updated.data == await read(any_store, "key") == b"ax"
    assert updated.e_tag == (await any_store.head("key")).e_tag


async def test_the_function_may_be_asynchronous(any_store: ObjectStore) -> None:
    async def later(data: bytes) -> bytes:
        await asyncio.sleep(0)
        return append(data)

    await any_store.put("key", b"a")
    assert (await update_object(any_store, "key", later)).data == b"ax"


async def test_what_is_not_there_is_not_made(any_store: ObjectStore) -> None:
    with pytest.raises(NotFoundError):
        await update_object(any_store, "key", append)
    assert not await exists(any_store, "key")


async def test_what_is_not_there_begins_as_one_says(any_store: ObjectStore) -> None:
    assert (await update_object(any_store, "key", append, initial=b"i")).data == b"ix"
    assert await read(any_store, "key") == b"ix"


async def test_attributes_stay_but_for_a_new_content_type(any_store: ObjectStore) -> None:
    attributes = Attributes(content_type="text/plain", cache_control="no-store", metadata={"owner": "me"})
    await any_store.put("key", b"a", PutOptions(attributes=attributes))
    await update_object(any_store, "key", append)
    async with await any_store.get("key") as found:
        assert found.attributes.content_type == "text/plain"
        assert found.attributes.cache_control == "no-store"
        assert found.attributes.metadata["owner"] == "me"
    await update_object(any_store, "key", append, content_type="text/html")
    async with await any_store.get("key") as found:
        assert (found.attributes.content_type, found.attributes.cache_control) == ("text/html", "no-store")


async def test_an_error_of_the_function_ends_it_and_nothing_is_written(any_store: ObjectStore) -> None:
    def fail(_: bytes) -> bytes:
        raise ZeroDivisionError

    await any_store.put("key", b"a")
    before = await any_store.head("key")
    with pytest.raises(ZeroDivisionError):
        await update_object(any_store, "key", fail)
    assert await any_store.head("key") == before


async def test_bytes_that_stay_the_same_are_not_written(in_memory: FaultyStore) -> None:
    await in_memory.put("key", b"a")
    before = await in_memory.head("key")
    updated = await update_object(in_memory, "key", lambda data: data)
    assert (updated.e_tag, in_memory.calls["put"]) == (before.e_tag, 1)


async def test_a_function_that_forgets_to_return_is_told(in_memory: FaultyStore) -> None:
    await in_memory.put("key", b"a")
    with pytest.raises(TypeError, match="gave NoneType"):
        await update_object(in_memory, "key", lambda _: None)  # type: ignore[arg-type, return-value]
    assert await read(in_memory, "key") == b"a"


async def test_who_is_overtaken_begins_again_with_the_newer_bytes(faulty: FaultyStore) -> None:
    await faulty.put("key", b"a")
    given: list[bytes] = []

    async def be_overtaken(data: bytes) -> bytes:
        given.append(data)
        if len(given) < 3:
            await faulty.put("key", data + b"o")
        return append(data)

    assert (await update_object(faulty, "key", be_overtaken)).data == b"aoox"
    assert given == [b"a", b"ao", b"aoo"]


async def test_of_many_at_once_none_is_lost(in_memory: FaultyStore) -> None:
    await in_memory.put("key", b"")
    await asyncio.gather(*(update_object(in_memory, "key", append, max_retries=100) for _ in range(20)))
    assert await read(in_memory, "key") == b"x" * 20


async def test_none_is_made_twice_when_every_second_answer_is_lost(in_memory: FaultyStore) -> None:
    await in_memory.put("key", b"")

    async def lose(operation: str, key: str) -> None:
        if operation == "put" and in_memory.calls["put"] % 2:
            msg = "no answer"
            raise StoreTimeoutError(msg, store=in_memory.name, key=key)

    in_memory.after = lose
    updates = (update_object(in_memory, "key", append, max_retries=100) for _ in range(20))
    results = await asyncio.gather(*updates)
    assert sorted(len(result.data) for result in results) == list(range(1, 21))
    assert await read(in_memory, "key") == b"x" * 20


@pytest.mark.parametrize("retries", [0, 3])
def test_who_is_always_overtaken_gives_up(in_memory: FaultyStore, retries: int) -> None:
    attempts = 0

    async def be_overtaken(data: bytes) -> bytes:
        nonlocal attempts
        attempts += 1
        await in_memory.put("key", data + b"o")
        return append(data)

    async def update() -> None:
        await in_memory.put("key", b"a")
        with pytest.raises(UpdateConflictError, match=rf"{retries + 1} times; it was not written"):
            await update_object(in_memory, "key", be_overtaken, max_retries=retries)

    virtually(update())
    assert attempts == retries + 1


def test_the_time_is_bounded_also_between_attempts(in_memory: FaultyStore) -> None:
    async def be_overtaken(data: bytes) -> bytes:
        await in_memory.put("key", data + b"o")
        return append(data)

    async def update() -> None:
        await in_memory.put("key", b"a")
        with pytest.raises(UpdateTimeoutError, match="nothing was written"):
            await update_object(in_memory, "key", be_overtaken, max_retries=1000, timeout=timedelta(seconds=7))
        assert now() == 7

    virtually(update())


def test_a_write_that_was_under_way_when_time_was_over_is_said_to_be_perhaps_done(in_memory: FaultyStore) -> None:
    async def hang(operation: str, key: str) -> None:
        if operation == "put":
            await asyncio.sleep(1000)

    async def update() -> None:
        await in_memory.put("key", b"a")
        in_memory.before = hang
        with pytest.raises(UpdateTimeoutError, match="may have been written"):
            await update_object(in_memory, "key", append, timeout=timedelta(seconds=7))

    virtually(update())


async def test_a_timeout_of_the_function_is_its_own(in_memory: FaultyStore) -> None:
    async def hang(data: bytes) -> bytes:
        async with asyncio.timeout(0):
            await asyncio.sleep(1000)
        return data

    await in_memory.put("key", b"a")
    with pytest.raises(TimeoutError) as raised:
        await update_object(in_memory, "key", hang, timeout=timedelta(minutes=1))
    assert not isinstance(raised.value, UpdateTimeoutError)


async def test_a_lost_answer_is_found(faulty: FaultyStore) -> None:
    await faulty.put("key", b"a")
    lose_answers(faulty)
    assert (await update_object(faulty, "key", append)).data == b"ax"
    assert await read(faulty, "key") == b"ax"


async def test_a_store_without_conditional_writes_is_refused_before_the_function_is_called() -> None:
    store = MemoryStore()
    await store.put("key", b"a")
    store.capabilities = Capabilities(put_create=True, attributes=True)
    with pytest.raises(UnsupportedOperationError, match="put_update"):
        await update_object(store, "key", lambda _: pytest.fail("called"))


@pytest.mark.parametrize("consistent", [True, False])
async def test_an_update_goes_on_from_the_newest_bytes_also_where_a_read_may_be_old(*, consistent: bool) -> None:
    store = LaggingStore()
    await store.put("key", b"a")
    store.settle()
    await store.put("key", b"b")
    given: list[bytes] = []

    def note(data: bytes) -> bytes:
        given.append(data)
        return append(data)

    assert (await update_object(store, "key", note, consistent=consistent)).data == b"bx"
    assert given == ([b"b"] if consistent else [b"a", b"b"])


async def test_what_a_read_does_not_see_yet_is_not_taken_for_absent() -> None:
    store = LaggingStore()
    await store.put("key", b"a")
    assert (await update_object(store, "key", append, initial=b"", consistent=False)).data == b"ax"
