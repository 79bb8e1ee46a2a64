"""Signatures of requests: AWS Signature Version 4, for the one kind of request that the SDK's own way is too slow for.

https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from urllib.parse import quote

ALGORITHM = "AWS4-HMAC-SHA256"
UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"


@dataclass(frozen=True, slots=True)
class Keys:
    """An access key with its secret, and the token that goes with temporary ones."""

    access: str
    secret: str = field(repr=False)
    token: str | None = field(default=None, repr=False)


def spell_query(query: Mapping[str, str]) -> str:
    """A query as it is sent and signed."""
    pairs = sorted((quote(name, safe=""), quote(value, safe="")) for name, value in query.items())
    return "&".join(f"{name}={value}" for name, value in pairs)


def sign(
    method: str, path: str, query: str, headers: Mapping[str, str], *, keys: Keys, region: str, now: datetime
) -> dict[str, str]:
    """The headers to send: those given, all of which are signed, and those that make the signature.

    ``path`` and ``query`` as they are sent: S3 encodes a path once, and changes nothing else about it. The names of
    headers are in lower case, ``host`` among them.
    """
    time = f"{now:%Y%m%dT%H%M%SZ}"
    signed = {"x-amz-content-sha256": UNSIGNED_PAYLOAD, **headers, "x-amz-date": time}
    if keys.token is not None:
        signed["x-amz-security-token"] = keys.token
    names = ";".join(sorted(signed))
    lines = "".join(f"{name}:{' '.join(signed[name].split())}\n" for name in sorted(signed))
    request = "\n".join([method, path, query, lines, names, signed["x-amz-content-sha256"]])
    scope = f"{time[:8]}/{region}/s3/aws4_request"
    to_sign = "\n".join([ALGORITHM, time, scope, hashlib.sha256(request.encode()).hexdigest()])
    signature = _hmac(_signing_key(keys.secret, time[:8], region), to_sign).hex()
    credential = f"Credential={keys.access}/{scope}"
    signed["authorization"] = f"{ALGORITHM} {credential}, SignedHeaders={names}, Signature={signature}"
    return signed


@lru_cache(maxsize=8)
def _signing_key(secret: str, day: str, region: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (day, region, "s3", "aws4_request"):
        key = _hmac(key, part)
    return key


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")
