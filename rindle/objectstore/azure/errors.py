"""What the service and the SDK say, in the words of the object store."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import aiohttp
from azure.core import exceptions as sdk

from rindle.errors import ConfigurationError
from rindle.objectstore.azure.options import AzureOptions
from rindle.objectstore.errors import (
    AlreadyExistsError,
    IntegrityError,
    InvalidKeyError,
    InvalidPartError,
    InvalidRangeError,
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

STORE = "azure"

_CODES: Mapping[str, type[ObjectStoreError]] = {
    "BlobNotFound": NotFoundError,
    "ResourceNotFound": NotFoundError,
    # Whoever takes it for an object that is not there gives up an upload for lost.
    "ContainerNotFound": StoreUnavailableError,
    "ContainerBeingDeleted": StoreUnavailableError,
    "ContainerDisabled": StoreUnavailableError,
    "BlobAlreadyExists": AlreadyExistsError,
    "ConditionNotMet": PreconditionFailedError,
    "TargetConditionNotMet": PreconditionFailedError,
    # Somebody holds a lease on the blob, or copies onto it, and will be done with it.
    "LeaseIdMissing": StoreUnavailableError,
    "PendingCopyOperation": StoreUnavailableError,
    "InvalidRange": InvalidRangeError,
    "InvalidBlockId": InvalidPartError,
    "InvalidBlockList": InvalidPartError,
    "InvalidBlobOrBlock": InvalidPartError,
    "BlockCountExceedsLimit": InvalidPartError,
    "BlockListTooLong": InvalidPartError,
    "UncommittedBlockCountExceedsLimit": InvalidPartError,
    "Crc64Mismatch": IntegrityError,
    "Md5Mismatch": IntegrityError,
    "InvalidResourceName": InvalidKeyError,
    "InvalidUri": InvalidKeyError,
    "AuthenticationFailed": UnauthenticatedError,
    "InvalidAuthenticationInfo": UnauthenticatedError,
    "NoAuthenticationInformation": UnauthenticatedError,
    "AccountIsDisabled": PermissionDeniedError,
    "BlobImmutableDueToPolicy": PermissionDeniedError,
    "ServerBusy": ThrottledError,
    "OperationTimedOut": StoreTimeoutError,
    "InternalError": StoreUnavailableError,
    "AccountBeingCreated": StoreUnavailableError,
    "FeatureNotSupported": UnsupportedOperationError,
    "BlobTypeNotSupported": UnsupportedOperationError,
}
_STATUSES: Mapping[int, type[ObjectStoreError]] = {
    401: UnauthenticatedError,
    403: PermissionDeniedError,
    404: NotFoundError,
    412: PreconditionFailedError,
    416: InvalidRangeError,
    429: ThrottledError,
    501: UnsupportedOperationError,
    507: StoreFullError,
}
_EXCEPTIONS: tuple[tuple[tuple[type[Exception], ...], type[ObjectStoreError]], ...] = (
    # Of azure-identity, too: it has no credentials, or they are refused.
    ((sdk.ClientAuthenticationError,), UnauthenticatedError),
    ((sdk.ServiceRequestTimeoutError, sdk.ServiceResponseTimeoutError, TimeoutError), StoreTimeoutError),
    (
        (
            sdk.ServiceRequestError,
            sdk.ServiceResponseError,
            sdk.IncompleteReadError,
            sdk.HttpResponseError,
            aiohttp.ClientError,
            OSError,
        ),
        StoreUnavailableError,
    ),
)
_NOT_LET_IN = "failed to authenticate"  # of Azurite, with the code of who may not
_FOREIGN = (sdk.AzureError, aiohttp.ClientError, OSError)


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
    status = _status(error)
    if status == 304:  # noqa: PLR2004 - HTTP's; with the code of a condition that does not hold
        return NotModifiedError
    if _NOT_LET_IN in str(error).lower():
        return UnauthenticatedError
    if status is not None:
        fallback = StoreUnavailableError if status >= 500 else ObjectStoreError  # noqa: PLR2004 - HTTP's
        return _CODES.get(_code(error), _STATUSES.get(status, fallback))
    return next((kind for kinds, kind in _EXCEPTIONS if isinstance(error, kinds)), ObjectStoreError)


def _status(error: BaseException | None) -> int | None:
    """The status of an answer that is an error; None where something else went wrong."""
    if not isinstance(error, sdk.HttpResponseError) or error.status_code is None:
        return None
    # An answer that began well and broke off.
    return error.status_code if error.status_code >= 300 else None  # noqa: PLR2004 - HTTP's


def _code(error: BaseException | None) -> str:
    response = getattr(error, "response", None)
    return "" if response is None else response.headers.get("x-ms-error-code", "")


def _describe(error: Exception) -> str:
    # What follows the first line is the request's number and its time.
    said = str(error).strip().partition("\n")[0]
    return ": ".join(filter(None, (_code(error), said))) or type(error).__name__


def code_of(error: ObjectStoreError) -> str:
    """The service's own code for an error, or ''."""
    return _code(error.__cause__)


_SECRETS = "set RINDLE_STORE_SECRET to a key of the account, a connection string or a SAS token, or log in"
_MENDS: Mapping[str, str] = {
    "ContainerNotFound": "there is no container {container} at {where}; make it, or correct the URL of the store",
    "AccountIsDisabled": "the account at {where} is disabled",
    "InvalidResourceName": "{container} is no name for a container at {where}; correct the URL of the store",
    "EncryptionScopeNotFound": "there is no such encryption scope at {where}; correct ?encryption_scope=",
    "BlobTypeNotSupported": "the account at {where} has no append blobs, which multiparts need",
}


def as_configuration_error(error: ObjectStoreError, options: AzureOptions, where: str, step: str) -> ConfigurationError:
    """What an operator reads when the store cannot be used at start: in one line what it is, and what to do."""
    mend = _MENDS.get(code_of(error)) or _mend(error)
    text = mend.format(container=options.container, where=where, step=step)
    return ConfigurationError("azure: " + " ".join(text.split()))


_OUT_OF_TIME = ("date header", "signature not valid in the specified time frame", "lifetime")
_OTHER_KEY = ("mac signature", "signature did not match", "invalid shared key")


def _mend(error: ObjectStoreError) -> str:
    said = str(error.args[0]).replace("{", "{{").replace("}", "}}")
    if isinstance(error, UnauthenticatedError):
        return _mend_credentials(error, said)
    if isinstance(error, PermissionDeniedError):
        return (
            f"the credentials may not {{step}} in the container {{container}} at {{where}} ({said}); "
            "docs/how-to/azure.md says how"
        )
    if isinstance(error, TransientStoreError):
        return f"{{where}} does not answer ({said}); is the account right, or the endpoint, and is it up?"
    return f"{{where}} refuses to {{step}} in the container {{container}} ({said})"


def _mend_credentials(error: ObjectStoreError, said: str) -> str:
    detail = str(error.__cause__).lower()
    if any(words in detail for words in _OUT_OF_TIME):
        return "this machine's clock is not that of {where}, or the SAS token has run out; set the one (NTP), or renew"
    if any(words in detail for words in _OTHER_KEY):
        return f"{{where}} says that the key or the SAS token is not the account's; {_SECRETS}"
    return f"the credentials are not there, or not known at {{where}} ({said}); {_SECRETS}"
