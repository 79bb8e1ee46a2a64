"""The short way of bodies: who sends what, and what the service sees."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from rindle.objectstore.errors import AlreadyExistsError, PermissionDeniedError, StoreUnavailableError
from rindle.objectstore.payload import BytesPayload, crc64nvme
from rindle.objectstore.s3 import S3Store
from rindle.objectstore.types import Attributes, PutOptions
from tests.s3 import S3Server
from tests.s3_proxy import S3Proxy

BODY = BytesPayload(b"a" * 70_000, b"b" * 30_000)
PART = "PUT ?partNumber"
FULL = PutOptions(
    attributes=Attributes(content_type="text/plain", cache_control="no-store", metadata={"Name": "ö x", "b": "c"}),
    tags={"a b": "c/d"},
)


def senders(proxy: S3Proxy, call: str = "PUT") -> list[str]:
    """Whose requests they were."""
    return ["rindle" if request.headers["user-agent"] == "rindle" else "sdk" for request in proxy.seen(call)]


@pytest.fixture
async def checking(moto: S3Server, proxy: S3Proxy) -> AsyncIterator[S3Store]:
    async with await moto.new_store(endpoint=proxy.endpoint, checksums="crc64nvme") as store:
        yield store


async def test_bodies_go_the_short_way(store: S3Store, proxy: S3Proxy) -> None:
    await store.put("key", BODY)
    ref = await store.create_multipart("large")
    await store.complete_multipart(ref, [await store.put_part(ref, 1, BODY)])
    assert senders(proxy) == ["rindle", "rindle"]


async def test_both_ways_say_the_same(checking: S3Store, proxy: S3Proxy) -> None:
    payload = BytesPayload(b"a body", crc64nvme=crc64nvme(b"a body"))
    await checking.put("a key/ö+~", payload, FULL)
    proxy.fail("PUT", (503, "ServiceUnavailable"))
    await checking.put("a key/ö+~", payload, FULL)
    assert senders(proxy) == ["rindle", "rindle", "sdk"]
    short, _, long = proxy.seen("PUT")
    assert (short.target, short.body) == (long.target, long.body)
    about_signing = {"authorization", "x-amz-date"}
    about_the_sdk = {"user-agent", "amz-sdk-invocation-id", "amz-sdk-request", "expect", "x-amz-sdk-checksum-algorithm"}
    said = [
        {name: value for name, value in request.headers.items() if name not in about_signing | about_the_sdk}
        for request in (short, long)
    ]
    assert said[0] == said[1]
    assert short.headers["x-amz-checksum-crc64nvme"]


async def test_a_part_says_what_the_service_says_of_it(checking: S3Store) -> None:
    ref = await checking.create_multipart("key")
    part = await checking.put_part(ref, 7, BODY)
    assert [part.e_tag] == [listed.e_tag async for listed in checking.list_parts(ref)]


@pytest.mark.parametrize(("status", "code"), [(503, "SlowDown"), (301, "PermanentRedirect")])
async def test_after_trouble_the_sdk_has_all_to_itself_for_a_while(
    store: S3Store, proxy: S3Proxy, monkeypatch: pytest.MonkeyPatch, status: int, code: str
) -> None:
    proxy.fail("PUT", (status, code))
    await store.put("key", BODY)
    await store.put("key", BODY)
    assert senders(proxy) == ["rindle", "sdk", "sdk"]
    now = asyncio.get_running_loop().time
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now() + 61)
    await store.put("key", BODY)
    assert senders(proxy)[3:] == ["rindle"]


async def test_a_failed_attempt_counts_as_the_first_of_the_sdk(store: S3Store, proxy: S3Proxy) -> None:
    proxy.fail("PUT", *[(500, "InternalError")] * 9)
    with pytest.raises(StoreUnavailableError):
        await store.put("key", BODY)
    assert senders(proxy) == ["rindle", *["sdk"] * (store.options.attempts - 1)]


async def test_what_is_refused_is_not_sent_twice(store: S3Store, proxy: S3Proxy) -> None:
    await store.put("key", BODY)
    with pytest.raises(AlreadyExistsError):
        await store.put("key", BODY, PutOptions(mode="create"))
    proxy.fail("PUT", (403, "AccessDenied"))
    with pytest.raises(PermissionDeniedError):
        await store.put("key", BODY)
    assert senders(proxy) == ["rindle", "rindle", "rindle"]


async def test_temporary_credentials_go_with_their_token(
    moto: S3Server, proxy: S3Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "a token")
    async with await moto.new_store(endpoint=proxy.endpoint) as store:
        await store.put("key", BODY)
    (request,) = proxy.seen("PUT")
    assert senders(proxy) == ["rindle"]
    assert request.headers["x-amz-security-token"] == "a token"
    assert "x-amz-security-token" in request.headers["authorization"]
