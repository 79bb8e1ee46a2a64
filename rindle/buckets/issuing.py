"""Access keys for a bucket: made wholly or not at all, listed, and revoked."""

import secrets
from collections.abc import Iterable, Sequence
from functools import partial

from rindle.buckets.clients import Clients
from rindle.buckets.errors import (
    AccessKeyNotFoundError,
    BucketError,
    CredentialsNotRevokedError,
)
from rindle.buckets.iam import Iam
from rindle.buckets.model import AccessKey, Credentials, PolicySummary, Scope, Secret, moment
from rindle.buckets.policies import check_scope, is_policy_for, name_policy, write_document
from rindle.buckets.undo import Step, Undo
from rindle.errors import RindleError


class Issuer:
    """Makes access keys that may use one bucket, and takes them back.

    Where keys belong to users, each gets one of its own, under the path ``/rindle/<bucket>/``. What the key may do is
    in a policy whose name says the bucket and whose key it is, and which is made after the key and before anybody
    hears of it: whoever dies in between leaves a key that may do nothing.
    """

    def __init__(self, clients: Clients, iam: Iam) -> None:
        self._clients = clients
        self._iam = iam

    async def check(self, scope: Scope, user: str | None) -> None:
        """InvalidScopeError for what the service cannot give, ConfigurationError where there is no IAM."""
        service = await self._clients.service()
        check_scope(scope, service)
        if user is not None and not service.users:
            msg = f"{service.name} has no users: an access key is its own"
            raise BucketError(msg)
        await self._clients.require_iam()

    async def issue(self, scope: Scope, user: str | None, made: Undo) -> Credentials:
        """A new key for the scope, of a new user or of this one. Everything on the way is noted in ``made``."""
        service = await self._clients.service()
        document = write_document(scope, service, partition=await self._clients.partition())
        name = user or f"rindle-{secrets.token_hex(8)}"
        if user is None and service.users:
            async with made.step(f"the user {name}", partial(self._iam.delete_user, name)):
                await self._iam.create_user(name, _path(scope.bucket))
        remove_key = self._remove_keys_of if user is None else self._name_key_of
        async with made.step(f"an access key of {name}", partial(remove_key, name)) as step:
            key = await self._iam.create_access_key(name, is_new=user is None and service.users)
            access_key_id = str(key["AccessKeyId"])
            owner = name if service.users else access_key_id
            step.what = f"the access key {access_key_id}"
            step.remove = partial(self._iam.delete_access_key, owner, access_key_id)
        policy = name_policy(scope.bucket, access_key_id)
        async with made.step(f"the policy {policy}", partial(self._remove_policy, policy)):
            arn = await self._iam.create_policy(policy, document)
        async with made.step(f"the policy {policy} of {owner}", partial(self._iam.detach_policy, owner, arn)):
            await self._iam.attach_policy(owner, arn)
        return Credentials(scope, access_key_id, Secret(key["SecretAccessKey"]), owner, arn)

    async def _remove_keys_of(self, name: str) -> None:
        """Remove what a call without an answer may have made for a user, or by a label, that was new."""
        if (await self._clients.service()).users:
            found = [(name, key) for key in await self._iam.access_keys(name)]
        else:
            every = await self._iam.access_keys()
            found = [(str(key["AccessKeyId"]), key) for key in every if key.get("UserName") == name]
        for owner, key in found:
            await self._iam.delete_access_key(owner, str(key["AccessKeyId"]))

    async def _name_key_of(self, user: str) -> None:
        msg = f"the service did not answer: {user} may have a new one, whose secret nobody knows"
        raise BucketError(msg)

    async def _remove_policy(self, name: str) -> None:
        arn = await self._iam.find_policy(name)
        if arn is not None:
            await self._iam.delete_policy(arn)

    async def policies(self, bucket: str) -> Sequence[PolicySummary]:
        """The policies that were made for the bucket."""
        return [policy for policy in await self._iam.policies() if is_policy_for(bucket, policy.name)]

    async def keys(self, bucket: str) -> Sequence[AccessKey]:
        """The keys that were made for the bucket, the oldest first."""
        policies = {policy.name: policy.arn for policy in await self.policies(bucket)}
        holders = {holder for arn in policies.values() for holder in await self._iam.attached_to(arn)}
        if not (await self._clients.service()).users:
            made = [AccessKey(key, key, policies.get(name_policy(bucket, key)), None) for key in holders]
            return sorted((key for key in made if key.policy_arn), key=lambda key: key.access_key_id)
        own = set(await self._iam.users_below(_path(bucket)))
        found = []
        for user in own | holders:
            for said in await self._iam.access_keys(user):
                arn = policies.get(name_policy(bucket, said["AccessKeyId"]))
                if arn is not None or user in own:
                    found.append(AccessKey(said["AccessKeyId"], user, arn, moment(said.get("CreateDate"))))
        return sorted(found, key=lambda key: (str(key.created_at), key.access_key_id))

    async def revoke(self, bucket: str, access_key_id: str) -> None:
        """Remove a key that was made for the bucket; then what was made with it, unless its user has another key."""
        arn = await self._iam.find_policy(name_policy(bucket, access_key_id))
        policies = set() if arn is None else {arn}
        owners = {access_key_id}
        users: list[str] = []
        if (await self._clients.service()).users:
            own = await self._iam.users_below(_path(bucket))
            holders = [] if arn is None else await self._iam.attached_to(arn)
            owners = {user for user in {*own, *holders} if await self._has_key(user, access_key_id)}
            users = [user for user in own if user in owners or user in holders]
        if not policies and not users:
            msg = f"{access_key_id} is no access key that was made for the bucket {bucket}"
            raise AccessKeyNotFoundError(msg)
        for owner in owners:
            await self._iam.delete_access_key(owner, access_key_id)
        for user in users:
            if await self._iam.access_keys(user):
                return
            policies.update(
                policy.arn for policy in await self._iam.policies_of(user) if is_policy_for(bucket, policy.name)
            )
        rest = await self._rest(policies, users)
        for done, step in enumerate(rest):
            try:
                await step.remove()
            except RindleError as error:
                left = [f"{step.what} ({error})", *(later.what for later in rest[done + 1 :])]
                raise CredentialsNotRevokedError(access_key_id, left) from error

    async def _has_key(self, user: str, access_key_id: str) -> bool:
        return any(key["AccessKeyId"] == access_key_id for key in await self._iam.access_keys(user))

    async def _rest(self, policies: Iterable[str], users: Iterable[str]) -> Sequence[Step]:
        """What is left of credentials without their key; policies last, as by them the others are found again."""
        attached = [(arn, holder) for arn in policies for holder in await self._iam.attached_to(arn)]
        return [
            *(Step(f"the policy {arn} of {who}", partial(self._iam.detach_policy, who, arn)) for arn, who in attached),
            *(Step(f"the user {user}", partial(self._iam.delete_user, user)) for user in users),
            *(Step(f"the policy {arn}", partial(self._iam.delete_policy, arn)) for arn in policies),
        ]


def _path(bucket: str) -> str:
    return f"/rindle/{bucket}/"
