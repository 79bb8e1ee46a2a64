"""What is found out before the first use: whether the store can be used, and what is wrong if not."""

import json
import logging

import pytest

from rindle.errors import ConfigurationError
from rindle.objectstore.gcs import GCSStore
from tests.gcs import GCSServer
from tests.gcs_front import GCSFront
from tests.s3_proxy import Fault, S3Proxy

pytestmark = pytest.mark.long


async def fail_to_prepare(store: GCSStore) -> str:
    async with store:
        with pytest.raises(ConfigurationError) as caught:
            await store.prepare()
    message = str(caught.value)
    assert "\n" not in message
    return message


async def test_nothing_is_left(gcs: GCSServer, front: GCSFront) -> None:
    async with await gcs.new_store("some/prefix") as store:
        await store.prepare()
        assert [request.method for request in front.requests] == ["GET", "POST", "DELETE"]
        assert [multipart async for multipart in store.list_multiparts()] == []
        assert [meta async for meta in store.list()] == []


async def test_there_is_no_bucket(gcs: GCSServer) -> None:
    message = await fail_to_prepare(gcs.store("no-such-bucket"))
    assert "there is no bucket no-such-bucket at http" in message


async def test_there_are_no_credentials(gcs: GCSServer, nobody: None) -> None:
    message = await fail_to_prepare(await gcs.new_store(anonymous=False))
    assert "set GOOGLE_APPLICATION_CREDENTIALS" in message


async def test_the_endpoint_is_down(gcs: GCSServer, front: GCSFront) -> None:
    async with S3Proxy(front.endpoint) as gone:
        store = await gcs.new_store(endpoint=gone.endpoint)
    assert f"{store.options.endpoint} does not answer" in await fail_to_prepare(store)


@pytest.mark.parametrize(
    ("call", "said", "reads"),
    [
        ("GET", "x does not have storage.objects.list access", "may not list objects in the bucket"),
        ("POST ?uploads", "x does not have storage.multipartUploads.create access", "may not write objects in the bu"),
        ("POST ?uploads", "Permission denied on Cloud KMS key.", "?kms_key_name="),
    ],
)
async def test_the_service_refuses(gcs: GCSServer, front: GCSFront, call: str, said: str, reads: str) -> None:
    body = json.dumps({"error": {"code": 403, "message": said, "errors": [{"reason": "forbidden", "message": said}]}})
    front.faults.append(Fault(call, answer=(403, body.encode())))
    assert reads in await fail_to_prepare(await gcs.new_store())


@pytest.mark.parametrize(
    ("description", "reads"),
    [
        ("Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe.", "clock"),
        ("Invalid grant: account not found", "not known"),
    ],
)
async def test_the_key_is_refused(gcs: GCSServer, front: GCSFront, description: str, reads: str) -> None:
    refused = json.dumps({"error": "invalid_grant", "error_description": description}).encode()
    front.faults += [Fault("POST", answer=(400, refused), headers=("Content-Type: application/json",))] * 9
    assert reads in await fail_to_prepare(await gcs.new_store(secret=gcs.service_account, anonymous=False))


async def test_nothing_secret_is_logged(gcs: GCSServer, front: GCSFront, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with await gcs.new_store(secret=gcs.service_account, anonymous=False) as store:
        await store.prepare()
        await store.put("key", b"bytes")
        shown = caplog.text + repr(store) + repr(store.options)
    assert front.token not in shown
    assert "PRIVATE KEY" not in shown
