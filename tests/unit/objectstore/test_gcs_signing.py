from datetime import UTC, datetime

import pytest

from rindle.objectstore.gcs import GCSOptions
from rindle.objectstore.gcs.bucket import Bucket
from rindle.objectstore.gcs.signing import sign_url

NOW = datetime(2026, 11, 21, 18, 19, 51, tzinfo=UTC)
SIGNER = "signer@project.iam.gserviceaccount.com"
QUERY = (
    "?X-Goog-Algorithm=GOOG4-RSA-SHA256"
    "&X-Goog-Credential=signer%40project.iam.gserviceaccount.com%2F20261121%2Fauto%2Fstorage%2Fgoog4_request"
    "&X-Goog-Date=20261121T181951Z&X-Goog-Expires=3600&X-Goog-SignedHeaders=host&X-Goog-Signature=7369676e6174757265"
)


# What google-cloud-storage signs, and the URLs that it makes.
@pytest.mark.parametrize(
    ("method", "key", "path", "digest"),
    [
        (
            "GET",
            "a key/é+~%2F?.txt",
            "/bucket/a%20key/%C3%A9%2B~%252F%3F.txt",
            "2e2e0c2b637b62ff2e2125b08ed3e95166bfe92b8c8c9d3d0f9de9a8f1fdc409",
        ),
        ("PUT", "plain", "/bucket/plain", "a192d11d9600a068a1fe3f99ecc0a4eabc76ec62d509ceabf80bbb1bd6f74401"),
    ],
)
async def test_a_url_is_signed_as_google_signs_it(method: str, key: str, path: str, digest: str) -> None:
    signed: list[bytes] = []

    async def sign(message: bytes) -> bytes:
        signed.append(message)
        return b"signature"

    bucket = Bucket(GCSOptions(bucket="bucket", anonymous=True))
    url = await sign_url(bucket.url(key), method, seconds=3600, now=NOW, signer=SIGNER, sign=sign)
    assert url == f"https://storage.googleapis.com{path}{QUERY}"
    expected = f"GOOG4-RSA-SHA256\n20261121T181951Z\n20261121/auto/storage/goog4_request\n{digest}"
    assert signed == [expected.encode()]
    await bucket.aclose()
