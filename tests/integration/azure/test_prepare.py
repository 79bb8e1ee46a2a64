"""What is found out before the first use: whether the store can be used, and what is wrong if not."""

import logging
from base64 import b64encode

import pytest

from rindle.errors import ConfigurationError
from rindle.objectstore.azure import AzureStore
from tests.azure import ACCOUNT, KEY, Azurite
from tests.s3_proxy import Fault, S3Proxy

pytestmark = pytest.mark.long


async def fail_to_prepare(store: AzureStore) -> str:
    async with store:
        with pytest.raises(ConfigurationError) as caught:
            await store.prepare()
    message = str(caught.value)
    assert "\n" not in message
    assert KEY not in message
    return message


async def test_nothing_is_left(store: AzureStore, proxy: S3Proxy) -> None:
    await store.prepare()
    assert [request.method for request in proxy.requests] == ["GET", "PUT", "DELETE"]
    assert [multipart async for multipart in store.list_multiparts()] == []
    container = (await store._connection.clients()).container
    assert [blob async for blob in container.list_blobs(include=["uncommittedblobs"])] == []


async def test_there_is_no_container(azurite: Azurite) -> None:
    assert "there is no container no-such-container at http" in await fail_to_prepare(
        azurite.store("no-such-container")
    )


async def test_the_key_is_another_accounts(azurite: Azurite) -> None:
    container = await azurite.new_container()
    wrong = b64encode(b"another key").decode()
    message = await fail_to_prepare(azurite.store(container, secret=wrong))
    assert "RINDLE_STORE_SECRET" in message
    assert wrong not in message


async def test_the_account_is_another(azurite: Azurite) -> None:
    elsewhere = azurite.store("container", account="nobody", endpoint=f"{azurite.endpoint}/nobody")
    assert "azure: " in await fail_to_prepare(elsewhere)


async def test_the_endpoint_is_down(azurite: Azurite) -> None:
    async with S3Proxy(azurite.endpoint) as gone:
        endpoint = f"{gone.endpoint}/{ACCOUNT}"
    assert f"{endpoint} does not answer" in await fail_to_prepare(azurite.store("container", endpoint=endpoint))


@pytest.mark.parametrize(
    ("call", "refusal", "said"),
    [
        ("GET", "403 AuthorizationPermissionMismatch no", "may not list objects in the container"),
        ("PUT", "403 AuthorizationPermissionMismatch no", "may not write and remove objects in the container"),
        ("DELETE", "403 AuthorizationPermissionMismatch no", "may not write and remove objects in the container"),
        ("PUT", "409 BlobTypeNotSupported no", "no append blobs"),
        ("GET", "403 AuthenticationFailed Request date header too old: 'yesterday'", "clock"),
        ("GET", "503 ServerBusy no", "does not answer"),
    ],
)
async def test_the_service_refuses(azurite: Azurite, proxy: S3Proxy, call: str, refusal: str, said: str) -> None:
    status, code, text = refusal.split(" ", 2)
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{text}</Message></Error>".encode()
    container = await azurite.new_container()
    proxy.faults.append(Fault(call, answer=(int(status), body), headers=(f"x-ms-error-code: {code}",)))
    store = azurite.store(container, endpoint=f"{proxy.endpoint}/{ACCOUNT}", attempts=1)
    assert said in await fail_to_prepare(store)


async def test_nothing_secret_is_logged(store: AzureStore, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    await store.prepare()
    await store.put("key", b"bytes")
    assert KEY not in caplog.text + repr(store) + repr(store.options) + repr(store._connection.account)
