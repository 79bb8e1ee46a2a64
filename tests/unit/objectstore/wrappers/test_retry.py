from collections.abc import Awaitable, Callable, Sequence

import pytest
from typing_extensions import override

from rindle.objectstore.base import MultipartStore
from rindle.objectstore.errors import (
    AlreadyExistsError,
    MultipartNotFoundError,
    NotFoundError,
    PreconditionFailedError,
    StoreTimeoutError,
    StoreUnavailableError,
    ThrottledError,
)
from rindle.objectstore.ext import put_stream, read
from rindle.objectstore.memory import ANY_PARTS, MemoryStore
from rindle.objectstore.types import (
    Attributes,
    Capabilities,
    DeleteResult,
    GetOptions,
    PutOptions,
    SuffixRange,
    UpdateVersion,
)
from rindle.objectstore.wrappers import RetryBudget, retrying
from rindle.objectstore.wrappers.retry import MARK
from rindle.testing.faults import FaultyStore, Hook

DATA = bytes(range(256)) * (3 << 12)  # 3 MiB: several chunks
CREATE = PutOptions(mode="create")


def failing(
    operation: str, *calls: int, kind: type[StoreUnavailableError | ThrottledError] = StoreUnavailableError
) -> Hook:
    """A hook that fails the n-th calls of an operation."""
    count = 0

    async def hook(asked: str, key: str) -> None:
        nonlocal count
        count += asked == operation
        if asked == operation and count in calls:
            msg = "no answer"
            raise kind(msg, store="memory", key=key)

    return hook


@pytest.fixture
def inner() -> FaultyStore:
    return FaultyStore(MemoryStore())


@pytest.fixture
def store(inner: FaultyStore) -> MultipartStore:
    return retrying(inner, attempts=4, first_pause=0)


# What is tried again, and how often


CALLS: dict[str, Callable[[MultipartStore], Awaitable[object]]] = {
    "put": lambda store: store.put("key", b"new"),
    "get": lambda store: read(store, "key"),
    "head": lambda store: store.head("key"),
    "delete": lambda store: store.delete("key"),
    "delete_many": lambda store: store.delete_many(["key"]),
    "list_page": lambda store: store.list_page(),
    "copy": lambda store: store.copy("key", "other"),
    "get_tags": lambda store: store.get_tags("key"),
    "put_tags": lambda store: store.put_tags("key", {}),
    "create_multipart": lambda store: store.create_multipart("key"),
    "prepare": lambda store: store.prepare(),
    "sweep": lambda store: store.sweep(),
}


@pytest.mark.parametrize("operation", CALLS)
async def test_a_call_without_an_answer_is_made_again(
    inner: FaultyStore, store: MultipartStore, operation: str
) -> None:
    await inner.put("key", b"bytes")
    inner.calls.clear()
    inner.before, inner.after = failing(operation, 1), failing(operation, 1)
    await CALLS[operation](store)
    assert inner.calls[operation] == 3


async def test_attempts_have_an_end(inner: FaultyStore, store: MultipartStore) -> None:
    inner.before = failing("head", *range(1, 100))
    with pytest.raises(StoreUnavailableError):
        await store.head("key")
    assert inner.calls["head"] == 4


async def test_what_would_fail_again_is_not_tried_again(inner: FaultyStore, store: MultipartStore) -> None:
    with pytest.raises(NotFoundError):
        await store.head("key")
    assert inner.calls["head"] == 1


async def test_all_calls_share_a_budget_which_success_refills(inner: FaultyStore) -> None:
    budget = RetryBudget(3, refund=0.5)
    stores = [retrying(inner, attempts=3, budget=budget, first_pause=0) for _ in range(2)]
    inner.before = failing("head", *range(1, 100))
    notes = []
    for expected in (3, 2, 1):
        inner.calls.clear()
        with pytest.raises(StoreUnavailableError) as caught:
            await stores[expected % 2].head("key")
        assert inner.calls["head"] == expected
        notes.append(getattr(caught.value, "__notes__", []))
    assert notes == [[], *[["not tried again: the budget for that is used up"]] * 2]
    for _ in range(100):
        await stores[0].put("key", b"")
    assert budget.left == 3


def test_a_call_is_made_once_at_least() -> None:
    with pytest.raises(ValueError, match="once at least"):
        retrying(MemoryStore(), attempts=0)


# Conditional writes whose answers are lost


async def test_a_create_whose_answer_is_lost_is_known_by_its_mark(inner: FaultyStore, store: MultipartStore) -> None:
    inner.after = failing("put", 1)
    attributes = Attributes(content_type="text/plain", metadata={"a": "1"})
    result = await store.put("key", b"mine", PutOptions(mode="create", attributes=attributes))
    assert result.e_tag == (await inner.head("key")).e_tag
    assert inner.calls["put"] == 2
    async with await store.get("key") as found:
        assert (found.attributes, await found.read()) == (attributes, b"mine")


async def test_a_create_does_not_take_anothers_object_for_its_own(inner: FaultyStore, store: MultipartStore) -> None:
    """Not even with the same bytes."""

    async def be_quicker(operation: str, key: str) -> None:
        if operation == "put" and inner.calls["put"] == 1:
            await inner.inner.put(key, b"same", CREATE)
            msg = "no answer"
            raise StoreTimeoutError(msg, store="memory", key=key)

    inner.before = be_quicker
    with pytest.raises(AlreadyExistsError):
        await store.put("key", b"same", CREATE)


async def test_an_update_whose_answer_is_lost_is_known_by_its_mark(inner: FaultyStore, store: MultipartStore) -> None:
    before = await store.put("key", b"old")
    inner.after = failing("put", 1)
    result = await store.put("key", b"mine", PutOptions(mode=UpdateVersion(before.e_tag)))
    assert await read(store, "key", GetOptions(if_match=result.e_tag)) == b"mine"


@pytest.mark.parametrize("removed", [False, True])
async def test_an_update_after_which_another_came_is_not_known(
    inner: FaultyStore, store: MultipartStore, *, removed: bool
) -> None:
    """To say that it was not done would let a counter count twice."""
    before = await store.put("key", b"old")

    async def go_on(operation: str, key: str) -> None:
        if operation == "put" and inner.calls["put"] == 2:
            await (inner.inner.delete(key) if removed else inner.inner.put(key, b"another's"))
            msg = "no answer"
            raise StoreTimeoutError(msg, store="memory", key=key)

    inner.after = go_on
    with pytest.raises(StoreTimeoutError) as caught:
        await store.put("key", b"mine", PutOptions(mode=UpdateVersion(before.e_tag)))
    assert isinstance(caught.value.__cause__, PreconditionFailedError)


async def test_a_refusal_is_believed_when_nothing_was_lost(inner: FaultyStore, store: MultipartStore) -> None:
    """A store that is busy has done nothing."""
    await inner.put("key", b"old")
    inner.before = failing("put", 1, kind=ThrottledError)
    for mode, kind in (("create", AlreadyExistsError), (UpdateVersion("other"), PreconditionFailedError)):
        with pytest.raises(kind):
            await store.put("key", b"new", PutOptions(mode=mode))  # type: ignore[arg-type]
    assert inner.calls["get"] == 0


@pytest.mark.parametrize(
    "can",
    [
        Capabilities(put_create=True, part_limits=ANY_PARTS),
        Capabilities(put_create=True, attributes=True, consistency="eventual", part_limits=ANY_PARTS),
    ],
    ids=["no attributes", "no consistent reads"],
)
async def test_where_it_cannot_be_seen_a_lost_create_is_not_known(inner: FaultyStore, can: Capabilities) -> None:
    inner.inner.capabilities = can
    await inner.prepare()
    store = retrying(inner, first_pause=0)
    inner.after = failing("put", 1)
    with pytest.raises(StoreUnavailableError):
        await store.put("key", b"mine", CREATE)


async def test_marks_are_of_one_call_and_only_where_they_are_needed(inner: FaultyStore, store: MultipartStore) -> None:
    await store.put("plain", b"")
    await store.put("one", b"", CREATE)
    await store.put("two", b"", CREATE)
    metadata = []
    for key in ("plain", "one", "two"):
        async with await inner.get(key) as found:
            metadata.append(found.attributes.metadata)
    assert metadata[0] == {}
    assert metadata[1][MARK] != metadata[2][MARK]


async def test_a_copy_that_creates_and_loses_its_answer_is_not_known(inner: FaultyStore, store: MultipartStore) -> None:
    await store.put("source", b"bytes")
    inner.after = failing("copy", 1)
    with pytest.raises(StoreUnavailableError):
        await store.copy("source", "target", mode="create")
    inner.after = None
    with pytest.raises(AlreadyExistsError):
        await store.copy("source", "target", mode="create")


async def test_a_completion_whose_answer_is_lost_does_not_blame_another(
    inner: FaultyStore, store: MultipartStore
) -> None:
    """What stands in the way of these parts may be what they have become."""
    ref = await store.create_multipart("key")
    parts = [await store.put_part(ref, 1, b"bytes")]
    inner.after = failing("complete_multipart", 1)
    with pytest.raises(MultipartNotFoundError):
        await store.complete_multipart(ref, parts, mode="create")

    class Conflicting(MemoryStore):
        """Looks at the key before it looks for the multipart."""

        @override
        async def _complete_multipart(self, *args: object, **kwargs: object) -> None:  # type: ignore[override]
            msg = "the key is taken"
            raise AlreadyExistsError(msg, store="memory", key="key")

    conflicting = FaultyStore(Conflicting())
    other = retrying(conflicting, first_pause=0)
    ref = await other.create_multipart("key")
    parts = [await other.put_part(ref, 1, b"bytes")]
    conflicting.before = failing("complete_multipart", 1)
    with pytest.raises(AlreadyExistsError):  # the multipart is still there
        await other.complete_multipart(ref, parts, mode="create")
    await conflicting.inner.abort_multipart(ref)
    conflicting.before = failing("complete_multipart", 1)
    with pytest.raises(MultipartNotFoundError):
        await other.complete_multipart(ref, parts, mode="create")


# Reads that break


async def test_a_read_that_breaks_goes_on_where_it_broke_off(inner: FaultyStore, store: MultipartStore) -> None:
    await store.put("key", DATA)
    for breaks in ([1], [2], [2, 3], [1, 2, 4, 6]):
        inner.reading = failing("get", *breaks)
        assert await read(store, "key") == DATA
    inner.reading = failing("get", 2)
    assert await read(store, "key", GetOptions(range=SuffixRange(2 << 20))) == DATA[-(2 << 20) :]


async def test_a_read_whose_end_breaks_has_ended(inner: FaultyStore, store: MultipartStore) -> None:
    await store.put("key", DATA)
    inner.reading = failing("get", 4)
    assert await read(store, "key") == DATA
    assert inner.calls["get"] == 1


async def test_a_read_never_mixes_two_objects(inner: FaultyStore, store: MultipartStore) -> None:
    await store.put("key", DATA)
    for change in (inner.inner.put("key", DATA[::-1]), inner.inner.delete("key")):
        result = await store.get("key")
        stream = aiter(result)
        assert await anext(stream) == DATA[: 1 << 20]
        inner.reading = failing("get", 1)
        await change
        with pytest.raises(StoreUnavailableError) as caught:
            await anext(stream)
        assert isinstance(caught.value.__cause__, (PreconditionFailedError, NotFoundError))
        inner.reading = None
        await store.put("key", DATA)


async def test_a_read_that_keeps_breaking_has_an_end(inner: FaultyStore, store: MultipartStore) -> None:
    await store.put("key", DATA)
    inner.reading = failing("get", *range(2, 100))
    with pytest.raises(StoreUnavailableError):
        await read(store, "key")
    assert inner.calls["get"] == 4


# Listings and many keys


async def test_a_listing_that_breaks_goes_on_without_repeating(inner: FaultyStore, store: MultipartStore) -> None:
    refs = [await store.create_multipart("key") for _ in range(3)]
    parts = [await store.put_part(refs[0], number, b"x") for number in (1, 2, 3)]
    inner.after = failing("list_parts", 1, 2)  # when all have been given
    assert [part async for part in store.list_parts(refs[0])] == parts
    inner.after = failing("list_multiparts", 1)
    assert {multipart.ref async for multipart in store.list_multiparts()} == set(refs)
    inner.before = failing("list_parts", *range(1, 100))
    with pytest.raises(StoreUnavailableError):
        _ = [part async for part in store.list_parts(refs[0])]


class Busy(MemoryStore):
    """Has no time for some of the keys, some of the times."""

    def __init__(self, refusals: dict[str, int]) -> None:
        super().__init__()
        self.refusals = refusals
        self.asked: list[Sequence[str]] = []

    @override
    async def _delete_many(self, keys: Sequence[str]) -> Sequence[DeleteResult]:
        self.asked.append(keys)
        return [DeleteResult(key, self._refusal(key)) for key in keys]

    def _refusal(self, key: str) -> Exception | None:
        self.refusals[key] = self.refusals.get(key, 0) - 1
        return ThrottledError("busy", store="memory", key=key) if self.refusals[key] >= 0 else None


async def test_of_many_keys_those_that_failed_are_deleted_again() -> None:
    inner = Busy({"b": 1, "d": 100})
    results = await retrying(inner, attempts=3, first_pause=0).delete_many(["a", "b", "c", "d"])
    assert [(result.key, type(result.error)) for result in results] == [
        ("a", type(None)),
        ("b", type(None)),
        ("c", type(None)),
        ("d", ThrottledError),
    ]
    assert inner.asked == [["a", "b", "c", "d"], ["b", "d"], ["d"]]


async def test_a_stream_outlives_failures_of_its_parts(inner: FaultyStore, store: MultipartStore) -> None:
    inner.before = failing("put_part", 1, 3, 4)
    inner.after = failing("put_part", 2)
    await put_stream(store, "key", [DATA], part_size=1 << 20, mode="create")
    assert await read(store, "key") == DATA
