import aiohttp
import pytest
from botocore import exceptions as sdk

from rindle.objectstore.errors import (
    MultipartNotFoundError,
    ObjectStoreError,
    StoreTimeoutError,
    StoreUnavailableError,
    UnauthenticatedError,
)
from rindle.objectstore.s3.errors import as_configuration_error, code_of, translated
from rindle.objectstore.s3.options import S3Options

URL = {"endpoint_url": "https://s3.example.org"}


@pytest.mark.parametrize(
    ("foreign", "kind"),
    [
        (sdk.NoCredentialsError(), UnauthenticatedError),
        (sdk.PartialCredentialsError(provider="env", cred_var="AWS_SECRET_ACCESS_KEY"), UnauthenticatedError),
        (sdk.CredentialRetrievalError(provider="process", error_msg="no"), UnauthenticatedError),
        (sdk.ProfileNotFound(profile="nobody"), UnauthenticatedError),
        (sdk.ConnectTimeoutError(**URL), StoreTimeoutError),
        (sdk.ReadTimeoutError(**URL), StoreTimeoutError),
        (TimeoutError(), StoreTimeoutError),
        (sdk.EndpointConnectionError(**URL), StoreUnavailableError),
        (sdk.ConnectionClosedError(**URL), StoreUnavailableError),
        (sdk.SSLError(**URL, error="expired"), StoreUnavailableError),
        (sdk.ResponseStreamingError(error="cut"), StoreUnavailableError),
        (sdk.IncompleteReadError(actual_bytes=1, expected_bytes=2), StoreUnavailableError),
        (aiohttp.ClientPayloadError("cut"), StoreUnavailableError),
        (ConnectionResetError(), StoreUnavailableError),
        (sdk.ParamValidationError(report="wrong"), ObjectStoreError),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_what_the_sdk_raises_is_translated(foreign: Exception, kind: type[ObjectStoreError]) -> None:
    with pytest.raises(ObjectStoreError) as caught, translated("key"):
        raise foreign
    assert type(caught.value) is kind
    assert (caught.value.key, caught.value.__cause__) == ("key", foreign)
    assert code_of(caught.value) == ""


def test_what_is_not_the_services_passes() -> None:
    for error in (ValueError("ours"), MultipartNotFoundError("gone", store="s3")):
        with pytest.raises(type(error)) as caught, translated():
            raise error
        assert caught.value is error


def test_what_an_operator_reads_is_one_line_whatever_the_service_said() -> None:
    foreign = sdk.ClientError({"Error": {"Code": "Odd", "Message": "{braces}\n and lines"}}, "ListObjectsV2")
    with pytest.raises(ObjectStoreError) as caught, translated():
        raise foreign
    message = str(as_configuration_error(caught.value, S3Options(bucket="b"), "list objects"))
    assert message == "s3: AWS refuses to list objects in the bucket b (ListObjectsV2: Odd: {braces} and lines)"
