"""Access keys for a bucket: made, listed, described and revoked; and nothing left behind where that fails."""

import asyncio
import copy
import logging
import re
from dataclasses import asdict
from datetime import UTC
from functools import partial

import pytest

from rindle.buckets import AdminOptions, BucketAdmin, Credentials
from rindle.buckets.errors import (
    AccessKeyNotFoundError,
    BucketError,
    BucketExistsError,
    BucketNotFoundError,
    BucketTakenError,
    CredentialsNotMadeError,
    CredentialsNotRevokedError,
    InvalidBucketNameError,
    InvalidScopeError,
    PolicyNotFoundError,
)
from rindle.errors import ConfigurationError
from rindle.objectstore.errors import ObjectStoreError, PermissionDeniedError, UnauthenticatedError
from tests.iam_proxy import IamFault, IamProxy, http_answer
from tests.integration.buckets.account import Account
from tests.s3 import S3Server
from tests.s3_proxy import Request

MAKING = ["CreateUser", "CreateAccessKey", "CreatePolicy", "AttachUserPolicy"]
SOME_OF_MAKING = [
    pytest.param(step, marks=() if step in {"CreateAccessKey", "AttachUserPolicy"} else pytest.mark.long)
    for step in MAKING
]
UNDOING = ["DetachUserPolicy", "DeletePolicy", "DeleteAccessKey", "DeleteUser"]
REMOVES = dict(zip(MAKING, UNDOING[::-1], strict=True))
REVOKING = ["DetachUserPolicy", "DeleteUser", "DeletePolicy"]
ATTEMPTS = 4


def answering(action: str, result: str, request: Request, answer: bytes, *, before: str = "") -> bytes:
    said = f"{before}<{action}Response><{action}Result>{result}</{action}Result></{action}Response>"
    return http_answer(200, said.encode()) if f"Action={action}&".encode() in request.body else answer


async def test_they_are_a_user_with_a_key_and_a_policy(admin: BucketAdmin, account: Account, proxy: IamProxy) -> None:
    bucket = await account.new_bucket()
    before = await account.has()
    made = await admin.generate_credentials(bucket)
    policy = made.policy_arn.rpartition("/")[2]
    assert await account.has() - before == {
        f"user /rindle/{bucket}/{made.user}",
        f"key {made.access_key_id} of {made.user}",
        f"policy {policy}",
        f"{made.user} has {policy}",
    }
    assert [action for action in proxy.actions if action in MAKING] == MAKING
    assert policy.startswith(f"bucket-policy-{bucket}-")
    assert (made.scope.bucket, made.scope.access, made.scope.prefix) == (bucket, "read-write", "")


async def test_a_bucket_that_is_not_there_gets_none(admin: BucketAdmin, proxy: IamProxy) -> None:
    with pytest.raises(BucketNotFoundError, match="there is no bucket no-such-bucket"):
        await admin.generate_credentials("no-such-bucket")
    assert proxy.actions == []


async def test_what_cannot_be_is_refused_before_anything_is_asked(admin: BucketAdmin, proxy: IamProxy) -> None:
    with pytest.raises(InvalidBucketNameError):
        await admin.generate_credentials("*")
    for prefix in ("a*", "a?", "${aws:username}", "/a", "a/", "a//b", ".."):
        with pytest.raises(InvalidScopeError, match="prefix"):
            await admin.generate_credentials("bucket", prefix=prefix)
        with pytest.raises(InvalidScopeError, match="prefix"):
            await admin.create_with_credentials("bucket", prefix=prefix)
    with pytest.raises(InvalidScopeError, match="read-only or read-write"):
        await admin.generate_credentials("bucket", access="full")  # type: ignore[arg-type]
    assert proxy.requests == []


# When it fails


@pytest.mark.parametrize("step", MAKING)
async def test_a_step_that_is_refused_leaves_nothing(
    admin: BucketAdmin, account: Account, proxy: IamProxy, step: str
) -> None:
    bucket = await account.new_bucket()
    before = await account.has()
    proxy.refuse(step)
    with pytest.raises(CredentialsNotMadeError, match=f"{step}: AccessDenied.*nothing is left behind") as caught:
        await admin.generate_credentials(bucket)
    assert isinstance(caught.value.__cause__, PermissionDeniedError)
    assert caught.value.left == ()
    assert await account.has() == before
    done = MAKING[: MAKING.index(step)]
    assert [action for action in proxy.actions if action in UNDOING] == [REMOVES[action] for action in reversed(done)]


@pytest.mark.parametrize("step", SOME_OF_MAKING)
@pytest.mark.parametrize("fault", ["lost", pytest.param("500", marks=pytest.mark.long)])
async def test_a_step_that_gets_no_answer_leaves_nothing(
    admin: BucketAdmin, account: Account, proxy: IamProxy, step: str, fault: str
) -> None:
    bucket = await account.new_bucket()
    before = await account.has()
    answer = (500, "ServiceFailure") if fault == "500" else None
    proxy.iam_faults += [IamFault(step, answer=answer)] * (1 if step == "CreateAccessKey" else ATTEMPTS)
    with pytest.raises(CredentialsNotMadeError, match="nothing is left behind"):
        await admin.generate_credentials(bucket)
    assert proxy.iam_faults == []
    assert await account.has() == before
    # Whether it was done is not known, so it is undone too.
    done = MAKING[: MAKING.index(step) + 1]
    undone = [action for action in dict.fromkeys(proxy.actions) if action in UNDOING]
    assert set(undone) >= {REMOVES[action] for action in done} - (
        {"DeletePolicy", "DeleteAccessKey"} if answer else set()
    )


@pytest.mark.parametrize("step", [step for step in MAKING if step != "CreateAccessKey"])
async def test_an_answer_that_is_lost_once_is_no_failure(
    admin: BucketAdmin, account: Account, proxy: IamProxy, step: str
) -> None:
    bucket = await account.new_bucket()
    before = await account.has()
    proxy.iam_faults.append(IamFault(step))
    made = await admin.generate_credentials(bucket)
    assert proxy.actions.count(step) == 2
    assert len(await account.has() - before) == 4
    assert [key.access_key_id for key in await admin.list_keys(bucket)] == [made.access_key_id]


async def test_what_was_refused_after_a_lost_answer_may_have_been_done(
    admin: BucketAdmin, account: Account, proxy: IamProxy
) -> None:
    bucket = await account.new_bucket()
    before = await account.has()
    proxy.iam_faults.append(IamFault("CreateUser"))
    proxy.refuse("CreateUser", code="LimitExceeded", status=409)
    with pytest.raises(CredentialsNotMadeError, match="LimitExceeded"):
        await admin.generate_credentials(bucket)
    assert await account.has() == before


@pytest.mark.parametrize("step", SOME_OF_MAKING)
async def test_one_who_is_cancelled_leaves_nothing(
    admin: BucketAdmin, account: Account, proxy: IamProxy, step: str
) -> None:
    bucket = await account.new_bucket()
    before = await account.has()
    proxy.iam_faults.append(IamFault(step, how="hold"))
    making = asyncio.create_task(admin.generate_credentials(bucket))
    await proxy.held_action.wait()
    assert len(await account.has()) > len(before)
    making.cancel()
    with pytest.raises(asyncio.CancelledError):
        await making
    assert await account.has() == before


async def test_one_who_is_cancelled_again_while_it_is_undone_leaves_nothing(
    admin: BucketAdmin, account: Account, proxy: IamProxy
) -> None:
    def cancel_again(request: Request, answer: bytes) -> bytes:
        if b"Action=DeletePolicy&" in request.body:
            making.cancel()
        return answer

    bucket = await account.new_bucket()
    before = await account.has()
    proxy.iam_faults.append(IamFault("AttachUserPolicy", how="hold"))
    proxy.rewrite = cancel_again
    making = asyncio.create_task(admin.generate_credentials(bucket))
    await proxy.held_action.wait()
    making.cancel()
    with pytest.raises(asyncio.CancelledError):
        await making
    assert await account.has() == before


@pytest.mark.parametrize("step", UNDOING)
async def test_what_cannot_be_undone_is_named_and_the_rest_is_undone(
    admin: BucketAdmin, account: Account, proxy: IamProxy, step: str
) -> None:
    bucket = await account.new_bucket()
    before = await account.has()
    proxy.iam_faults += [IamFault("AttachUserPolicy")] * ATTEMPTS
    proxy.refuse(step)
    with pytest.raises(CredentialsNotMadeError, match="left behind, remove by hand") as caught:
        await admin.generate_credentials(bucket)
    assert [action for action in proxy.actions if action in UNDOING] == UNDOING
    # What stays because of it (a user whose policy is not detached) is named after it.
    first = caught.value.left[0]
    assert f"{step}: AccessDenied" in first
    kinds = {"DetachUserPolicy": "the policy", "DeletePolicy": "the policy", "DeleteAccessKey": "the access key"}
    assert first.startswith(kinds.get(step, "the user"))
    named = " ".join(caught.value.left)
    remaining = await account.has() - before
    # moto, unlike AWS, takes a policy that it deletes from its users, and deletes a user with the keys.
    assert remaining or step in {"DetachUserPolicy", "DeleteAccessKey"}
    assert all(re.search(each.split(" ")[-1].rpartition("/")[2], named) for each in remaining)
    assert named.split(" (")[0] in str(caught.value)


async def test_what_one_who_is_cancelled_leaves_behind_is_logged(
    admin: BucketAdmin, account: Account, proxy: IamProxy, caplog: pytest.LogCaptureFixture
) -> None:
    proxy.iam_faults.append(IamFault("CreateAccessKey", how="hold"))
    proxy.refuse("DeleteUser")
    making = asyncio.create_task(admin.generate_credentials(await account.new_bucket()))
    await proxy.held_action.wait()
    making.cancel()
    with pytest.raises(asyncio.CancelledError):
        await making
    (record,) = [record for record in caplog.records if record.name == "rindle.buckets.undo"]
    assert "left behind: the user rindle-" in record.getMessage()


async def test_what_is_not_known_everywhere_yet_is_waited_for(
    admin: BucketAdmin, account: Account, proxy: IamProxy
) -> None:
    bucket = await account.new_bucket()
    proxy.refuse(*["CreateAccessKey", "AttachUserPolicy"] * 3, status=404, code="NoSuchEntity")
    made = await admin.generate_credentials(bucket)
    assert (await admin.get_policy(made.policy_arn)).attached_to == (made.user,)
    assert proxy.actions.count("CreateAccessKey") == 4


# With a user that is there already


async def test_a_user_who_is_there_gets_a_key_and_keeps_what_is_his(admin: BucketAdmin, account: Account) -> None:
    bucket, user = await account.new_bucket(), await account.new_user()
    await account.add_policy(user, "arn:aws:s3:::other/*")
    await account.iam.create_access_key(UserName=user)
    before = await account.has()
    made = await admin.generate_credentials(bucket, user=user)
    assert made.user == user
    assert [key.access_key_id for key in await admin.list_keys(bucket)] == [made.access_key_id]
    await admin.revoke_credentials(bucket, made.access_key_id)
    assert await account.has() == before


@pytest.mark.parametrize("step", [step for step in MAKING if step != "CreateUser"])
async def test_a_user_who_is_there_stays_when_it_fails(
    admin: BucketAdmin, account: Account, proxy: IamProxy, step: str
) -> None:
    bucket, user = await account.new_bucket(), await account.new_user()
    await account.iam.create_access_key(UserName=user)
    before = await account.has()
    proxy.refuse(step)
    with pytest.raises(CredentialsNotMadeError):
        await admin.generate_credentials(bucket, user=user)
    assert await account.has() == before


async def test_a_key_that_nobody_knows_of_a_user_who_is_there_is_named(
    admin: BucketAdmin, account: Account, proxy: IamProxy
) -> None:
    """It could not be told from a key that somebody else makes for that user."""
    bucket, user = await account.new_bucket(), await account.new_user()
    proxy.iam_faults.append(IamFault("CreateAccessKey"))
    with pytest.raises(CredentialsNotMadeError) as caught:
        await admin.generate_credentials(bucket, user=user)
    (left,) = caught.value.left
    assert f"an access key of {user}" in left
    assert "DeleteUser" not in proxy.actions


async def test_a_user_who_is_not_there_is_not_waited_for(admin: BucketAdmin, account: Account, proxy: IamProxy) -> None:
    with pytest.raises(CredentialsNotMadeError, match=r"NoSuchEntity.*nothing is left behind"):
        await admin.generate_credentials(await account.new_bucket(), user="nobody")
    assert proxy.actions == ["CreateAccessKey"]


# Together with their bucket


async def test_a_bucket_with_credentials(admin: BucketAdmin, account: Account) -> None:
    made = await admin.create_with_credentials("a-new-bucket", access="read-only", prefix="a/b")
    assert "a-new-bucket" in await account.buckets()
    assert [key.access_key_id for key in await admin.list_keys("a-new-bucket")] == [made.access_key_id]
    with pytest.raises(BucketExistsError):
        await admin.create_with_credentials("a-new-bucket")
    assert len(await admin.list_keys("a-new-bucket")) == 1
    assert "a-new-bucket" in await account.buckets()


async def test_a_bucket_without_its_credentials_goes_again(
    admin: BucketAdmin, account: Account, proxy: IamProxy
) -> None:
    before = await account.has()
    proxy.refuse("AttachUserPolicy")
    with pytest.raises(CredentialsNotMadeError):
        await admin.create_with_credentials("another-bucket")
    assert await account.has() == before


async def test_a_bucket_that_somebody_has_begun_to_use_stays(
    admin: BucketAdmin, account: Account, proxy: IamProxy
) -> None:
    async def use() -> None:
        await proxy.held_action.wait()
        await account.s3.put_object(Bucket="used-bucket", Key="key", Body=b"somebody's")
        making.cancel()

    proxy.iam_faults.append(IamFault("CreateUser", how="hold"))
    making = asyncio.create_task(admin.create_with_credentials("used-bucket"))
    using = asyncio.create_task(use())
    with pytest.raises(asyncio.CancelledError):
        await making
    await using
    assert (await account.s3.head_object(Bucket="used-bucket", Key="key"))["ContentLength"] == 10


async def test_a_bucket_of_somebody_else_gets_none(admin: BucketAdmin, proxy: IamProxy) -> None:
    proxy.fail("PUT", (409, "BucketAlreadyExists"))
    with pytest.raises(BucketTakenError, match="choose another"):
        await admin.create_with_credentials("their-bucket")
    assert proxy.actions == []


# Revoking


async def test_revoked_credentials_leave_nothing(admin: BucketAdmin, account: Account, proxy: IamProxy) -> None:
    bucket = await account.new_bucket()
    kept = await admin.generate_credentials(bucket)
    before = await account.has()
    made = await admin.generate_credentials(bucket)
    proxy.actions.clear()
    await admin.revoke_credentials(bucket, made.access_key_id)
    assert await account.has() == before
    assert [key.access_key_id for key in await admin.list_keys(bucket)] == [kept.access_key_id]
    assert [action for action in proxy.actions if action in UNDOING] == [
        "DeleteAccessKey",  # first: nobody gets in any more, whatever becomes of the rest
        "DetachUserPolicy",
        "DeleteUser",
        "DeletePolicy",
    ]


async def test_a_key_of_another_bucket_or_of_nobody_is_not_revoked(admin: BucketAdmin, account: Account) -> None:
    one, other = await account.new_bucket(), await account.new_bucket()
    made = await admin.generate_credentials(one)
    before = await account.has()
    for bucket, key in ((other, made.access_key_id), (one, "AKIAIOSFODNN7EXAMPLE"), (one, "")):
        with pytest.raises(AccessKeyNotFoundError):
            await admin.revoke_credentials(bucket, key)
    assert await account.has() == before


@pytest.mark.parametrize("step", REVOKING)
async def test_a_revocation_that_stops_midway_says_so_and_may_be_repeated(
    admin: BucketAdmin, account: Account, proxy: IamProxy, step: str
) -> None:
    bucket = await account.new_bucket()
    before = await account.has()
    made = await admin.generate_credentials(bucket)
    proxy.refuse(step)
    with pytest.raises(CredentialsNotRevokedError, match=f"{made.access_key_id} is gone, but not: .*{step}") as caught:
        await admin.revoke_credentials(bucket, made.access_key_id)
    assert [left.split()[1] for left in caught.value.left] == ["policy", "user", "policy"][REVOKING.index(step) :]
    await admin.revoke_credentials(bucket, made.access_key_id)
    # Nothing tells any more whose the user was that had neither key nor policy left.
    remaining = {f"user /rindle/{bucket}/{made.user}"} if step == "DeleteUser" else set()
    assert await account.has() - before == remaining


async def test_a_key_that_could_not_be_removed_keeps_its_policy(
    admin: BucketAdmin, account: Account, proxy: IamProxy
) -> None:
    bucket = await account.new_bucket()
    made = await admin.generate_credentials(bucket)
    before = await account.has()
    proxy.refuse("DeleteAccessKey")
    with pytest.raises(PermissionDeniedError, match="iam: DeleteAccessKey"):
        await admin.revoke_credentials(bucket, made.access_key_id)
    assert await account.has() == before


async def test_a_key_that_was_removed_by_hand_can_be_revoked(admin: BucketAdmin, account: Account) -> None:
    bucket = await account.new_bucket()
    before = await account.has()
    made = await admin.generate_credentials(bucket)
    await account.iam.delete_access_key(UserName=made.user, AccessKeyId=made.access_key_id)
    await admin.revoke_credentials(bucket, made.access_key_id)
    assert await account.has() == before


async def test_a_user_with_another_key_keeps_it_working_until_that_goes_too(
    admin: BucketAdmin, account: Account
) -> None:
    bucket = await account.new_bucket()
    before = await account.has()
    made = await admin.generate_credentials(bucket)
    second = (await account.iam.create_access_key(UserName=made.user))["AccessKey"]["AccessKeyId"]
    assert {key.access_key_id for key in await admin.list_keys(bucket)} == {made.access_key_id, second}
    await admin.revoke_credentials(bucket, made.access_key_id)
    assert (await admin.get_policy(made.policy_arn)).attached_to == (made.user,)
    await admin.revoke_credentials(bucket, second)
    assert await account.has() == before


async def test_a_policy_that_somebody_has_edited_goes_with_its_versions(
    admin: BucketAdmin, account: Account, proxy: IamProxy
) -> None:
    bucket = await account.new_bucket()
    before = await account.has()
    made = await admin.generate_credentials(bucket)
    document = '{"Version": "2012-10-17", "Statement": {"Effect": "Deny", "Action": "s3:*", "Resource": "*"}}'
    await account.iam.create_policy_version(PolicyArn=made.policy_arn, PolicyDocument=document, SetAsDefault=True)
    proxy.refuse("DeletePolicy", status=409, code="DeleteConflict")  # as AWS does; moto removes it
    await admin.revoke_credentials(bucket, made.access_key_id)
    assert proxy.actions.count("DeletePolicyVersion") == 1
    assert await account.has() == before


async def test_what_a_killed_process_left_is_listed_and_can_be_revoked(admin: BucketAdmin, account: Account) -> None:
    bucket = await account.new_bucket()
    before = await account.has()
    await account.iam.create_user(UserName="rindle-0", Path=f"/rindle/{bucket}/")
    key = (await account.iam.create_access_key(UserName="rindle-0"))["AccessKey"]["AccessKeyId"]
    (found,) = await admin.list_keys(bucket)
    assert (found.access_key_id, found.user, found.policy_arn) == (key, "rindle-0", None)
    await admin.revoke_credentials(bucket, key)
    assert await account.has() == before


# Policies


async def test_the_policies_of_a_bucket_are_its_own(admin: BucketAdmin, account: Account) -> None:
    bucket = await account.new_bucket()
    longer = f"{bucket}-{'0' * 16}"
    await admin.create(longer)
    made = [await admin.generate_credentials(name) for name in (bucket, longer)]
    for name, credentials in zip((bucket, longer), made, strict=True):
        (policy,) = await admin.list_policies(name)
        assert policy.arn == credentials.policy_arn
        assert policy.created_at is not None
        assert policy.created_at.tzinfo is UTC
    assert await admin.list_policies("another") == []


async def test_a_policys_document_is_decoded(admin: BucketAdmin, account: Account, proxy: IamProxy) -> None:
    bucket = await account.new_bucket()
    made = await admin.generate_credentials(bucket, prefix="ä b/c")
    policy = await admin.get_policy(made.policy_arn)
    listing, reading = policy.document["Statement"][:2]
    assert listing["Condition"] == {"StringLike": {"s3:prefix": "ä b/c/*"}}
    assert reading["Resource"] == f"arn:aws:s3:::{bucket}/ä b/c/*"
    assert policy.attached_to == (made.user,)
    with pytest.raises(PolicyNotFoundError):
        await admin.get_policy(f"{made.policy_arn}0")

    for said in ("no JSON", "%5B1%5D"):
        version = f"<PolicyVersion><Document>{said}</Document></PolicyVersion>"
        proxy.rewrite = partial(answering, "GetPolicyVersion", version)
        with pytest.raises(BucketError, match="is no JSON"):
            await admin.get_policy(made.policy_arn)


async def test_entities_in_an_answer_are_not_expanded(admin: BucketAdmin, account: Account, proxy: IamProxy) -> None:
    policies = "<Policies><member><PolicyName>&a;</PolicyName><Arn>&a;</Arn></member></Policies>"
    proxy.rewrite = partial(answering, "ListPolicies", policies, before='<!DOCTYPE r [<!ENTITY a "aaaaaaaaaa">]>')
    with pytest.raises(ObjectStoreError, match="document type declaration"):
        await admin.list_policies("bucket")


# Secrets


async def test_a_secret_is_shown_to_who_asks_for_it_alone(
    admin: BucketAdmin, account: Account, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    made: Credentials = await admin.generate_credentials(await account.new_bucket())
    secret = made.secret_access_key.reveal()
    assert len(secret) == 40
    assert "CreateAccessKey" in caplog.text
    assert "(an answer with a secret)" in caplog.text
    shown = f"{made} {made!r} {made.secret_access_key} {[made.secret_access_key]} {asdict(made)} {copy.deepcopy(made)}"
    for text in (caplog.text, shown):
        assert secret not in text


# Where the keys are kept


async def test_aws_is_not_asked_about_another_services_buckets(moto: S3Server) -> None:
    async with BucketAdmin(AdminOptions(endpoint=moto.endpoint, region="us-east-1")) as admin:
        with pytest.raises(ConfigurationError, match="AWS is not to be asked: say its IAM endpoint"):
            await admin.list_policies("bucket")


async def test_keys_that_iam_does_not_know(admin: BucketAdmin, proxy: IamProxy) -> None:
    proxy.refuse("ListPolicies", code="InvalidClientTokenId")
    with pytest.raises(UnauthenticatedError, match=r"^iam: ListPolicies: InvalidClientTokenId"):
        await admin.list_policies("bucket")
