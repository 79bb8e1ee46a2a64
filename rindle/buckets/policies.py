"""What credentials may do, as a policy says it, and what a policy's name says."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from rindle.buckets.errors import InvalidScopeError
from rindle.buckets.model import Scope
from rindle.buckets.services import Service
from rindle.objectstore.errors import InvalidKeyError
from rindle.objectstore.keys import validate_key

_LIST = ("s3:ListBucket",)
_LIST_UNFINISHED = ("s3:ListBucketMultipartUploads",)
_READ = ("s3:GetObject", "s3:GetObjectTagging")
_READ_VERSIONS = ("s3:GetObjectVersion", "s3:GetObjectVersionTagging")
_WRITE = (
    "s3:PutObject",
    "s3:PutObjectTagging",
    "s3:DeleteObject",
    "s3:AbortMultipartUpload",
    "s3:ListMultipartUploadParts",
)
_DIGITS = 16
_WILD = re.compile(r"[*?$]")


def check_scope(scope: Scope, service: Service) -> None:
    """InvalidScopeError for what the service's policies cannot say, or would read as something wider."""
    if scope.access not in {"read-only", "read-write"}:
        msg = f"credentials are read-only or read-write, not {scope.access!r}"
        raise InvalidScopeError(msg)
    if not scope.prefix:
        return
    if not service.prefixes:
        msg = (
            f"a policy of {service.name} cannot keep credentials from listing what is outside of a prefix; "
            "give them a bucket of their own"
        )
        raise InvalidScopeError(msg)
    try:
        validate_key(scope.prefix, store="s3")
    except InvalidKeyError as error:
        msg = f"the prefix {scope.prefix!r} is none that keys can have: {error.args[0]}"
        raise InvalidScopeError(msg) from error
    if wild := _WILD.search(scope.prefix):
        msg = f"the prefix {scope.prefix!r} has a {wild[0]!r}, which in a policy would stand for others"
        raise InvalidScopeError(msg)


def write_document(scope: Scope, service: Service, *, partition: str) -> Mapping[str, Any]:
    """The policy for what a store on the bucket, or on the prefix in it, does; and for nothing else.

    S3 has no condition by which the unfinished multiparts of a part of a bucket could be listed: with a prefix, the
    names of all of them can be.
    """
    bucket = f"arn:{partition}:s3:::{scope.bucket}"
    objects = f"{bucket}/{scope.prefix}/*" if scope.prefix else f"{bucket}/*"
    listing = _allow("ListObjects", _LIST, bucket)
    if scope.prefix:
        listing["Condition"] = {"StringLike": {"s3:prefix": f"{scope.prefix}/*"}}
    reading = (*_READ, *_READ_VERSIONS) if service.versions else _READ
    statements = [listing, _allow("ReadObjects", reading, objects)]
    if scope.access == "read-write":
        statements += [
            _allow("ListUnfinished", _LIST_UNFINISHED, bucket),
            _allow("WriteObjects", _WRITE, objects),
        ]
    return {"Version": "2012-10-17", "Statement": statements}


def _allow(name: str, actions: Sequence[str], resource: str) -> dict[str, Any]:
    return {"Sid": name, "Effect": "Allow", "Action": list(actions), "Resource": resource}


def name_policy(bucket: str, access_key_id: str) -> str:
    """The name of a key's policy. It says for which bucket it is; and whose it is, to who knows the key's id."""
    digest = hashlib.sha256(access_key_id.encode()).hexdigest()[:_DIGITS]
    return f"bucket-policy-{bucket}-{digest}"


def is_policy_for(bucket: str, name: str) -> bool:
    """Whether a policy's name is that of one for the bucket, and not for one whose name only begins alike."""
    return re.fullmatch(rf"bucket-policy-{re.escape(bucket)}-[0-9a-f]{{{_DIGITS}}}", name) is not None
