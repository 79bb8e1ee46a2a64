from collections.abc import AsyncIterator

import pytest

from rindle.objectstore.azure import AzureStore
from tests.azure import ACCOUNT, Azurite
from tests.s3_proxy import S3Proxy


@pytest.fixture
async def proxy(azurite: Azurite) -> AsyncIterator[S3Proxy]:
    async with S3Proxy(azurite.endpoint) as proxy:
        yield proxy


@pytest.fixture
async def store(azurite: Azurite, proxy: S3Proxy) -> AsyncIterator[AzureStore]:
    """A store that reaches Azurite through the proxy."""
    async with await azurite.new_store(endpoint=f"{proxy.endpoint}/{ACCOUNT}") as store:
        proxy.requests.clear()
        yield store


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits before trying again."""
    monkeypatch.setattr("rindle.objectstore.retry.pause_after", lambda _: 0)
