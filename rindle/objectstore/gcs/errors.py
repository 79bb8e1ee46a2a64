"""What the service, google-auth and the HTTP client say, in the words of the object store."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self
from xml.etree import ElementTree as ET

import aiohttp
from google.auth import exceptions as google

from rindle.errors import ConfigurationError
from rindle.objectstore.errors import (
    IntegrityError,
    InvalidKeyError,
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
    TransientStoreError,
    UnauthenticatedError,
    UnsupportedOperationError,
)
from rindle.objectstore.gcs.options import GCSOptions

STORE = "gcs"

# The XML API's codes, and the JSON API's reasons.
_CODES: Mapping[str, type[ObjectStoreError]] = {
    "NoSuchKey": NotFoundError,
    "NoSuchUpload": MultipartNotFoundError,
    # Whoever takes it for an object that is not there gives up an upload for lost.
    "NoSuchBucket": StoreUnavailableError,
    "PreconditionFailed": PreconditionFailedError,
    "conditionNotMet": PreconditionFailedError,
    "InvalidRange": InvalidRangeError,
    "requestedRangeNotSatisfiable": InvalidRangeError,
    "InvalidPart": InvalidPartError,
    "InvalidPartOrder": InvalidPartError,
    "InvalidPartNumber": InvalidPartError,
    "EntityTooSmall": InvalidPartError,
    "EntityTooLarge": InvalidPartError,
    "BadDigest": IntegrityError,
    "InvalidDigest": IntegrityError,
    "KeyTooLong": InvalidKeyError,
    "InvalidObjectName": InvalidKeyError,
    "AccessDenied": PermissionDeniedError,
    "forbidden": PermissionDeniedError,
    "insufficientPermissions": PermissionDeniedError,
    "authError": UnauthenticatedError,
    "ExpiredToken": UnauthenticatedError,
    "InvalidSecurity": UnauthenticatedError,
    "InvalidToken": UnauthenticatedError,
    "SignatureDoesNotMatch": UnauthenticatedError,
    "quotaExceeded": StoreFullError,
    "rateLimitExceeded": ThrottledError,
    "userRateLimitExceeded": ThrottledError,
    "SlowDown": ThrottledError,
    "RequestTimeout": StoreTimeoutError,
    "InternalError": StoreUnavailableError,
    "ServiceUnavailable": StoreUnavailableError,
    "backendError": StoreUnavailableError,
    "internalError": StoreUnavailableError,
    "NotImplemented": UnsupportedOperationError,
}
# An answer to HEAD has no body, so no code.
_STATUSES: Mapping[int, type[ObjectStoreError]] = {
    304: NotModifiedError,
    401: UnauthenticatedError,
    403: PermissionDeniedError,
    404: NotFoundError,
    408: StoreTimeoutError,
    412: PreconditionFailedError,
    416: InvalidRangeError,
    429: ThrottledError,
    501: UnsupportedOperationError,
    507: StoreFullError,
}
_BAD_REQUEST, _NOT_FOUND, _SERVER_ERROR = 400, 404, 500
_NO_BUCKET = "bucket does not exist"


class Refusal(Exception):  # noqa: N818 - what the service says, before it is translated
    """An answer that is no success: its status, its code or reason, and what it says."""

    def __init__(self, status: int, code: str, said: str) -> None:
        super().__init__(": ".join(filter(None, (code or str(status), said))))
        self.status = status
        self.code = code
        self.said = said

    @classmethod
    def of(cls, status: int, body: bytes, key: str | None) -> Self:
        """Read from an answer about an object or the bucket, of either API, or of what is between and knows neither."""
        code, said = _read_json(body) or _read_xml(body) or ("", "")
        no_bucket = status == _NOT_FOUND and (key is None or _NO_BUCKET in said.lower())
        return cls(status, "NoSuchBucket" if no_bucket else code, said)


def _read_json(body: bytes) -> tuple[str, str] | None:
    try:
        error: Mapping[str, Any] = json.loads(body)["error"]
        reasons = [str(each.get("reason", "")) for each in error.get("errors", ())]
        return next(iter(reasons), ""), str(error.get("message", ""))
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _read_xml(body: bytes) -> tuple[str, str] | None:
    try:
        root = ET.fromstring(body)  # noqa: S314 - the service's own; it has no entities
    except ET.ParseError:
        return None
    return root.findtext("{*}Code", ""), root.findtext("{*}Message", "")


_FOREIGN = (Refusal, google.GoogleAuthError, aiohttp.ClientError, OSError)


@contextmanager
def translated(key: str | None = None) -> Iterator[None]:
    """Turn what comes from outside into the ObjectStoreError that says the same; the store's own errors pass."""
    try:
        yield
    except ObjectStoreError:
        raise
    except _FOREIGN as error:
        raise _kind(error)(_describe(error), store=STORE, key=key) from error


def _kind(error: Exception) -> type[ObjectStoreError]:
    match error:
        case Refusal():
            return _kind_of_refusal(error)
        case google.TransportError():
            return StoreUnavailableError
        case google.GoogleAuthError(retryable=True):
            return StoreUnavailableError
        case google.GoogleAuthError():
            return UnauthenticatedError
        case TimeoutError():
            return StoreTimeoutError
        case _:
            return StoreUnavailableError


def _kind_of_refusal(error: Refusal) -> type[ObjectStoreError]:
    if error.status == _BAD_REQUEST and "crc32c" in error.said.lower():
        return IntegrityError
    fallback = StoreUnavailableError if error.status >= _SERVER_ERROR else ObjectStoreError
    return _CODES.get(error.code, _STATUSES.get(error.status, fallback))


def _describe(error: Exception) -> str:
    if isinstance(error, google.GoogleAuthError) and error.args:
        return str(error.args[0])
    return str(error) or type(error).__name__


def code_of(error: ObjectStoreError) -> str:
    """The service's own code for an error, or ''."""
    cause = error.__cause__
    return cause.code if isinstance(cause, Refusal) else ""


_CREDENTIALS = (
    "set GOOGLE_APPLICATION_CREDENTIALS to the file with a service account's key, or RINDLE_STORE_SECRET to what is in "
    "it, or run where Google gives them"
)
_MENDS: Mapping[str, str] = {
    "NoSuchBucket": "there is no bucket {bucket} at {where}; make it, or correct the URL of the store",
    "UserProjectMissing": "the bucket {bucket} wants to know who pays; say it by ?user_project=",
}


def as_configuration_error(error: ObjectStoreError, options: GCSOptions, step: str) -> ConfigurationError:
    """What an operator reads when the store cannot be used at start: in one line what it is, and what to do."""
    where = options.endpoint or "Google"
    mend = _MENDS.get(code_of(error)) or _mend(error)
    return ConfigurationError("gcs: " + " ".join(mend.format(bucket=options.bucket, where=where, step=step).split()))


def _mend(error: ObjectStoreError) -> str:
    said = str(error.args[0]).replace("{", "{{").replace("}", "}}")
    if isinstance(error, UnauthenticatedError):
        if "short-lived" in said or "clock" in said.lower():
            return f"this machine's clock is not that of {{where}} ({said}); set it (NTP)"
        return f"the credentials are not there, or not known ({said}); {_CREDENTIALS}"
    if "kms" in said.lower():
        return f"the key for encryption cannot be used ({said}); correct ?kms_key_name=, or allow its use"
    if isinstance(error, PermissionDeniedError):
        return (
            f"the credentials may not {{step}} in the bucket {{bucket}} at {{where}} ({said}); "
            "docs/how-to/gcs.md says how"
        )
    if isinstance(error, TransientStoreError):
        return f"{{where}} does not answer ({said}); is the endpoint right, and is it up?"
    return f"{{where}} refuses to {{step}} in the bucket {{bucket}} ({said})"
