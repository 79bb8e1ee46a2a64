"""What the service and the SDK say, in the words of the object store."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import aiohttp
from botocore import exceptions as sdk

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
from rindle.objectstore.s3.options import S3Options

STORE = "s3"
CONFLICT = "ConditionalRequestConflict"
INTERNAL = "InternalError"

_CODES: Mapping[str, type[ObjectStoreError]] = {
    "NoSuchKey": NotFoundError,
    "NoSuchVersion": NotFoundError,
    "NoSuchUpload": MultipartNotFoundError,
    # Whoever takes it for an object that is not there gives up an upload for lost.
    "NoSuchBucket": StoreUnavailableError,
    "PreconditionFailed": PreconditionFailedError,
    CONFLICT: StoreUnavailableError,
    "OperationAborted": StoreUnavailableError,
    "InvalidRange": InvalidRangeError,
    "InvalidPart": InvalidPartError,
    "InvalidPartOrder": InvalidPartError,
    "InvalidPartNumber": InvalidPartError,
    "EntityTooSmall": InvalidPartError,
    "BadDigest": IntegrityError,
    "InvalidDigest": IntegrityError,
    "XAmzContentChecksumMismatch": IntegrityError,
    "XAmzContentSHA256Mismatch": IntegrityError,
    "KeyTooLongError": InvalidKeyError,
    "AccessDenied": PermissionDeniedError,
    INTERNAL: StoreUnavailableError,
    "ServiceUnavailable": StoreUnavailableError,
    "InvalidAccessKeyId": UnauthenticatedError,
    "SignatureDoesNotMatch": UnauthenticatedError,
    "ExpiredToken": UnauthenticatedError,
    "InvalidToken": UnauthenticatedError,
    "XAdminUserNotFound": UnauthenticatedError,  # versitygw's
    "RequestTimeTooSkewed": UnauthenticatedError,
    "AuthorizationHeaderMalformed": UnauthenticatedError,
    "QuotaExceeded": StoreFullError,
    "SlowDown": ThrottledError,
    "Throttling": ThrottledError,
    "ThrottlingException": ThrottledError,
    "RequestLimitExceeded": ThrottledError,
    "TooManyRequests": ThrottledError,
    "RequestTimeout": StoreTimeoutError,
    "IncompleteBody": StoreUnavailableError,
    "NotImplemented": UnsupportedOperationError,
}
# An answer to HEAD has no body, so no code; and not every service uses AWS's.
_NOT_FOUND = 404
_STATUSES: Mapping[int, type[ObjectStoreError]] = {
    304: NotModifiedError,
    401: UnauthenticatedError,
    403: PermissionDeniedError,
    _NOT_FOUND: NotFoundError,
    412: PreconditionFailedError,
    416: InvalidRangeError,
    429: ThrottledError,
    501: UnsupportedOperationError,
    507: StoreFullError,
}
_EXCEPTIONS: tuple[tuple[tuple[type[Exception], ...], type[ObjectStoreError]], ...] = (
    (
        (
            sdk.NoCredentialsError,
            sdk.PartialCredentialsError,
            sdk.CredentialRetrievalError,
            sdk.ProfileNotFound,
            sdk.TokenRetrievalError,
            sdk.SSOError,
        ),
        UnauthenticatedError,
    ),
    ((sdk.ConnectTimeoutError, sdk.ReadTimeoutError, TimeoutError), StoreTimeoutError),
    (
        (sdk.ConnectionError, sdk.HTTPClientError, sdk.IncompleteReadError, aiohttp.ClientError, OSError),
        StoreUnavailableError,
    ),
)
_FOREIGN = (sdk.BotoCoreError, sdk.ClientError, aiohttp.ClientError, OSError)


@contextmanager
def translated(key: str | None = None) -> Iterator[None]:
    """Turn what the SDK raises into the ObjectStoreError that says the same; the store's own errors pass."""
    try:
        yield
    except ObjectStoreError:
        raise
    except _FOREIGN as error:
        raise _kind(error)(_describe(error), store=STORE, key=key) from error


def _kind(error: Exception) -> type[ObjectStoreError]:
    if isinstance(error, sdk.ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        # Without a word of S3's, somebody else has answered: that nothing is there is for the service alone to say.
        if status == _NOT_FOUND and _code(error) in {"", "404"} and error.operation_name != "HeadObject":
            return StoreUnavailableError
        fallback = StoreUnavailableError if status >= 500 else ObjectStoreError  # noqa: PLR2004 - HTTP's
        return _CODES.get(_code(error), _STATUSES.get(status, fallback))
    return next((kind for kinds, kind in _EXCEPTIONS if isinstance(error, kinds)), ObjectStoreError)


def error_of(said: Mapping[str, Any], key: str) -> ObjectStoreError:
    """What an answer that is about many objects says of one."""
    code = said.get("Code", "")
    message = f"{code}: {said.get('Message', '')}"
    return _CODES.get(code, ObjectStoreError)(message, store=STORE, key=key)


def _describe(error: Exception) -> str:
    if not isinstance(error, sdk.ClientError):
        return str(error)
    said = error.response.get("Error", {})
    return f"{error.operation_name}: {said.get('Code') or 'an error without a code'}: {said.get('Message') or ''}"


def _code(error: BaseException | None) -> str:
    return str(error.response.get("Error", {}).get("Code") or "") if isinstance(error, sdk.ClientError) else ""


def code_of(error: ObjectStoreError) -> str:
    """The service's own code for an error, or ''."""
    return _code(error.__cause__)


_CREDENTIALS = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or run where a role gives them"
_MENDS: Mapping[str, str] = {
    "NoSuchBucket": "there is no bucket {bucket} at {where}; make it, or correct the URL of the store",
    "404": "there is no bucket {bucket} at {where}; make it, or correct the URL of the store",
    "InvalidAccessKeyId": "{where} does not know the access key; " + _CREDENTIALS,
    "SignatureDoesNotMatch": "{where} says that the secret key is not the access key's; " + _CREDENTIALS,
    "ExpiredToken": "the credentials for {where} have expired; renew them",
    "InvalidToken": "{where} does not know the session token; renew the credentials",
    "RequestTimeTooSkewed": "this machine's clock is not that of {where}; set it (NTP)",
    "AuthorizationHeaderMalformed": "the bucket {bucket} is in another region; say which by ?region=",
    "PermanentRedirect": "the bucket {bucket} is in another region; say which by ?region=",
    "IllegalLocationConstraintException": "the bucket {bucket} is in another region; say which by ?region=",
    "InvalidStorageClass": "{where} has no such storage class; correct ?storage_class=",
}


def as_configuration_error(error: ObjectStoreError, options: S3Options, step: str) -> ConfigurationError:
    """What an operator reads when the store cannot be used at start: in one line what it is, and what to do."""
    where = options.endpoint or "AWS"
    mend = _MENDS.get(code_of(error)) or _mend(error, step)
    return ConfigurationError("s3: " + " ".join(mend.format(bucket=options.bucket, where=where, step=step).split()))


def _mend(error: ObjectStoreError, step: str) -> str:
    cause = error.__cause__
    said = str(error.args[0]).replace("{", "{{").replace("}", "}}")
    if code_of(error).startswith("KMS"):
        return f"the key for encryption cannot be used ({said}); correct ?kms_key_id=, or allow its use"
    if isinstance(cause, sdk.ProfileNotFound):
        return f"{said}; correct ?aws_profile=, or AWS_PROFILE"
    if isinstance(error, UnauthenticatedError):
        none = isinstance(cause, sdk.NoCredentialsError)
        what = "there are no credentials for {where}" if none else f"the credentials cannot be used ({said})"
        return f"{what}; {_CREDENTIALS}"
    if isinstance(error, PermissionDeniedError):
        return f"the credentials may not {step} in the bucket {{bucket}} at {{where}}; docs/how-to/s3.md says how"
    if isinstance(error, TransientStoreError):
        return f"{{where}} does not answer ({said}); is the endpoint right, and is it up?"
    return f"{{where}} refuses to {step} in the bucket {{bucket}} ({said})"
