"""The contract suites on an emulator of Google Cloud Storage, with what it lacks in front of it."""

from collections.abc import AsyncIterator

import pytest
from typing_extensions import override

from rindle.objectstore.base import MultipartStore, ObjectStore
from rindle.objectstore.gcs import GCSStore
from rindle.testing.objectstore import MultipartStoreContract
from tests.gcs import GCSServer


@pytest.mark.long
class TestFakeGCSServer(MultipartStoreContract):
    column = "GCS (fake-gcs-server)"

    @pytest.fixture(params=["", "a prefix/é"], ids=["whole bucket", "prefix"])
    async def store(self, gcs: GCSServer, request: pytest.FixtureRequest) -> AsyncIterator[MultipartStore]:
        async with await gcs.new_store(request.param, secret=gcs.service_account, anonymous=False) as store:
            self.options = store.options
            yield store

    @pytest.mark.skip(reason="the emulator gives all common prefixes on the first page, whatever the limit")
    @override
    async def test_pages_with_a_delimiter_give_every_child_once(self, store: ObjectStore, limit: int) -> None: ...

    @pytest.mark.skip(reason="the emulator's token names the key that was next when it was given")
    @override
    async def test_what_is_put_between_two_pages_is_on_the_second(self, store: ObjectStore) -> None: ...

    @override
    def reopen(self, store: MultipartStore) -> MultipartStore:
        return GCSStore(self.options)


@pytest.mark.long
class TestFakeGCSServerThatKeepsVersions(TestFakeGCSServer):
    column = "GCS (fake-gcs-server, versions)"

    @pytest.fixture
    @override
    async def store(self, gcs: GCSServer) -> AsyncIterator[MultipartStore]:
        bucket = await gcs.new_bucket(versioning={"enabled": True})
        async with gcs.store(bucket, "a/prefix", versions=True, secret=gcs.service_account, anonymous=False) as store:
            self.options = store.options
            yield store
