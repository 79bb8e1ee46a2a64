from typing import Any

import aiohttp
import pytest
from azure.core import exceptions as sdk
from azure.identity import CredentialUnavailableError

from rindle.objectstore.azure import AzureOptions
from rindle.objectstore.azure.errors import as_configuration_error, code_of, translated
from rindle.objectstore.errors import (
    AlreadyExistsError,
    IntegrityError,
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
    UnauthenticatedError,
    UnsupportedOperationError,
)

OPTIONS = AzureOptions(container="container")


class Response:
    """An answer, as the SDK's errors look at it."""

    reason = "No"

    def __init__(self, status: int, code: str) -> None:
        self.status_code = status
        self.headers = {"x-ms-error-code": code} if code else {}


def refusal(status: int, code: str, said: str = "no") -> sdk.HttpResponseError:
    response: Any = Response(status, code)
    return sdk.HttpResponseError(f"{said}\nRequestId:1\nTime:now", response=response)


def translate(foreign: Exception, key: str | None = "key") -> ObjectStoreError:
    with pytest.raises(ObjectStoreError) as caught, translated(key):
        raise foreign
    assert (caught.value.key, caught.value.__cause__) == (key, foreign)
    return caught.value


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (404, "BlobNotFound", NotFoundError),
        (404, "", NotFoundError),
        (404, "ContainerNotFound", StoreUnavailableError),
        (409, "BlobAlreadyExists", AlreadyExistsError),
        (412, "ConditionNotMet", PreconditionFailedError),
        (304, "ConditionNotMet", NotModifiedError),
        (412, "LeaseIdMissing", StoreUnavailableError),
        (416, "InvalidRange", InvalidRangeError),
        (400, "InvalidBlockList", InvalidPartError),
        (400, "Crc64Mismatch", IntegrityError),
        (403, "AuthenticationFailed", UnauthenticatedError),
        (403, "AuthorizationPermissionMismatch", PermissionDeniedError),
        (409, "BlobImmutableDueToPolicy", PermissionDeniedError),
        (503, "ServerBusy", ThrottledError),
        (500, "OperationTimedOut", StoreTimeoutError),
        (500, "InternalError", StoreUnavailableError),
        (502, "", StoreUnavailableError),
        (501, "", UnsupportedOperationError),
        (507, "", StoreFullError),
        (400, "SomethingNew", ObjectStoreError),
    ],
)
def test_what_the_service_says_is_translated(status: int, code: str, kind: type[ObjectStoreError]) -> None:
    error = translate(refusal(status, code))
    assert type(error) is kind
    assert code_of(error) == code
    assert "RequestId" not in str(error)


@pytest.mark.parametrize(
    ("foreign", "kind"),
    [
        (CredentialUnavailableError("no"), UnauthenticatedError),
        (sdk.ClientAuthenticationError("no"), UnauthenticatedError),
        (sdk.ServiceRequestTimeoutError("slow"), StoreTimeoutError),
        (sdk.ServiceResponseTimeoutError("slow"), StoreTimeoutError),
        (TimeoutError(), StoreTimeoutError),
        (sdk.ServiceRequestError("refused"), StoreUnavailableError),
        (sdk.ServiceResponseError("cut"), StoreUnavailableError),
        (sdk.IncompleteReadError("cut"), StoreUnavailableError),
        (aiohttp.ClientPayloadError("cut"), StoreUnavailableError),
        (ConnectionResetError(), StoreUnavailableError),
        (sdk.AzureError("what"), ObjectStoreError),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_what_the_sdk_raises_is_translated(foreign: Exception, kind: type[ObjectStoreError]) -> None:
    error = translate(foreign)
    assert type(error) is kind
    assert code_of(error) == ""


def test_what_is_not_the_services_passes() -> None:
    for error in (ValueError("ours"), NotFoundError("gone", store="azure")):
        with pytest.raises(type(error)) as caught, translated():
            raise error
        assert caught.value is error


@pytest.mark.parametrize(
    ("foreign", "said"),
    [
        (refusal(404, "ContainerNotFound"), "there is no container container at https://where; make it"),
        (refusal(403, "AuthenticationFailed", "Request date header too old"), "clock"),
        (refusal(403, "AuthenticationFailed", "The MAC signature found"), "not the account's; set RINDLE_STORE_SECRET"),
        (refusal(403, "AuthenticationFailed"), "not known at https://where"),
        (CredentialUnavailableError("no managed identity"), "(no managed identity); set RINDLE_STORE_SECRET"),
        (refusal(403, "AuthorizationPermissionMismatch"), "may not write in the container container"),
        (refusal(404, "EncryptionScopeNotFound"), "?encryption_scope="),
        (
            sdk.ServiceRequestError("Name {or} service\nnot known"),
            "does not answer (Name {or} service); is the account",
        ),
        (refusal(400, "SomethingNew"), "https://where refuses to write in the container container (SomethingNew: no)"),
    ],
)
def test_what_an_operator_reads_is_one_line_and_says_the_mend(foreign: Exception, said: str) -> None:
    message = str(as_configuration_error(translate(foreign, None), OPTIONS, "https://where", "write"))
    assert said in message
    assert message.startswith("azure: ")
    assert "\n" not in message
