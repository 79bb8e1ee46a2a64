from collections.abc import AsyncIterator

import pytest

from rindle.objectstore.s3 import S3Store
from tests.s3 import S3Server
from tests.s3_proxy import S3Proxy


@pytest.fixture
async def proxy(moto: S3Server) -> AsyncIterator[S3Proxy]:
    async with S3Proxy(moto.endpoint) as proxy:
        yield proxy


@pytest.fixture
async def store(moto: S3Server, proxy: S3Proxy) -> AsyncIterator[S3Store]:
    """A store that reaches moto through the proxy."""
    async with await moto.new_store(endpoint=proxy.endpoint) as store:
        yield store


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits before trying again."""
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0)
    monkeypatch.setattr("rindle.objectstore.s3.store._CONFLICT_PAUSES", (0, 0, 0))
