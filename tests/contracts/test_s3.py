"""The contract suites on servers that speak S3's API."""

from collections.abc import AsyncIterator

import pytest
from typing_extensions import override

from rindle.objectstore.base import MultipartStore
from rindle.objectstore.s3 import S3Store
from rindle.testing.objectstore import MultipartStoreContract
from tests.s3 import S3Server


class TestMoto(MultipartStoreContract):
    @pytest.fixture
    async def store(self, moto: S3Server) -> AsyncIterator[MultipartStore]:
        async with await moto.new_store("a prefix/é", checksums="none") as store:
            await store.prepare()
            self.options = store.options
            yield store

    @override
    def reopen(self, store: MultipartStore) -> MultipartStore:
        return S3Store(self.options)


@pytest.mark.long
class TestLocalStack(MultipartStoreContract):
    @pytest.fixture(params=["", "a prefix/é"])
    async def store(self, localstack: S3Server, request: pytest.FixtureRequest) -> AsyncIterator[MultipartStore]:
        async with await localstack.new_store(request.param) as store:
            await store.prepare()
            assert store.checksums
            self.options = store.options
            yield store

    @override
    def reopen(self, store: MultipartStore) -> MultipartStore:
        return S3Store(self.options)
