from datetime import UTC, datetime
from urllib.parse import quote

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from rindle.objectstore.s3.signing import Keys, sign, spell_query

KEYS = Keys("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
MAY_2013 = datetime(2013, 5, 24, tzinfo=UTC)


def test_the_example_of_a_put_in_the_documents_of_s3() -> None:
    headers = {
        "host": "examplebucket.s3.amazonaws.com",
        "date": "Fri, 24 May 2013 00:00:00 GMT",
        "x-amz-storage-class": "REDUCED_REDUNDANCY",
        "x-amz-content-sha256": "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
    }
    signed = sign("PUT", "/test%24file.text", "", headers, keys=KEYS, region="us-east-1", now=MAY_2013)
    assert signed["authorization"] == (
        "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, "
        "SignedHeaders=date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class, "
        "Signature=98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"
    )


def test_the_example_of_a_query_in_the_documents_of_s3() -> None:
    headers = {
        "host": "examplebucket.s3.amazonaws.com",
        "x-amz-content-sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    }
    query = spell_query({"prefix": "J", "max-keys": "2"})
    signed = sign("GET", "/", query, headers, keys=KEYS, region="us-east-1", now=MAY_2013)
    assert signed["authorization"].endswith("34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7")


@pytest.mark.parametrize("key", ["plain", "a b+c", "ä/ö/%2F", "dots/../.", "tilde~(x)'*!", "a//b/", "=&?#"])
def test_it_signs_as_the_sdk_does(key: str) -> None:
    path = quote(f"/bucket/{key}", safe="/")
    query = spell_query({"uploadId": "a/b+c=~", "partNumber": "7"})
    headers = {"host": "127.0.0.1:9000", "x-amz-meta-name": "two  words ", "content-type": "text/plain"}
    keys = Keys("access", "secret", "token/+=")

    request = AWSRequest("PUT", f"http://127.0.0.1:9000{path}?{query}", headers | {"X-Amz-Security-Token": "token/+="})
    request.context["payload_signing_enabled"] = False
    request.headers["X-Amz-Content-SHA256"] = "UNSIGNED-PAYLOAD"
    request.headers["X-Amz-Date"] = request.context["timestamp"] = "20130524T000000Z"
    sdk = S3SigV4Auth(Credentials("access", "secret", "token/+="), "s3", "eu-west-1")
    string_to_sign = sdk.string_to_sign(request, sdk.canonical_request(request))
    expected = sdk.signature(string_to_sign, request)

    signed = sign("PUT", path, query, headers, keys=keys, region="eu-west-1", now=MAY_2013)
    assert signed["authorization"].endswith(f"Signature={expected}")
    assert signed["x-amz-security-token"] == "token/+="


def test_a_secret_is_in_no_text() -> None:
    assert "secret" not in repr(Keys("access", "a secret", "a secret token"))
