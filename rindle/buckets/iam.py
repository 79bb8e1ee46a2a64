"""Users, access keys and policies: IAM's calls, each of which may be repeated without harm but for one."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from rindle.buckets.clients import Clients
from rindle.buckets.errors import BucketError, PolicyNotFoundError
from rindle.buckets.model import Policy, PolicySummary, moment
from rindle.objectstore.errors import ObjectStoreError
from rindle.objectstore.s3.errors import code_of

Result = TypeVar("Result")

# AWS's IAM does not know at once everywhere what it has made a moment ago.
_PAUSES = (0.5, 1.0, 2.0, 4.0)
_ABSENT = "NoSuchEntity"


class Iam:
    """IAM's calls, as many as credentials for buckets need. Removing what is not there is fine."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients

    # Users

    async def create_user(self, name: str, path: str) -> None:
        """Make a user whose name is new: one that is there is this call's own, whose answer was lost."""
        try:
            await self._clients.call_iam("create_user", UserName=name, Path=path)
        except ObjectStoreError as error:
            if code_of(error) != "EntityAlreadyExists":
                raise

    async def delete_user(self, name: str) -> None:
        """Remove a user, who has no keys and policies any more."""
        await _if_there(self._clients.call_iam("delete_user", UserName=name))

    async def users_below(self, path: str) -> list[str]:
        """The names of the users whose path begins so."""
        users = self._clients.items_iam("list_users", "Users", PathPrefix=path)
        return [user["UserName"] async for user in users]

    # Access keys

    async def create_access_key(self, user: str, *, is_new: bool) -> Mapping[str, Any]:
        """Make a key, with its secret. Sent once: an answer that is lost is a key whose secret nobody knows."""

        async def create() -> Mapping[str, Any]:
            answer = await self._clients.call_iam("create_access_key", once=True, UserName=user)
            key: Mapping[str, Any] = answer["AccessKey"]
            return key

        return await (_when_known(create) if is_new else create())

    async def delete_access_key(self, user: str, access_key_id: str) -> None:
        """Remove a key, so that nobody gets in with it."""
        await _if_there(self._clients.call_iam("delete_access_key", UserName=user, AccessKeyId=access_key_id))

    async def access_keys(self, user: str | None = None) -> list[Mapping[str, Any]]:
        """The keys of a user, none of a user who is not there; without one, all that there are (Tigris)."""
        whose = {} if user is None else {"UserName": user}
        try:
            return [key async for key in self._clients.items_iam("list_access_keys", "AccessKeyMetadata", **whose)]
        except ObjectStoreError as error:
            if code_of(error) != _ABSENT:
                raise
            return []

    # Policies

    async def create_policy(self, name: str, document: Mapping[str, Any]) -> str:
        """Make a policy whose name is new, and say its ARN; one that is there is this call's own."""
        try:
            text = json.dumps(document, separators=(",", ":"))
            answer = await self._clients.call_iam("create_policy", PolicyName=name, PolicyDocument=text)
        except ObjectStoreError as error:
            if code_of(error) != "EntityAlreadyExists":
                raise
            arn = await self.find_policy(name)
            if arn is None:
                raise
            return arn
        return str(answer["Policy"]["Arn"])

    async def delete_policy(self, arn: str) -> None:
        """Remove a policy, with the older versions that somebody who edited it has left."""
        try:
            await _if_there(self._clients.call_iam("delete_policy", PolicyArn=arn))
        except ObjectStoreError as error:
            if code_of(error) != "DeleteConflict":
                raise
            async for version in self._clients.items_iam("list_policy_versions", "Versions", PolicyArn=arn):
                if not version["IsDefaultVersion"]:
                    older = {"PolicyArn": arn, "VersionId": version["VersionId"]}
                    await _if_there(self._clients.call_iam("delete_policy_version", **older))
            await _if_there(self._clients.call_iam("delete_policy", PolicyArn=arn))

    async def attach_policy(self, user: str, arn: str) -> None:
        """Let a user, or a key that is its own user, do what a policy says."""
        await _when_known(lambda: self._clients.call_iam("attach_user_policy", UserName=user, PolicyArn=arn))

    async def detach_policy(self, user: str, arn: str) -> None:
        """Take back what :meth:`attach_policy` gave."""
        await _if_there(self._clients.call_iam("detach_user_policy", UserName=user, PolicyArn=arn))

    async def policies(self) -> list[PolicySummary]:
        """All policies of the account's own."""
        found = self._clients.items_iam("list_policies", "Policies", Scope="Local")
        return [PolicySummary(said["PolicyName"], said["Arn"], moment(said.get("CreateDate"))) async for said in found]

    async def policies_of(self, user: str) -> list[PolicySummary]:
        """The policies that a user has, without their dates."""
        found = self._clients.items_iam("list_attached_user_policies", "AttachedPolicies", UserName=user)
        return [PolicySummary(said["PolicyName"], said["PolicyArn"], None) async for said in found]

    async def find_policy(self, name: str) -> str | None:
        """The ARN of the policy of this name."""
        return next((policy.arn for policy in await self.policies() if policy.name == name), None)

    async def get_policy(self, arn: str) -> Policy:
        """A policy with what it says; PolicyNotFoundError."""
        try:
            said = (await self._clients.call_iam("get_policy", PolicyArn=arn))["Policy"]
            version = {"PolicyArn": arn, "VersionId": said["DefaultVersionId"]}
            document = (await self._clients.call_iam("get_policy_version", **version))["PolicyVersion"]["Document"]
            attached = await self.attached_to(arn)
        except ObjectStoreError as error:
            if code_of(error) != _ABSENT:
                raise
            msg = f"there is no policy {arn}"
            raise PolicyNotFoundError(msg) from error
        return Policy(said["PolicyName"], arn, moment(said.get("CreateDate")), _decoded(document, arn), tuple(attached))

    async def attached_to(self, arn: str) -> list[str]:
        """Who has the policy: users, or access keys where they are their own users."""
        found = self._clients.items_iam("list_entities_for_policy", "PolicyUsers", PolicyArn=arn, EntityFilter="User")
        return [_name_of(user) async for user in found]


def _name_of(user: Mapping[str, Any]) -> str:
    # Tigris has the id of a key and its label here, and ids begin with this.
    names = (str(user.get("UserName", "")), str(user.get("UserId", "")))
    return next((name for name in names[::-1] if name.startswith("tid_")), names[0])


def _decoded(document: object, arn: str) -> Mapping[str, Any]:
    """IAM sends a document as URL-encoded JSON, which the SDK decodes if it is that."""
    if isinstance(document, str):
        try:
            document = json.loads(document)
        except ValueError as error:
            msg = f"the policy {arn} is no JSON"
            raise BucketError(msg) from error
    if not isinstance(document, dict):
        msg = f"the policy {arn} is no JSON object"
        raise BucketError(msg)
    return document


async def _if_there(call: Awaitable[object]) -> None:
    try:
        await call
    except ObjectStoreError as error:
        if code_of(error) != _ABSENT:
            raise


async def _when_known(call: Callable[[], Awaitable[Result]]) -> Result:
    """The outcome of a call about what was made a moment ago."""
    for pause in _PAUSES:
        try:
            return await call()
        except ObjectStoreError as error:
            if code_of(error) != _ABSENT:
                raise
        await asyncio.sleep(pause)
    return await call()
