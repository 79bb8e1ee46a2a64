"""What is found out before the first use: whether the store can be used, and what its service can do."""

import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rindle.errors import ConfigurationError
from rindle.objectstore.errors import UnauthenticatedError, UnsupportedOperationError
from rindle.objectstore.ext import read
from rindle.objectstore.s3 import S3Options, S3Store
from rindle.objectstore.types import PutOptions, UpdateVersion
from tests.s3 import STRANGER, S3Server
from tests.s3_proxy import S3Proxy

UNKNOWN: dict[str, Any] = {"checksums": "auto", "conditions": "auto"}


async def names(store: S3Store) -> list[str]:
    """All that lies in the bucket, finished and unfinished."""
    async with S3Store(replace(store.options, prefix="")) as whole:
        objects = [meta.key async for meta in whole.list()]
        return objects + [multipart.ref.key async for multipart in whole.list_multiparts()]


async def fail_to_prepare(store: S3Store) -> str:
    async with store:
        with pytest.raises(ConfigurationError) as caught:
            await store.prepare()
    message = str(caught.value)
    assert "\n" not in message
    return message


# What the service can do


async def test_what_a_service_can_do_is_found_out_and_nothing_is_left(moto: S3Server) -> None:
    async with await moto.new_store("some/prefix", **UNKNOWN) as store:
        assert not store.capabilities.put_create
        await store.prepare()
        can = store.capabilities
        assert (can.put_create, can.put_update, can.complete_create) == (True, True, True)
        assert not store.checksums  # moto takes any
        assert await names(store) == []


async def test_a_service_that_ignores_conditions_is_noticed_and_not_asked(moto: S3Server, proxy: S3Proxy) -> None:
    proxy.without = frozenset({"if-match", "if-none-match"})
    async with await moto.new_store(endpoint=proxy.endpoint, **UNKNOWN) as store:
        await store.prepare()
        can = store.capabilities
        assert not any((can.put_create, can.put_update, can.copy_create, can.complete_create))
        assert await names(store) == []
        await store.put("key", b"old")
        for mode in ("create", UpdateVersion("any")):
            with pytest.raises(UnsupportedOperationError):
                await store.put("key", b"new", PutOptions(mode=mode))
        assert await read(store, "key") == b"old"


@pytest.mark.parametrize(
    ("call", "lost"),
    [("PUT", {"put_create", "put_update", "copy_create"}), ("POST ?uploadId", {"complete_create", "copy_create"})],
)
async def test_a_service_that_refuses_to_hear_of_conditions_is_noticed(
    moto: S3Server, proxy: S3Proxy, call: str, lost: set[str]
) -> None:
    """As Ceph, Garage or older MinIO: 501, or 400, where others know the header."""
    proxy.refused = frozenset({"if-match", "if-none-match"})
    proxy.refused_call = call
    async with await moto.new_store(endpoint=proxy.endpoint, **UNKNOWN) as store:
        await store.prepare()
        names_ = ("put_create", "put_update", "copy_create", "complete_create")
        assert {name for name in names_ if not getattr(store.capabilities, name)} == lost
        assert await names(store) == []


async def test_what_the_options_say_is_not_tried(moto: S3Server, proxy: S3Proxy) -> None:
    async with await moto.new_store(endpoint=proxy.endpoint) as store:
        await store.prepare()
        assert [request.method for request in proxy.requests] == ["GET", "POST", "DELETE"]
        assert not any("if-none-match" in request.headers for request in proxy.requests)


async def test_aws_is_known() -> None:
    async with S3Store(S3Options(bucket="bucket", region="eu-central-1")) as store:
        can = store.capabilities
        assert all((can.put_create, can.put_update, can.copy_create, can.complete_create))
        assert store.checksums


async def test_what_was_found_is_logged_without_credentials(
    moto: S3Server, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret-key")
    caplog.set_level(logging.DEBUG)
    async with await moto.new_store(**UNKNOWN) as store:
        await store.prepare()
        assert "honours conditions of: complete, put, update" in caplog.text
        assert "a-secret-key" not in caplog.text + repr(store) + repr(store.options)


# What is wrong


async def test_there_is_no_bucket(moto: S3Server) -> None:
    store = await moto.new_store()
    elsewhere = S3Store(replace(store.options, bucket="no-such-bucket"))
    assert "there is no bucket no-such-bucket at http" in await fail_to_prepare(elsewhere)


async def test_there_are_no_credentials(moto: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    message = await fail_to_prepare(await moto.new_store())
    assert "there are no credentials for http" in message
    assert "set AWS_ACCESS_KEY_ID" in message
    async with await moto.new_store() as store:
        with pytest.raises(UnauthenticatedError):
            await store.head("key")


async def test_there_is_no_such_profile(moto: S3Server) -> None:
    message = await fail_to_prepare(await moto.new_store(aws_profile="nobody"))
    assert "(nobody)" in message
    assert "?aws_profile=" in message


async def test_the_endpoint_is_down(moto: S3Server) -> None:
    async with S3Proxy(moto.endpoint) as gone:
        store = await moto.new_store(endpoint=gone.endpoint)
    assert f"{gone_endpoint(store)} does not answer" in await fail_to_prepare(store)


def gone_endpoint(store: S3Store) -> str:
    assert store.options.endpoint is not None
    return store.options.endpoint


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (403, "AccessDenied", "may not list objects in the bucket"),
        (403, "InvalidAccessKeyId", "does not know the access key"),
        (403, "SignatureDoesNotMatch", "the secret key is not the access key's"),
        (403, "RequestTimeTooSkewed", "clock"),
        (400, "ExpiredToken", "have expired"),
        (400, "AuthorizationHeaderMalformed", r"?region="),
        (503, "SlowDown", "does not answer"),
        (400, "SomethingNew", "refuses to list objects"),
    ],
)
async def test_the_service_refuses(moto: S3Server, proxy: S3Proxy, status: int, code: str, said: str) -> None:
    proxy.fail("GET", (status, code))
    assert said in await fail_to_prepare(await moto.new_store(endpoint=proxy.endpoint, attempts=1))


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (403, "AccessDenied", "may not write objects in the bucket"),
        (400, "KMS.NotFoundException", "?kms_key_id="),
        (400, "InvalidStorageClass", "?storage_class="),
    ],
)
async def test_the_service_refuses_to_write(moto: S3Server, proxy: S3Proxy, status: int, code: str, said: str) -> None:
    proxy.fail("POST ?uploads", (status, code))
    assert said in await fail_to_prepare(await moto.new_store(endpoint=proxy.endpoint))


# What servers say themselves


@pytest.fixture(params=["versitygw", "ceph"])
def strict(request: pytest.FixtureRequest) -> S3Server:
    """A server that looks at signatures."""
    found: S3Server = request.getfixturevalue(request.param)
    return found


@pytest.mark.long
@pytest.mark.parametrize(
    ("access_key", "secret_key", "said"),
    [
        ("test", "wrong", "says that the secret key is not the access key's; set AWS_ACCESS_KEY_ID and"),
        ("nobody", "test", "does not know the access key; set AWS_ACCESS_KEY_ID and"),
        (STRANGER, STRANGER, "the credentials may not list objects in the bucket bucket-"),
        (None, None, "there are no credentials for http"),
    ],
)
async def test_the_keys_are_not_good(
    strict: S3Server, monkeypatch: pytest.MonkeyPatch, access_key: str | None, secret_key: str | None, said: str
) -> None:
    store = await strict.new_store()
    for name, key in (("AWS_ACCESS_KEY_ID", access_key), ("AWS_SECRET_ACCESS_KEY", secret_key)):
        if key is None:
            monkeypatch.delenv(name)
        else:
            monkeypatch.setenv(name, key)
    assert said in await fail_to_prepare(store)


@pytest.mark.long
@pytest.mark.parametrize("hours", [-1, 1])
async def test_the_clock_is_wrong(strict: S3Server, monkeypatch: pytest.MonkeyPatch, hours: int) -> None:
    store = await strict.new_store()

    def wrong(*, remove_tzinfo: bool) -> datetime:
        assert not remove_tzinfo
        return datetime.now(UTC) + timedelta(hours=hours)

    # Where the SDK takes the time from that it signs.
    monkeypatch.setattr("botocore.crt.auth.get_current_datetime", wrong)
    assert "this machine's clock is not that of http" in await fail_to_prepare(store)


@pytest.mark.long
async def test_the_bucket_is_not_there(strict: S3Server) -> None:
    assert "there is no bucket no-such-bucket at http" in await fail_to_prepare(strict.store("no-such-bucket"))
