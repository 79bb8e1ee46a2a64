"""Tigris, as its documents have it: keys without users, policies without conditions, and a call of its own."""

from collections.abc import AsyncIterator

import pytest

from rindle.buckets import AdminOptions, BucketAdmin, Emptied
from rindle.buckets.clients import Clients
from rindle.buckets.errors import (
    AccessKeyNotFoundError,
    BucketError,
    BucketNotFoundError,
    CredentialsNotMadeError,
    InvalidScopeError,
)
from rindle.errors import ConfigurationError
from rindle.objectstore.errors import ObjectStoreError
from tests.iam_proxy import IamFault
from tests.integration.buckets.account import Account
from tests.s3 import S3Server
from tests.tigris import Tigris


@pytest.fixture
async def tigris(moto: S3Server, account: Account) -> AsyncIterator[Tigris]:
    async with Tigris(moto.endpoint) as tigris:
        yield tigris


@pytest.fixture
async def admin(tigris: Tigris) -> AsyncIterator[BucketAdmin]:
    async with BucketAdmin(at(tigris, region="us-east-1")) as admin:
        yield admin


def at(tigris: Tigris, *, region: str) -> AdminOptions:
    where = tigris.endpoint
    return AdminOptions(endpoint=where, iam_endpoint=where, profile="tigris", region=region, path_style=True)


def is_clean(tigris: Tigris) -> bool:
    return not (tigris.labels or tigris.documents or tigris.attached)


async def test_credentials_are_a_key_with_a_policy(admin: BucketAdmin, tigris: Tigris) -> None:
    made = await admin.create_with_credentials("tigris-bucket")
    assert made.access_key_id.startswith("tid_")
    assert made.user == made.access_key_id
    assert made.secret_access_key.reveal().startswith("tsec_")
    assert tigris.actions == ["CreateAccessKey", "CreatePolicy", "AttachUserPolicy"]
    policy = await admin.get_policy(made.policy_arn)
    assert policy.attached_to == (made.access_key_id,)
    assert policy.document["Statement"][0] == {
        "Sid": "ListObjects",
        "Effect": "Allow",
        "Action": ["s3:ListBucket"],
        "Resource": "arn:aws:s3:::tigris-bucket",
    }
    (key,) = await admin.list_keys("tigris-bucket")
    assert (key.access_key_id, key.policy_arn) == (made.access_key_id, made.policy_arn)
    assert [policy.arn for policy in await admin.list_policies("tigris-bucket")] == [made.policy_arn]
    with pytest.raises(AccessKeyNotFoundError):
        await admin.revoke_credentials("tigris-bucket", "tid_another")
    await admin.revoke_credentials("tigris-bucket", made.access_key_id)
    assert is_clean(tigris)


@pytest.mark.parametrize("step", ["CreateAccessKey", "CreatePolicy", "AttachUserPolicy"])
@pytest.mark.parametrize("lost", [False, True], ids=["refused", "lost"])
async def test_a_step_that_fails_leaves_nothing(admin: BucketAdmin, tigris: Tigris, step: str, *, lost: bool) -> None:
    await admin.create("tigris-bucket")
    if lost:
        tigris.iam_faults += [IamFault(step)] * (1 if step == "CreateAccessKey" else 4)
    else:
        tigris.refuse(step)
    with pytest.raises(CredentialsNotMadeError, match="nothing is left behind"):
        await admin.generate_credentials("tigris-bucket")
    assert is_clean(tigris)


async def test_what_it_has_not_is_refused_and_not_left_out(admin: BucketAdmin, tigris: Tigris) -> None:
    with pytest.raises(InvalidScopeError, match="give them a bucket of their own"):
        await admin.generate_credentials("tigris-bucket", prefix="a")
    with pytest.raises(BucketError, match="Tigris has no users"):
        await admin.create_with_credentials("tigris-bucket", user="somebody")
    assert tigris.requests == []


async def test_a_bucket_is_emptied_by_the_service_and_only_when_that_is_meant(
    admin: BucketAdmin, tigris: Tigris, account: Account
) -> None:
    for name in ("tigris-a", "tigris-b"):
        await admin.create(name)
    assert await admin.delete("tigris-a", force=True) == Emptied()
    await admin.delete("tigris-b")
    forced, plain = tigris.seen("DELETE")
    assert forced.target.startswith("/tigris-a")
    assert forced.headers["tigris-force-delete"] == "true"
    assert "tigris-force-delete" in forced.headers["authorization"]
    assert "tigris-force-delete" not in plain.headers
    with pytest.raises(BucketNotFoundError):
        await admin.delete("tigris-a", force=True)
    assert {"tigris-a", "tigris-b"}.isdisjoint(await account.buckets())


async def test_every_call_about_buckets_is_consistent(admin: BucketAdmin, tigris: Tigris) -> None:
    await admin.ensure_exists("tigris-bucket")
    await admin.list()
    assert {request.headers.get("x-tigris-consistent") for request in tigris.requests} == {"true"}


async def test_it_is_not_told_where_to_put_a_bucket(tigris: Tigris) -> None:
    async with BucketAdmin(at(tigris, region="auto")) as admin:
        with pytest.raises(ObjectStoreError, match="IllegalLocationConstraint"):  # says moto, which wants to be
            await admin.ensure_exists("tigris-bucket")
    assert tigris.seen("PUT")[0].body == b""


async def test_an_endpoint_in_a_variable_is_spoken_to_as_one_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://fly.storage.tigris.dev")
    for options in (AdminOptions(), AdminOptions(endpoint="https://fly.storage.tigris.dev")):
        clients = Clients(options)
        try:
            assert (await clients.service()).name == "Tigris"
            assert await clients.region() == "auto"
            await clients.require_iam()
            url = await clients._made["s3"].generate_presigned_url("head_bucket", Params={"Bucket": "bucket"})
            assert url.startswith("https://bucket.fly.storage.tigris.dev/")
            assert clients._made["iam"].meta.endpoint_url == "https://fly.iam.storage.tigris.dev"
        finally:
            await clients.aclose()


def test_a_profile_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="did you mean tigris"):
        AdminOptions(profile="tigirs")
