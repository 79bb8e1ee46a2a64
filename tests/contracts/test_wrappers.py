"""The contract suites on every wrapper: around a store with multiparts, which it then has too, and a plain one."""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import replace

import pytest
from _pytest.mark import ParameterSet
from typing_extensions import override

from rindle.objectstore.base import GetResult, MultipartStore, ObjectStore
from rindle.objectstore.memory import MemoryStore
from rindle.objectstore.types import Capabilities, GetOptions, ListPage, ObjectMeta
from rindle.objectstore.wrappers import StoreStats, limited, metered, prefixed, read_only, retrying
from rindle.objectstore.wrappers.base import MultipartWrapper, Wrapper
from rindle.testing.faults import FaultyObjectStore, FaultyStore
from rindle.testing.objectstore import MultipartStoreContract, ObjectStoreContract


class ReadThroughReadOnly(MultipartWrapper):
    """Reads through a read-only store what is written past it: what it reads must be what the contract says."""

    def __init__(self, inner: MultipartStore) -> None:
        super().__init__(inner)
        self._view = read_only(inner)

    @override
    async def _get(self, key: str, options: GetOptions) -> GetResult:
        return await self._view.get(key, options)

    @override
    async def _head(self, key: str, options: GetOptions) -> ObjectMeta:
        return await self._view.head(key, options)

    @override
    async def _list_page(
        self,
        prefix: str,
        *,
        delimiter: bool,
        start_after: str | None,
        token: str | None,
        limit: int,
        consistent: bool | None,
    ) -> ListPage:
        return await self._view.list_page(
            prefix, delimiter=delimiter, start_after=start_after, token=token, limit=limit, consistent=consistent
        )

    @override
    async def _get_tags(self, key: str) -> Mapping[str, str]:
        return await self._view.get_tags(key)


class PlainStore(Wrapper):
    """Has no multiparts, whatever the one inside has."""

    @override
    def _declare(self, capabilities: Capabilities) -> Capabilities:
        return replace(capabilities, complete_create=False, copy_part=False, list_multiparts=False, part_limits=None)


Wrap = Callable[[MultipartStore], MultipartStore]
WrapPlain = Callable[[ObjectStore], ObjectStore]

MULTIPART: Mapping[str, Wrap] = {
    "all": lambda store: metered(retrying(limited(prefixed(store, "a prefix/é"), 32)), StoreStats()),
    "read-only": ReadThroughReadOnly,
    "faulty": FaultyStore,
    "prefixed": lambda store: prefixed(store, "prefix"),
    "limited": lambda store: limited(store, 2),
    "metered": lambda store: metered(store, StoreStats()),
    "retrying": retrying,
}
PLAIN: Mapping[str, WrapPlain] = {
    "all": lambda store: metered(retrying(limited(prefixed(store, "a prefix/é"), 32)), StoreStats()),
    "faulty": FaultyObjectStore,
    "prefixed": lambda store: prefixed(store, "prefix"),
    "limited": lambda store: limited(store, 2),
    "metered": lambda store: metered(store, StoreStats()),
    "retrying": retrying,
}
QUICK = {"all", "read-only"}


def wrappers(names: Iterable[str]) -> Iterable[ParameterSet]:
    """All together each time; each by itself when there is time."""
    return [pytest.param(name, marks=() if name in QUICK else pytest.mark.long) for name in names]


class TestAroundMultiparts(MultipartStoreContract):
    column = ""

    @pytest.fixture(params=wrappers(MULTIPART))
    async def store(self, request: pytest.FixtureRequest) -> AsyncIterator[MultipartStore]:
        async with MULTIPART[request.param](MemoryStore()) as store:
            yield store


class TestAroundAPlainStore(ObjectStoreContract):
    column = ""

    @pytest.fixture(params=wrappers(PLAIN))
    async def store(self, request: pytest.FixtureRequest) -> AsyncIterator[ObjectStore]:
        async with PLAIN[request.param](PlainStore(MemoryStore())) as store:
            assert not isinstance(store, MultipartStore)
            yield store
