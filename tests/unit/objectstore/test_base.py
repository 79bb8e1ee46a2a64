from collections.abc import Awaitable, Callable
from pathlib import PurePosixPath
from typing import Literal

import pytest

from rindle.objectstore.base import PAGE_SIZE
from rindle.objectstore.errors import (
    NotFoundError,
    ObjectStoreError,
    StoreFullError,
    StoreTimeoutError,
    StoreUnavailableError,
    TransientStoreError,
)
from rindle.objectstore.memory import MemoryStore
from rindle.testing.faults import FaultyStore


def failing(*calls: int) -> Callable[[str, str], Awaitable[None]]:
    """A hook that fails the n-th calls it is asked about."""
    count = 0

    async def hook(operation: str, key: str) -> None:
        nonlocal count
        count += 1
        if count in calls:
            msg = "no answer"
            raise StoreUnavailableError(msg, store="memory", key=key)

    return hook


@pytest.fixture
async def store() -> FaultyStore:
    store = FaultyStore(MemoryStore())
    for number in range(PAGE_SIZE * 2 + 1):
        await store.put(f"{number:05}", b"")
    return store


async def test_a_listing_is_fetched_page_by_page_as_it_is_read(store: FaultyStore) -> None:
    listing = store.list()
    for _ in range(PAGE_SIZE):
        await anext(aiter(listing))
    assert store.calls["list_page"] == 1
    await anext(aiter(listing))
    assert store.calls["list_page"] == 2


async def test_a_page_that_fails_fails_the_listing(store: FaultyStore) -> None:
    store.before = failing(2)
    listing = aiter(store.list())
    for _ in range(PAGE_SIZE):
        await anext(listing)
    with pytest.raises(StoreUnavailableError):
        await anext(listing)


@pytest.mark.parametrize(("answer", "expected"), [("retry", PAGE_SIZE * 2 + 1), ("stop", PAGE_SIZE)])
async def test_a_handler_decides_what_a_page_that_fails_means(
    store: FaultyStore, answer: Literal["stop", "retry"], expected: int
) -> None:
    store.before = failing(2, 3)
    errors: list[ObjectStoreError] = []

    def on_error(error: ObjectStoreError) -> Literal["stop", "retry"]:
        errors.append(error)
        return answer

    keys = [meta.key async for meta in store.list(on_error=on_error)]
    assert keys == [f"{number:05}" for number in range(expected)]
    assert {type(error) for error in errors} == {StoreUnavailableError}


async def test_a_page_has_room_for_something(store: FaultyStore) -> None:
    with pytest.raises(ValueError, match="at least one key"):
        await store.list_page(limit=0)


async def test_keys_may_be_paths(store: FaultyStore) -> None:
    await store.put(PurePosixPath("a/b"), b"bytes")
    assert (await store.head(PurePosixPath("a") / "b")).key == "a/b"


def test_errors_name_the_store_and_the_key() -> None:
    error = NotFoundError("no such object", store="memory", key="a key")
    assert (str(error), error.store, error.key) == ("memory: no such object: 'a key'", "memory", "a key")


def test_errors_are_those_of_python_where_there_is_one() -> None:
    late = StoreTimeoutError("late", store="s3")
    assert isinstance(late, TransientStoreError)
    assert isinstance(late, TimeoutError)
    assert StoreFullError("full", store="s3").errno is not None
