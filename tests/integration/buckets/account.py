"""What an account has, as its service says it, and not the code that is tested."""

import json
import secrets
import urllib.request
from contextlib import AsyncExitStack
from functools import cache
from typing import Any, Self

from aioboto3 import Session

from rindle.objectstore.s3.client import new_session


@cache
def _session() -> Session:
    return new_session(aws_profile=None, region="us-east-1")


class Account:
    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._stack = AsyncExitStack()
        self.s3: Any
        self.iam: Any

    async def __aenter__(self) -> Self:
        session = _session()
        self.s3 = await self._stack.enter_async_context(session.client("s3", endpoint_url=self._endpoint))
        self.iam = await self._stack.enter_async_context(session.client("iam", endpoint_url=self._endpoint))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def forget(self) -> None:
        """Leave nothing for the tests that follow, which would look through all of it."""
        request = urllib.request.Request(f"{self._endpoint}/moto-api/reset", method="POST")
        with urllib.request.urlopen(request):
            pass

    async def new_bucket(self) -> str:
        bucket = f"bucket-{secrets.token_hex(6)}"
        await self.s3.create_bucket(Bucket=bucket)
        return bucket

    async def buckets(self) -> set[str]:
        return {bucket["Name"] for bucket in (await self.s3.list_buckets())["Buckets"]}

    async def has(self) -> set[str]:
        """Every user, key, policy, attachment and bucket there is."""
        found = {f"bucket {name}" for name in await self.buckets()}
        for user in (await self.iam.list_users())["Users"]:
            name = user["UserName"]
            found.add(f"user {user['Path']}{name}")
            keys = (await self.iam.list_access_keys(UserName=name))["AccessKeyMetadata"]
            found |= {f"key {key['AccessKeyId']} of {name}" for key in keys}
            attached = (await self.iam.list_attached_user_policies(UserName=name))["AttachedPolicies"]
            found |= {f"{name} has {policy['PolicyName']}" for policy in attached}
        policies = (await self.iam.list_policies(Scope="Local"))["Policies"]
        return found | {f"policy {policy['PolicyName']}" for policy in policies}

    async def new_user(self) -> str:
        user = f"user-{secrets.token_hex(6)}"
        await self.iam.create_user(UserName=user)
        return user

    async def add_policy(self, user: str, *resources: str) -> None:
        """A policy that has nothing to do with buckets of these tests."""
        statement = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": list(resources)}
        document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        policy = await self.iam.create_policy(PolicyName=f"other-{secrets.token_hex(6)}", PolicyDocument=document)
        await self.iam.attach_user_policy(UserName=user, PolicyArn=policy["Policy"]["Arn"])
