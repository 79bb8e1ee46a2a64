"""Buckets on servers that do with S3's calls what S3 does with them."""

import secrets
from collections.abc import AsyncIterator

import pytest

from rindle.buckets import AdminOptions, BucketAdmin, Emptied
from rindle.buckets.errors import BucketExistsError, BucketNotEmptyError, BucketNotFoundError
from rindle.objectstore.errors import UnauthenticatedError
from tests.integration.buckets.account import Account
from tests.s3 import S3Server

pytestmark = pytest.mark.long

MORE_THAN_A_PAGE = 1001


@pytest.fixture(params=["localstack", "versitygw"])
def server(request: pytest.FixtureRequest) -> S3Server:
    server: S3Server = request.getfixturevalue(request.param)
    return server


@pytest.fixture
async def admin(server: S3Server) -> AsyncIterator[BucketAdmin]:
    async with BucketAdmin(AdminOptions(endpoint=server.endpoint, region="us-east-1")) as admin:
        yield admin


@pytest.fixture
async def account(server: S3Server) -> AsyncIterator[Account]:
    async with Account(server.endpoint) as account:
        yield account


@pytest.fixture
def name() -> str:
    return f"bucket-{secrets.token_hex(6)}"


async def test_a_buckets_life(admin: BucketAdmin, account: Account, name: str) -> None:
    assert await admin.ensure_exists(name) is True
    assert await admin.ensure_exists(name) is False
    with pytest.raises(BucketExistsError):
        await admin.create(name)
    assert name in [bucket.name for bucket in await admin.list()]
    await account.s3.put_object(Bucket=name, Key="key", Body=b"bytes")
    with pytest.raises(BucketNotEmptyError):
        await admin.delete(name)
    await account.s3.delete_object(Bucket=name, Key="key")
    begun = await account.s3.create_multipart_upload(Bucket=name, Key="begun")
    with pytest.raises(BucketNotEmptyError):
        await admin.delete(name)
    await account.s3.abort_multipart_upload(Bucket=name, Key="begun", UploadId=begun["UploadId"])
    await admin.delete(name)
    with pytest.raises(BucketNotFoundError):
        await admin.delete(name)
    assert name not in [bucket.name for bucket in await admin.list()]


async def test_more_than_a_page_of_objects_goes(admin: BucketAdmin, account: Account, name: str) -> None:
    await admin.create(name)
    for number in range(MORE_THAN_A_PAGE):
        await account.s3.put_object(Bucket=name, Key=f"some/key {number} é", Body=b"")
    for number in range(3):
        begun = await account.s3.create_multipart_upload(Bucket=name, Key=f"begun/{number}")
        part = {"PartNumber": 1, "UploadId": begun["UploadId"]}
        await account.s3.upload_part(Bucket=name, Key=f"begun/{number}", Body=b"bytes", **part)
    told: list[Emptied] = []
    assert await admin.delete(name, force=True, on_progress=told.append) == Emptied(MORE_THAN_A_PAGE, 3)
    assert len(told) >= 5
    assert name not in await account.buckets()


async def test_versions_and_marks_of_deletion_go(localstack: S3Server, name: str) -> None:
    options = AdminOptions(endpoint=localstack.endpoint, region="us-east-1")
    async with BucketAdmin(options) as admin, Account(localstack.endpoint) as account:
        await admin.create(name)
        kept = {"Status": "Enabled"}
        await account.s3.put_bucket_versioning(Bucket=name, VersioningConfiguration=kept)
        for _ in range(3):
            await account.s3.put_object(Bucket=name, Key="key", Body=b"bytes")
        await account.s3.delete_object(Bucket=name, Key="key")
        with pytest.raises(BucketNotEmptyError):
            await admin.delete(name)
        assert await admin.delete(name, force=True) == Emptied(4, 0)


async def test_a_bucket_elsewhere(localstack: S3Server, name: str) -> None:
    async with BucketAdmin(AdminOptions(endpoint=localstack.endpoint, region="eu-central-1")) as admin:
        assert await admin.ensure_exists(name) is True
        assert await admin.ensure_exists(name) is False
        with pytest.raises(BucketExistsError):
            await admin.create(name)
        await admin.delete(name)


async def test_a_wrong_secret_is_no_missing_bucket(
    versitygw: S3Server, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    async with BucketAdmin(AdminOptions(endpoint=versitygw.endpoint, region="us-east-1")) as admin:
        for attempt in (admin.ensure_exists(name), admin.delete(name), admin.list()):
            with pytest.raises(UnauthenticatedError):
                await attempt
