"""Reads that see all that was written before, or perhaps not, where the service leaves the choice."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta

import pytest

from rindle.objectstore.errors import NotFoundError, UnsupportedOperationError
from rindle.objectstore.ext import read
from rindle.objectstore.s3 import S3Options, S3Store
from rindle.objectstore.types import GetOptions, PutOptions, UpdateVersion
from tests.s3 import S3Server
from tests.s3_proxy import Request, S3Proxy

HEADER = "x-tigris-consistent"
NEARBY = GetOptions(consistent=False)
CONSISTENT = GetOptions(consistent=True)


@pytest.fixture
async def tigris(moto: S3Server, proxy: S3Proxy) -> AsyncIterator[S3Store]:
    """A store that takes moto for Tigris, in a region of its own; its ``key`` is there."""
    async with await moto.new_store(endpoint=proxy.endpoint, profile="tigris", region="us-east-1") as store:
        await store.put("key", b"bytes")
        proxy.requests.clear()
        yield store


def asked(request: Request) -> tuple[bool, str]:
    """Whether all is to be seen, and the region that the request was signed for. What is sent was signed."""
    credential, signed, _ = request.headers["authorization"].split(", ")
    assert (HEADER in signed) == (HEADER in request.headers)
    assert request.headers.get(HEADER, "true") == "true"
    return HEADER in request.headers, credential.split("/")[2]


async def list_all(store: S3Store, *, consistent: bool | None) -> list[str]:
    return [meta.key async for meta in store.list(consistent=consistent)]


READS: dict[str, Callable[[S3Store, GetOptions], Awaitable[object]]] = {
    "get": lambda store, options: read(store, "key", options),
    "head": lambda store, options: store.head("key", options),
    "page": lambda store, options: store.list_page(consistent=options.consistent),
    "list": lambda store, options: list_all(store, consistent=options.consistent),
    "children": lambda store, options: store.list_with_delimiter(consistent=options.consistent),
}


@pytest.mark.parametrize("name", READS)
async def test_a_read_sees_all_unless_it_says_otherwise(tigris: S3Store, proxy: S3Proxy, name: str) -> None:
    for options in (GetOptions(), CONSISTENT, NEARBY):
        await READS[name](tigris, options)
    assert [asked(request) for request in proxy.requests] == [
        (True, "us-east-1"),
        (True, "us-east-1"),
        (False, "auto"),
    ]


@pytest.mark.parametrize("name", READS)
async def test_a_store_may_be_opened_for_reads_that_do_not(
    moto: S3Server, tigris: S3Store, proxy: S3Proxy, name: str
) -> None:
    async with moto.store(
        tigris.options.bucket, endpoint=proxy.endpoint, profile="tigris", region="us-east-1", consistent=False
    ) as store:
        for options in (GetOptions(), CONSISTENT, NEARBY):
            await READS[name](store, options)
    assert [asked(request)[0] for request in proxy.requests] == [False, True, False]


async def test_an_object_that_is_not_there_is_asked_for_in_the_same_way(tigris: S3Store, proxy: S3Proxy) -> None:
    with pytest.raises(NotFoundError):
        await tigris.head("absent", NEARBY)
    assert [asked(request)[0] for request in proxy.requests] == [False, False]


async def test_writes_always_see_all(moto: S3Server, tigris: S3Store, proxy: S3Proxy) -> None:
    async with moto.store(
        tigris.options.bucket, endpoint=proxy.endpoint, profile="tigris", region="us-east-1", consistent=False
    ) as store:
        created = await store.put("new", b"1", PutOptions(mode="create"))
        await store.put("new", b"2", PutOptions(mode=UpdateVersion(created.e_tag)))
        await store.copy("new", "copy")
        await store.put_tags("new", {"a": "b"})
        ref = await store.create_multipart("parts")
        await store.complete_multipart(ref, [await store.put_part(ref, 1, b"part")])
        await store.abort_multipart(await store.create_multipart("parts"))
        await store.delete("new")
        await store.delete_many(["copy"])
    assert len(proxy.requests) >= 11
    assert {asked(request) for request in proxy.requests} == {(True, "us-east-1")}


async def test_without_a_region_requests_are_signed_for_the_service_s_own(moto: S3Server, proxy: S3Proxy) -> None:
    bucket = await moto.new_bucket()
    async with moto.store(bucket, endpoint=proxy.endpoint, profile="tigris", region=None) as store:
        await store.list_page()
        await store.list_page(consistent=False)
    assert [asked(request) for request in proxy.requests] == [(True, "auto"), (False, "auto")]


async def test_where_all_is_seen_anyhow_it_makes_no_difference(store: S3Store, proxy: S3Proxy) -> None:
    await store.put("key", b"bytes")
    proxy.requests.clear()
    for options in (GetOptions(), CONSISTENT, NEARBY):
        assert await read(store, "key", options) == b"bytes"
    assert store.capabilities.consistency == "always"
    assert {asked(request) for request in proxy.requests} == {(False, "us-east-1")}


async def test_a_url_for_somebody_else_needs_no_header(tigris: S3Store) -> None:
    assert HEADER not in (await tigris.sign_url("GET", "key", timedelta(hours=1))).lower()


async def test_what_cannot_be_promised_is_refused_before_anybody_is_asked() -> None:
    async with S3Store(S3Options(bucket="b", endpoint="http://127.0.0.1:1", profile="swift", attempts=1)) as store:
        assert store.capabilities.consistency == "eventual"
        for attempt in READS.values():
            with pytest.raises(UnsupportedOperationError, match="consistency"):
                await attempt(store, CONSISTENT)
