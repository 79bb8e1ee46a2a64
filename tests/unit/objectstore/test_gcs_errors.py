import json

import aiohttp
import pytest
from google.auth import exceptions as google

from rindle.objectstore.errors import (
    IntegrityError,
    InvalidPartError,
    InvalidRangeError,
    MultipartNotFoundError,
    NotFoundError,
    NotModifiedError,
    ObjectStoreError,
    PermissionDeniedError,
    PreconditionFailedError,
    StoreFullError,
    StoreTimeoutError,
    StoreUnavailableError,
    ThrottledError,
    UnauthenticatedError,
    UnsupportedOperationError,
)
from rindle.objectstore.gcs import GCSOptions
from rindle.objectstore.gcs.errors import Refusal, as_configuration_error, code_of, translated

OPTIONS = GCSOptions(bucket="bucket")


def json_refusal(status: int, reason: str, said: str = "no", key: str | None = "key") -> Refusal:
    body = {"error": {"code": status, "message": said, "errors": [{"reason": reason, "message": said}]}}
    return Refusal.of(status, json.dumps(body).encode(), key)


def xml_refusal(status: int, code: str, said: str = "no", key: str | None = "key") -> Refusal:
    body = f"<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code><Message>{said}</Message></Error>"
    return Refusal.of(status, body.encode(), key)


def translate(foreign: Exception, key: str | None = "key") -> ObjectStoreError:
    with pytest.raises(ObjectStoreError) as caught, translated(key):
        raise foreign
    assert (caught.value.key, caught.value.__cause__) == (key, foreign)
    return caught.value


@pytest.mark.parametrize(
    ("foreign", "kind"),
    [
        (json_refusal(404, "notFound", "No such object: bucket/key"), NotFoundError),
        (json_refusal(404, "notFound", "The specified bucket does not exist."), StoreUnavailableError),
        (json_refusal(404, "notFound", key=None), StoreUnavailableError),
        (json_refusal(412, "conditionNotMet"), PreconditionFailedError),
        (json_refusal(401, "authError"), UnauthenticatedError),
        (json_refusal(403, "forbidden"), PermissionDeniedError),
        (json_refusal(403, "rateLimitExceeded"), ThrottledError),
        (json_refusal(429, "somethingNew"), ThrottledError),
        (json_refusal(503, "backendError"), StoreUnavailableError),
        (json_refusal(400, "invalid"), ObjectStoreError),
        (json_refusal(400, "invalid", "Provided CRC32C 'a' doesn't match calculated CRC32C 'b'."), IntegrityError),
        (xml_refusal(404, "NoSuchKey"), NotFoundError),
        (xml_refusal(404, "NoSuchBucket"), StoreUnavailableError),
        (xml_refusal(404, "NoSuchUpload"), MultipartNotFoundError),
        (xml_refusal(400, "InvalidPart"), InvalidPartError),
        (xml_refusal(400, "EntityTooSmall"), InvalidPartError),
        (xml_refusal(400, "BadDigest"), IntegrityError),
        (xml_refusal(416, "InvalidRange"), InvalidRangeError),
        (xml_refusal(400, "NotImplemented"), UnsupportedOperationError),
        (Refusal.of(304, b"", "key"), NotModifiedError),
        (Refusal.of(404, b"", "key"), NotFoundError),
        (Refusal.of(408, b"<html>", "key"), StoreTimeoutError),
        (Refusal.of(502, b"<html><body>Bad Gateway</body></html>", "key"), StoreUnavailableError),
        (Refusal.of(507, b'{"error": "odd"}', "key"), StoreFullError),
        (Refusal.of(418, b"\xff[1]", "key"), ObjectStoreError),
        (google.DefaultCredentialsError("none"), UnauthenticatedError),  # type: ignore[no-untyped-call]
        (google.RefreshError("invalid_grant"), UnauthenticatedError),  # type: ignore[no-untyped-call]
        (google.RefreshError("busy", retryable=True), StoreUnavailableError),  # type: ignore[no-untyped-call]
        (google.TransportError("down"), StoreUnavailableError),  # type: ignore[no-untyped-call]
        (TimeoutError(), StoreTimeoutError),
        (aiohttp.ServerTimeoutError("slow"), StoreTimeoutError),
        (aiohttp.ClientPayloadError("cut"), StoreUnavailableError),
        (ConnectionResetError(), StoreUnavailableError),
    ],
    ids=str,
)
def test_what_comes_from_outside_is_translated(foreign: Exception, kind: type[ObjectStoreError]) -> None:
    assert type(translate(foreign)) is kind


def test_a_code_is_the_services_own() -> None:
    assert code_of(translate(xml_refusal(400, "InvalidPart"))) == "InvalidPart"
    assert code_of(translate(TimeoutError())) == ""


def test_what_is_not_from_outside_passes() -> None:
    for error in (ValueError("ours"), NotFoundError("gone", store="gcs")):
        with pytest.raises(type(error)) as caught, translated():
            raise error
        assert caught.value is error


@pytest.mark.parametrize(
    ("foreign", "said"),
    [
        (json_refusal(404, "notFound", key=None), "there is no bucket bucket at Google; make it"),
        (google.DefaultCredentialsError("none"), "(none); set GOOGLE_APPLICATION_CREDENTIALS"),  # type: ignore[no-untyped-call]
        (
            google.RefreshError("invalid_grant: Token must be a short-lived token"),  # type: ignore[no-untyped-call]
            "clock",
        ),
        (
            json_refusal(403, "forbidden", "no storage.objects.list"),
            "may not write in the bucket bucket at Google (forb",
        ),
        (json_refusal(403, "forbidden", "Permission denied on Cloud KMS key"), "?kms_key_name="),
        (xml_refusal(400, "UserProjectMissing"), "?user_project="),
        (ConnectionRefusedError("{no}\nway"), "Google does not answer ({no} way); is the endpoint right"),
        (json_refusal(400, "invalid"), "Google refuses to write in the bucket bucket (invalid: no)"),
    ],
    ids=str,
)
def test_what_an_operator_reads_is_one_line_and_says_the_mend(foreign: Exception, said: str) -> None:
    message = str(as_configuration_error(translate(foreign, None), OPTIONS, "write"))
    assert said in message
    assert message.startswith("gcs: ")
    assert "\n" not in message
