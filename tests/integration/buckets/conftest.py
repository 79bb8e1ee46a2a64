import asyncio
from collections.abc import AsyncIterator

import pytest

from rindle.buckets import AdminOptions, BucketAdmin
from tests.iam_proxy import IamProxy
from tests.integration.buckets.account import Account
from tests.s3 import S3Server


@pytest.fixture
async def proxy(moto: S3Server) -> AsyncIterator[IamProxy]:
    async with IamProxy(moto.endpoint) as proxy:
        yield proxy


@pytest.fixture
async def admin(proxy: IamProxy) -> AsyncIterator[BucketAdmin]:
    """An administrator who reaches moto through the proxy."""
    options = AdminOptions(endpoint=proxy.endpoint, iam_endpoint=proxy.endpoint, region="us-east-1")
    async with BucketAdmin(options) as admin:
        yield admin


@pytest.fixture
async def account(moto: S3Server) -> AsyncIterator[Account]:
    async with Account(moto.endpoint) as account:
        yield account
    await asyncio.to_thread(account.forget)


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits before trying again."""
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0)
    monkeypatch.setattr("rindle.buckets.iam._PAUSES", (0, 0, 0, 0))
