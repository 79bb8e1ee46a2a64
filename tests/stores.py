"""Stores that a test can have without waiting: in memory, on disk, in a bucket; in the long run, in more buckets."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from typing_extensions import override

from rindle.objectstore.base import MultipartStore
from rindle.objectstore.errors import StoreTimeoutError, TransientStoreError
from rindle.objectstore.local import LocalStore
from rindle.objectstore.memory import MemoryStore
from rindle.objectstore.result import GetResult
from rindle.objectstore.types import GetOptions, ListPage
from rindle.testing.faults import FaultyStore
from tests.azure import Azurite
from tests.gcs import GCSServer
from tests.gcs_front import GCSFront
from tests.s3 import S3Server

_MORE = ("versitygw", "localstack", "azurite", "fake_gcs_server")


@pytest.fixture(params=["memory", "local", "moto", *(pytest.param(server, marks=pytest.mark.long) for server in _MORE)])
async def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[MultipartStore]:
    async with AsyncExitStack() as stack:
        match request.param:
            case "memory":
                store: MultipartStore = MemoryStore()
            case "local":
                store = LocalStore(tmp_path / "store")
            case "fake_gcs_server" as server:
                front = await stack.enter_async_context(GCSFront(request.getfixturevalue(server)))
                store = await GCSServer(front).new_store("some/prefix")
            case server:
                service: S3Server | Azurite = request.getfixturevalue(server)
                store = await service.new_store("some/prefix")
        yield await stack.enter_async_context(store)


class LaggingStore(MemoryStore):
    """Reads and listings that are not ``consistent`` see what there was when :meth:`settle` was called last."""

    def __init__(self) -> None:
        super().__init__()
        self.capabilities = replace(self.capabilities, consistency="by_request")
        self._replica = MemoryStore()

    def settle(self) -> None:
        self._replica._objects = dict(self._objects)

    @override
    async def _get(self, key: str, options: GetOptions) -> GetResult:
        return await (super()._get(key, options) if options.consistent else self._replica._get(key, options))

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
        listed = super()._list_page if consistent else self._replica._list_page
        return await listed(
            prefix, delimiter=delimiter, start_after=start_after, token=token, limit=limit, consistent=consistent
        )


@pytest.fixture
def faulty(any_store: MultipartStore) -> FaultyStore:
    return FaultyStore(any_store)


def lose_answers(store: FaultyStore, *, times: int = 1, kind: type[TransientStoreError] = StoreTimeoutError) -> None:
    """Let the next puts be done, and their answers get lost."""
    left = times

    async def lose(operation: str, key: str) -> None:
        nonlocal left
        if operation == "put" and left:
            left -= 1
            msg = "no answer"
            raise kind(msg, store=store.name, key=key)

    store.after = lose
