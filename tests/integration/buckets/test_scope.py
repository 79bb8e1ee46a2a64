"""That credentials are for what they say, on a service that checks signatures and policies."""

import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from rindle.buckets import Access, BucketAdmin, Credentials
from rindle.objectstore.base import MultipartStore
from rindle.objectstore.errors import PermissionDeniedError, UnauthenticatedError
from rindle.objectstore.ext import read
from rindle.objectstore.types import MultipartOptions
from tests.integration.buckets.account import Account
from tests.s3 import S3Server

Act = Callable[[MultipartStore], Awaitable[object]]


def check_everybody(moto: S3Server, count: str) -> None:
    """From now on, or (``inf``) never, moto looks at who asks and what his policies say."""
    asked = urllib.request.Request(
        f"{moto.endpoint}/moto-api/reset-auth", count.encode(), {"Content-Type": "text/plain"}, method="POST"
    )
    with urllib.request.urlopen(asked):
        pass


@asynccontextmanager
async def as_holder(
    moto: S3Server, made: Credentials, monkeypatch: pytest.MonkeyPatch, prefix: str = ""
) -> AsyncIterator[Callable[[str], MultipartStore]]:
    """Stores on any bucket, for one who has nothing but these credentials."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", made.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", made.secret_access_key.reveal())
    stores: list[MultipartStore] = []

    def store(bucket: str) -> MultipartStore:
        stores.append(moto.store(bucket, prefix))
        return stores[-1]

    check_everybody(moto, "0")
    try:
        yield store
    finally:
        check_everybody(moto, "inf")
        for opened in stores:
            await opened.aclose()


async def upload(store: MultipartStore) -> None:
    ref = await store.create_multipart("large", MultipartOptions())
    parts = [await store.put_part(ref, 1, b"bytes")]
    assert [part async for part in store.list_parts(ref)] == parts
    await store.complete_multipart(ref, parts)
    await store.abort_multipart(await store.create_multipart("abandoned"))
    assert [multipart async for multipart in store.list_multiparts()] == []


async def names(store: MultipartStore) -> list[str]:
    return [meta.key async for meta in store.list()]


WRITES: list[Act] = [
    lambda store: store.put("other", b"other"),
    lambda store: store.put_tags("key", {"a": "c"}),
    lambda store: store.delete("key"),
    lambda store: store.create_multipart("large"),
]


@pytest.fixture
async def buckets(account: Account) -> tuple[str, str]:
    """Two, with the same objects."""
    both = await account.new_bucket(), await account.new_bucket()
    for bucket in both:
        for key in ("key", "in/key", "inside"):
            await account.s3.put_object(Bucket=bucket, Key=key, Body=b"bytes", Tagging="a=b")
    return both


async def test_read_and_write(
    moto: S3Server, admin: BucketAdmin, buckets: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket, other = buckets
    made = await admin.generate_credentials(bucket)
    async with as_holder(moto, made, monkeypatch) as store:
        mine = store(bucket)
        assert await names(mine) == ["in/key", "inside", "key"]
        assert await read(mine, "key") == b"bytes"
        assert await mine.get_tags("key") == {"a": "b"}
        for write in WRITES[:3]:
            await write(mine)
        await upload(mine)
        await denied(store(other))
    await admin.revoke_credentials(bucket, made.access_key_id)
    async with as_holder(moto, made, monkeypatch) as store:
        with pytest.raises(UnauthenticatedError):
            await read(store(bucket), "other")


async def denied(theirs: MultipartStore, *, listing: bool = True) -> None:
    """Nothing at all can be done."""
    reads: list[Act] = [lambda store: read(store, "key"), lambda store: store.get_tags("key")]
    for attempt in WRITES + reads:
        with pytest.raises(PermissionDeniedError):
            await attempt(theirs)
    if listing:
        with pytest.raises(PermissionDeniedError):
            await names(theirs)


async def test_read_only(
    moto: S3Server, admin: BucketAdmin, buckets: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket, other = buckets
    made = await admin.generate_credentials(bucket, access="read-only")
    async with as_holder(moto, made, monkeypatch) as store:
        mine = store(bucket)
        assert await names(mine) == ["in/key", "inside", "key"]
        assert await read(mine, "key") == b"bytes"
        for write in WRITES:
            with pytest.raises(PermissionDeniedError):
                await write(mine)
        await denied(store(other))


@pytest.mark.parametrize("access", ["read-only", "read-write"])
async def test_a_prefix(
    moto: S3Server,
    admin: BucketAdmin,
    buckets: tuple[str, str],
    access: Access,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bucket, other = buckets
    made = await admin.generate_credentials(bucket, access=access, prefix="in")
    async with as_holder(moto, made, monkeypatch) as store:
        # moto does not look at what a request wants to list, and denies it; see docs/how-to/buckets.md.
        await denied(store(bucket), listing=False)
        await denied(store(other), listing=False)
        with pytest.raises(PermissionDeniedError):
            await read(store(bucket), "inside")
        assert await read(store(bucket), "in/key") == b"bytes"
    async with as_holder(moto, made, monkeypatch, prefix="in") as store:
        mine = store(bucket)
        for write in WRITES:
            if access == "read-write":
                await write(mine)
            else:
                with pytest.raises(PermissionDeniedError):
                    await write(mine)
