"""The contract suites on every store that needs no server."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from typing_extensions import override

from rindle.objectstore.base import MultipartStore
from rindle.objectstore.local import LocalStore
from rindle.objectstore.memory import ANY_PARTS, MemoryStore
from rindle.objectstore.types import Capabilities, PartLimits
from rindle.testing.objectstore import MultipartStoreContract

# S3's shape, on a scale that keeps the tests quick.
S3_LIKE = PartLimits(
    min_size=5000, max_size=5_000_000, max_count=10_000, max_object_size=5_000_000_000, consecutive=True
)
R2_LIKE = PartLimits(min_size=5000, max_size=5_000_000, max_count=10_000, max_object_size=5_000_000_000, uniform=True)
CEPH_LIKE = PartLimits(
    min_size=5000, max_size=5_000_000, max_count=10_000, max_object_size=5_000_000_000, exhaustive=True, tags=False
)


class TestMemoryStore(MultipartStoreContract):
    column = "memory"

    @pytest.fixture
    async def store(self) -> AsyncIterator[MultipartStore]:
        async with MemoryStore() as store:
            yield store


class TestMemoryStoreWithTheLimitsOfOthers(MultipartStoreContract):
    column = ""

    @pytest.fixture(params=[S3_LIKE, R2_LIKE, CEPH_LIKE], ids=["s3", "r2", "ceph"])
    async def store(self, request: pytest.FixtureRequest) -> AsyncIterator[MultipartStore]:
        async with MemoryStore(request.param) as store:
            yield store


class TestMemoryStoreThatDeclaresNothing(MultipartStoreContract):
    column = ""

    @pytest.fixture
    async def store(self) -> AsyncIterator[MultipartStore]:
        async with MemoryStore() as store:
            store.capabilities = Capabilities(consistency="eventual", part_limits=ANY_PARTS)
            yield store


class TestLocalStore(MultipartStoreContract):
    column = "local disk"

    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[MultipartStore]:
        self.root = tmp_path / "root"
        async with LocalStore(self.root) as store:
            yield store
            assert await store.sweep() == 0, "the store left something behind"

    @override
    def reopen(self, store: MultipartStore) -> MultipartStore:
        return LocalStore(self.root)
