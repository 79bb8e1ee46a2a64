"""Signed URLs: the V4 signing process of Cloud Storage, with an RSA key."""

import hashlib
from collections.abc import Awaitable, Callable
from datetime import datetime
from urllib.parse import quote

from yarl import URL

_ALGORITHM = "GOOG4-RSA-SHA256"

Sign = Callable[[bytes], Awaitable[bytes]]


async def sign_url(url: URL, method: str, *, seconds: int, now: datetime, signer: str, sign: Sign) -> str:
    """A URL that lets its holder make one kind of request for a while, from ``now`` on."""
    stamp = now.strftime("%Y%m%dT%H%M%SZ")
    scope = f"{stamp[:8]}/auto/storage/goog4_request"
    parameters = {
        "X-Goog-Algorithm": _ALGORITHM,
        "X-Goog-Credential": f"{signer}/{scope}",
        "X-Goog-Date": stamp,
        "X-Goog-Expires": str(seconds),
        "X-Goog-SignedHeaders": "host",
    }
    query = "&".join(f"{name}={quote(value, safe='')}" for name, value in sorted(parameters.items()))
    canonical = [method, url.raw_path, query, f"host:{url.raw_authority}\n", "host", "UNSIGNED-PAYLOAD"]
    digest = hashlib.sha256("\n".join(canonical).encode()).hexdigest()
    signature = await sign(f"{_ALGORITHM}\n{stamp}\n{scope}\n{digest}".encode())
    return f"{url}?{query}&X-Goog-Signature={signature.hex()}"
