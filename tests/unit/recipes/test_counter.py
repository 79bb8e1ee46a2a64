import asyncio
import json

import pytest

from rindle.objectstore.base import ObjectStore
from rindle.objectstore.errors import UnsupportedOperationError
from rindle.objectstore.ext import exists, read
from rindle.objectstore.memory import MemoryStore
from rindle.objectstore.types import Capabilities
from rindle.recipes import Counter, CounterLimitError, NotACounterError, UpdateConflictError
from rindle.testing.faults import FaultyStore
from tests.stores import LaggingStore, lose_answers


async def test_it_counts(any_store: ObjectStore) -> None:
    counter = Counter(any_store, "counters/views")
    assert await counter.get() == 0
    assert await counter.increment() == 1
    assert await counter.increment(10) == 11
    assert await counter.decrement(3) == 8
    assert await counter.update(lambda value: value * 2) == 16
    assert await Counter(any_store, "counters/views").get() == 16


async def test_it_begins_where_one_says_and_reading_makes_nothing(any_store: ObjectStore) -> None:
    counter = Counter(any_store, "key", initial=100)
    assert await counter.get() == 100
    assert not await exists(any_store, "key")
    assert await counter.decrement() == 99


async def test_it_does_not_fall_below_the_least_value(any_store: ObjectStore) -> None:
    stock = Counter(any_store, "key", initial=2)
    assert await stock.decrement(min_value=0) == 1
    assert await stock.decrement(min_value=0) == 0
    with pytest.raises(CounterLimitError, match="stands at 0: 1 less would be below 0"):
        await stock.decrement(min_value=0)
    assert await stock.get() == 0
    assert await stock.decrement(min_value=-1) == -1


async def test_an_error_of_the_function_leaves_it_as_it_was(any_store: ObjectStore) -> None:
    counter = Counter(any_store, "key", initial=1)
    with pytest.raises(ZeroDivisionError):
        await counter.update(lambda value: value // 0)
    assert not await exists(any_store, "key")


async def test_of_many_at_once_none_is_lost() -> None:
    counter = Counter(MemoryStore(), "key")
    values = await asyncio.gather(*(counter.increment() for _ in range(50)))
    assert sorted(values) == list(range(1, 51))


async def test_a_lost_answer_counts_once(faulty: FaultyStore) -> None:
    counter = Counter(faulty, "key")
    lose_answers(faulty)
    assert await counter.increment() == 1
    lose_answers(faulty)
    assert await counter.increment() == 2
    assert await counter.get() == 2


async def test_no_two_versions_have_the_same_bytes(any_store: ObjectStore) -> None:
    # Or else, where an e_tag is a digest of the bytes, a write that was long under way would be taken for a new one.
    counter = Counter(any_store, "key", initial=5)
    await counter.increment()
    first = await read(any_store, "key")
    await counter.decrement()
    await counter.increment()
    assert json.loads(first)["value"] == json.loads(await read(any_store, "key"))["value"] == 6
    assert first != await read(any_store, "key")


async def test_a_number_that_somebody_has_put_there_is_gone_on_from(any_store: ObjectStore) -> None:
    await any_store.put("key", b"41\n")
    assert await Counter(any_store, "key").increment() == 42


@pytest.mark.parametrize("data", [b"", b"\xff", b"one", b"true", b'{"value": "1"}', b'{"value": true}', b"1.5", b"[1]"])
async def test_what_is_no_counter_is_left_alone(data: bytes) -> None:
    store = MemoryStore()
    await store.put("key", data)
    counter = Counter(store, "key")
    with pytest.raises(NotACounterError, match="'key' in the store memory is not a counter"):
        await counter.get()
    with pytest.raises(NotACounterError):
        await counter.increment()
    assert await read(store, "key") == data


async def test_retries_are_bounded() -> None:
    store = FaultyStore(MemoryStore())
    other, counter = Counter(store.inner, "key"), Counter(store, "key", max_retries=2)

    async def be_quicker(operation: str, _: str) -> None:
        if operation == "put":
            await other.increment()

    store.before = be_quicker
    with pytest.raises(UpdateConflictError, match="3 times"):
        await counter.increment()
    assert await counter.get() == 3


async def test_a_store_without_conditional_writes() -> None:
    store = MemoryStore()
    store.capabilities = Capabilities(put_create=True, attributes=True)
    with pytest.raises(UnsupportedOperationError, match="put_update"):
        await Counter(store, "key").increment()


async def test_where_reads_may_be_old_it_tells_the_number_now() -> None:
    counter = Counter(LaggingStore(), "key")
    assert await counter.increment() == 1
    assert await counter.get() == 1
