"""Buckets: made, found, listed, emptied and deleted."""

import asyncio
from collections.abc import Mapping
from datetime import UTC
from functools import partial

import pytest

from rindle.buckets import AdminOptions, BucketAdmin, Emptied
from rindle.buckets.errors import (
    BucketExistsError,
    BucketNotEmptiedError,
    BucketNotEmptyError,
    BucketNotFoundError,
    BucketTakenError,
    InvalidBucketNameError,
)
from rindle.objectstore.errors import StoreUnavailableError, UnauthenticatedError
from tests.iam_proxy import IamProxy, http_answer
from tests.integration.buckets.account import Account
from tests.s3 import S3Server
from tests.s3_proxy import Fault, Request, error_body


def losing_first(call: str, lost: list[Request], request: Request, answer: bytes) -> bytes:
    """The first answer of a call is not the service's, which has done it."""
    if request.is_about(call) and not lost:
        lost.append(request)
        return http_answer(503, error_body("ServiceUnavailable"))
    return answer


async def fill(account: Account, bucket: str, *, keys: int = 1, multiparts: int = 1) -> None:
    for number in range(keys):
        await account.s3.put_object(Bucket=bucket, Key=f"a key/{number} é&<", Body=b"bytes")
    for number in range(multiparts):
        await account.s3.create_multipart_upload(Bucket=bucket, Key=f"begun {number}")


async def keep_versions(account: Account, bucket: str) -> None:
    await account.s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})


async def test_a_bucket_is_made_once(admin: BucketAdmin, account: Account) -> None:
    await admin.create("made-once")
    assert "made-once" in await account.buckets()
    with pytest.raises(BucketExistsError, match="made-once is there already"):
        await admin.create("made-once")


async def test_it_is_made_where_the_options_say(proxy: IamProxy, account: Account) -> None:
    options = AdminOptions(endpoint=proxy.endpoint, region="eu-central-1")
    async with BucketAdmin(options) as admin:
        await admin.create("in-europe")
    assert (await account.s3.get_bucket_location(Bucket="in-europe"))["LocationConstraint"] == "eu-central-1"


async def test_ensuring_makes_it_or_leaves_it(admin: BucketAdmin, account: Account) -> None:
    assert await admin.ensure_exists("ensured") is True
    await fill(account, "ensured")
    assert await admin.ensure_exists("ensured") is False
    assert (await account.s3.list_objects_v2(Bucket="ensured"))["KeyCount"] == 1


async def test_many_who_ensure_at_once_all_succeed(admin: BucketAdmin, account: Account) -> None:
    await asyncio.gather(*(admin.ensure_exists("ensured-by-many") for _ in range(8)))
    assert "ensured-by-many" in await account.buckets()


@pytest.mark.parametrize("refused", ["GET", "PUT"])
async def test_a_name_that_is_somebody_elses(admin: BucketAdmin, proxy: IamProxy, refused: str) -> None:
    said = (403, "AccessDenied") if refused == "GET" else (409, "BucketAlreadyExists")
    proxy.fail(refused, said, said)
    for attempt in (admin.create("their-bucket"), admin.ensure_exists("their-bucket")):
        with pytest.raises(BucketTakenError, match="choose another"):
            await attempt


async def test_a_creation_whose_answer_is_lost_succeeds(proxy: IamProxy, account: Account) -> None:
    # Not in us-east-1, where S3 has nothing against making a bucket twice.
    proxy.rewrite = partial(losing_first, "PUT", [])
    async with BucketAdmin(AdminOptions(endpoint=proxy.endpoint, region="eu-central-1")) as admin:
        await admin.create("lost-answer")
    assert proxy.count("PUT") == 2
    assert "lost-answer" in await account.buckets()


async def test_an_empty_bucket_is_deleted(admin: BucketAdmin, account: Account) -> None:
    bucket = await account.new_bucket()
    assert await admin.delete(bucket) == Emptied(0, 0)
    assert bucket not in await account.buckets()
    with pytest.raises(BucketNotFoundError):
        await admin.delete(bucket)
    with pytest.raises(BucketNotFoundError):
        await admin.delete(bucket, force=True)


async def test_a_deletion_whose_answer_is_lost_succeeds(admin: BucketAdmin, account: Account, proxy: IamProxy) -> None:
    bucket = await account.new_bucket()
    proxy.rewrite = partial(losing_first, "DELETE", [])
    await admin.delete(bucket)
    assert proxy.count("DELETE") == 2
    assert bucket not in await account.buckets()


@pytest.mark.parametrize("content", [{"keys": 1, "multiparts": 0}, {"keys": 0, "multiparts": 1}])
async def test_a_bucket_that_is_not_empty_stays(
    admin: BucketAdmin, account: Account, content: Mapping[str, int]
) -> None:
    bucket = await account.new_bucket()
    await fill(account, bucket, **content)
    with pytest.raises(BucketNotEmptyError, match="force"):
        await admin.delete(bucket)
    assert (await account.s3.list_objects_v2(Bucket=bucket))["KeyCount"] == content["keys"]
    assert len((await account.s3.list_multipart_uploads(Bucket=bucket)).get("Uploads", ())) == content["multiparts"]


async def test_old_versions_keep_a_bucket_too(admin: BucketAdmin, account: Account) -> None:
    bucket = await account.new_bucket()
    await keep_versions(account, bucket)
    await fill(account, bucket, multiparts=0)
    await account.s3.delete_object(Bucket=bucket, Key="a key/0 é&<")
    with pytest.raises(BucketNotEmptyError):
        await admin.delete(bucket)


@pytest.mark.parametrize("versions", [False, True])
async def test_a_forced_deletion_takes_everything_and_says_how_far_it_is(
    admin: BucketAdmin, account: Account, *, versions: bool
) -> None:
    bucket = await account.new_bucket()
    if versions:
        await keep_versions(account, bucket)
        await fill(account, bucket, keys=3, multiparts=0)
        await account.s3.delete_object(Bucket=bucket, Key="a key/0 é&<")
    await fill(account, bucket, keys=3, multiparts=2)
    told: list[Emptied] = []
    gone = await admin.delete(bucket, force=True, on_progress=told.append)
    assert gone == Emptied(objects=7 if versions else 3, multiparts=2)
    assert (told[0], told[-1]) == (Emptied(0, 1), gone)
    assert bucket not in await account.buckets()


async def test_a_service_that_knows_no_versions_is_emptied(
    admin: BucketAdmin, account: Account, proxy: IamProxy
) -> None:
    bucket = await account.new_bucket()
    await fill(account, bucket, keys=2, multiparts=0)
    proxy.fail("GET ?versions", (501, "NotImplemented"))
    assert await admin.delete(bucket, force=True) == Emptied(2, 0)


async def test_what_cannot_be_deleted_is_named_and_the_rest_goes(
    admin: BucketAdmin, account: Account, proxy: IamProxy
) -> None:
    bucket = await account.new_bucket()
    await fill(account, bucket, keys=2, multiparts=0)
    errors = "".join(
        f"<Error><Key>{key}</Key><Code>AccessDenied</Code><Message>locked</Message></Error>" for key in ("x", "y", "z")
    )
    proxy.faults.append(Fault("POST ?delete", answer=(200, f"<DeleteResult>{errors}</DeleteResult>".encode())))
    with pytest.raises(BucketNotEmptiedError, match=r"'x'.*AccessDenied.*locked.*and 2 more") as caught:
        await admin.delete(bucket, force=True)
    assert len(caught.value.left) == 2
    assert "'x'" not in caught.value.log_message
    assert bucket in await account.buckets()


async def test_a_bucket_that_others_go_on_filling_is_given_up(
    admin: BucketAdmin, account: Account, proxy: IamProxy
) -> None:
    bucket = await account.new_bucket()
    proxy.fail("DELETE", *[(409, "BucketNotEmpty")] * 3)
    with pytest.raises(BucketNotEmptyError, match="filled while it is emptied"):
        await admin.delete(bucket, force=True)
    assert bucket in await account.buckets()


async def test_buckets_are_listed_by_name(admin: BucketAdmin, account: Account) -> None:
    for name in ("list-b", "list-a"):
        await admin.create(name)
    found = [bucket for bucket in await admin.list() if bucket.name.startswith("list-")]
    assert [bucket.name for bucket in found] == ["list-a", "list-b"]
    assert all(bucket.created_at is not None and bucket.created_at.tzinfo is UTC for bucket in found)


async def test_names_that_no_bucket_has_are_not_asked_for(admin: BucketAdmin, proxy: IamProxy) -> None:
    for attempt in (
        admin.create("No"),
        admin.ensure_exists("No"),
        admin.delete("No"),
        admin.list_policies("No"),
        admin.list_keys("No"),
        admin.revoke_credentials("No", "AKIA"),
        admin.create_with_credentials("No"),
    ):
        with pytest.raises(InvalidBucketNameError):
            await attempt
    assert proxy.requests == []


async def test_keys_that_the_service_does_not_know_are_no_missing_bucket(admin: BucketAdmin, proxy: IamProxy) -> None:
    proxy.fail("GET", *[(403, "InvalidAccessKeyId")] * 3)
    for attempt in (admin.ensure_exists("bucket"), admin.delete("bucket"), admin.generate_credentials("bucket")):
        with pytest.raises(UnauthenticatedError):
            await attempt


async def test_a_profile_that_is_not_there(moto: S3Server) -> None:
    async with BucketAdmin(AdminOptions(endpoint=moto.endpoint, aws_profile="nobody")) as admin:
        with pytest.raises(UnauthenticatedError, match="nobody"):
            await admin.list()


async def test_a_closed_admin_says_so(moto: S3Server) -> None:
    admin = BucketAdmin(AdminOptions(endpoint=moto.endpoint))
    await admin.aclose()
    await admin.aclose()
    with pytest.raises(StoreUnavailableError, match="closed"):
        await admin.list()
