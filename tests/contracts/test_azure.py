"""The contract suites on Azure's emulator."""

from collections.abc import AsyncIterator

import pytest
from typing_extensions import override

from rindle.objectstore.azure import AzureStore
from rindle.objectstore.base import MultipartStore, ObjectStore
from rindle.testing.objectstore import MultipartStoreContract
from tests.azure import Azurite


@pytest.mark.long
class TestAzurite(MultipartStoreContract):
    column = "Azure (Azurite)"

    # Azure's documents advise against the one; it makes a slash of the other, and Azurite does as it does.
    refused_keys = frozenset({"three...", "back\\slash.txt"})

    @pytest.fixture(params=["", "a prefix/é"], ids=["whole container", "prefix"])
    async def store(self, azurite: Azurite, request: pytest.FixtureRequest) -> AsyncIterator[MultipartStore]:
        async with await azurite.new_store(request.param) as store:
            self.options = store.options
            yield store

    @pytest.mark.skip(reason="Azurite sorts by UTF-16; what is in the basic plane is proved by the other listings")
    @override
    async def test_a_listing_is_in_the_order_of_the_utf8_bytes(self, store: ObjectStore) -> None: ...

    @override
    def reopen(self, store: MultipartStore) -> MultipartStore:
        return AzureStore(self.options)
