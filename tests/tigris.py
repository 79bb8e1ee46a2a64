"""A stand-in for Tigris, as far as its documents say how it differs from AWS. Buckets are moto's.

https://www.tigrisdata.com/docs/iam/policies/ and its pages on operations, actions and access keys.
"""

import json
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from urllib.parse import quote
from xml.sax.saxutils import escape

from typing_extensions import override

from tests.iam_proxy import Fields, IamProxy, http_answer, iam_error
from tests.s3_proxy import Request

ACTIONS = {
    "s3:AbortMultipartUpload",
    "s3:CreateBucket",
    "s3:DeleteBucket",
    "s3:DeleteObject",
    "s3:DeleteObjectTagging",
    "s3:GetObject",
    "s3:GetObjectAcl",
    "s3:GetObjectTagging",
    "s3:ListAllMyBuckets",
    "s3:ListBucket",
    "s3:ListBucketMultipartUploads",
    "s3:ListMultipartUploadParts",
    "s3:PutObject",
    "s3:PutObjectAcl",
    "s3:PutObjectTagging",
}
CONDITIONS = {"IpAddress", "NotIpAddress", "DateEquals", "DateNotEquals", "DateGreaterThan", "DateLessThan"}


class RefusedError(Exception):
    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.answer = iam_error(status, code)


@dataclass
class Tigris(IamProxy):
    """Keys are their own users, by their ids; what is called a user's name at their creation is a label."""

    labels: dict[str, str] = field(default_factory=dict)
    documents: dict[str, str] = field(default_factory=dict)
    attached: set[tuple[str, str]] = field(default_factory=set)

    @override
    async def answer(self, request: Request, fields: Fields) -> bytes:
        action = fields.get("Action")
        if action is None:
            return await super().answer(request, fields)
        known: dict[str, Callable[[Fields], str]] = {
            "CreateAccessKey": self._create_key,
            "DeleteAccessKey": self._delete_key,
            "ListAccessKeys": self._list_keys,
            "CreatePolicy": self._create_policy,
            "DeletePolicy": self._delete_policy,
            "ListPolicies": self._list_policies,
            "GetPolicy": self._get_policy,
            "GetPolicyVersion": self._get_policy_version,
            "AttachUserPolicy": self._attach,
            "DetachUserPolicy": self._detach,
            "ListEntitiesForPolicy": self._list_entities,
        }
        if action not in known:
            return iam_error(501, "NotImplemented")
        try:
            said = known[action](fields)
        except RefusedError as refused:
            return refused.answer
        return http_answer(
            200, f"<{action}Response><{action}Result>{said}</{action}Result></{action}Response>".encode()
        )

    def _create_key(self, fields: Fields) -> str:
        key = f"tid_{secrets.token_urlsafe(24)}"
        self.labels[key] = fields["UserName"]
        said = {"UserName": fields["UserName"], "AccessKeyId": key, "SecretAccessKey": f"tsec_{secrets.token_hex(20)}"}
        return f"<AccessKey>{elements(said)}</AccessKey>"

    def _delete_key(self, fields: Fields) -> str:
        self._require_key(fields["AccessKeyId"])
        del self.labels[fields["AccessKeyId"]]
        return ""

    def _list_keys(self, fields: Fields) -> str:
        assert "UserName" not in fields
        keys = [{"UserName": label, "AccessKeyId": key} for key, label in self.labels.items()]
        return f"<AccessKeyMetadata>{members(keys)}</AccessKeyMetadata>"

    def _create_policy(self, fields: Fields) -> str:
        document = json.loads(fields["PolicyDocument"])
        for statement in document["Statement"]:
            if not set(statement["Action"]) <= ACTIONS or not set(statement.get("Condition", ())) <= CONDITIONS:
                raise RefusedError(400, "MalformedPolicyDocument")
        if fields["PolicyName"] in self.documents:
            raise RefusedError(409, "EntityAlreadyExists")
        self.documents[fields["PolicyName"]] = fields["PolicyDocument"]
        return f"<Policy>{elements(self._policy(fields['PolicyName']))}</Policy>"

    def _delete_policy(self, fields: Fields) -> str:
        del self.documents[self._require_policy(fields)]
        return ""

    def _list_policies(self, _: Fields) -> str:
        return f"<Policies>{members(self._policy(name) for name in self.documents)}</Policies>"

    def _get_policy(self, fields: Fields) -> str:
        return f"<Policy>{elements(self._policy(self._require_policy(fields)))}</Policy>"

    def _get_policy_version(self, fields: Fields) -> str:
        document = quote(self.documents[self._require_policy(fields)])
        return f"<PolicyVersion>{elements({'Document': document, 'VersionId': fields['VersionId']})}</PolicyVersion>"

    def _attach(self, fields: Fields) -> str:
        self._require_key(fields["UserName"])
        self.attached.add((self._require_policy(fields), fields["UserName"]))
        return ""

    def _detach(self, fields: Fields) -> str:
        pair = (self._require_policy(fields), fields["UserName"])
        if pair not in self.attached:
            raise RefusedError(404, "NoSuchEntity")
        self.attached.remove(pair)
        return ""

    def _list_entities(self, fields: Fields) -> str:
        policy = self._require_policy(fields)
        keys = [{"UserName": self.labels.get(key, ""), "UserId": key} for name, key in self.attached if name == policy]
        return f"<PolicyUsers>{members(keys)}</PolicyUsers>"

    def _require_key(self, key: str) -> None:
        if key not in self.labels:
            raise RefusedError(404, "NoSuchEntity")

    def _require_policy(self, fields: Fields) -> str:
        name = fields["PolicyArn"].rpartition("/")[2]
        if name not in self.documents:
            raise RefusedError(404, "NoSuchEntity")
        return name

    def _policy(self, name: str) -> dict[str, str]:
        return {"PolicyName": name, "Arn": f"arn:aws:iam::org_0:policy/{name}", "DefaultVersionId": "v1"}


def elements(said: dict[str, str]) -> str:
    return "".join(f"<{name}>{escape(text)}</{name}>" for name, text in said.items())


def members(items: Iterable[dict[str, str]]) -> str:
    return "".join(f"<member>{elements(item)}</member>" for item in items)
