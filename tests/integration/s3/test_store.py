"""What only the S3 store has: a prefix, copies in parts, versions, other people's keys."""

import asyncio
from typing import Any

import pytest

from rindle.objectstore.errors import (
    AlreadyExistsError,
    InvalidPartError,
    NotFoundError,
    StoreUnavailableError,
    UnsupportedOperationError,
)
from rindle.objectstore.ext import read
from rindle.objectstore.s3 import S3Store
from rindle.objectstore.types import (
    Attributes,
    ByteRange,
    CopyMode,
    GetOptions,
    MultipartOptions,
    PutOptions,
    UpdateVersion,
)
from tests.s3 import SMALL_PART, S3Server
from tests.s3_proxy import S3Proxy

SMALL_COPIES: dict[str, Any] = {"max_part_size": SMALL_PART, "max_copy_size": SMALL_PART}


async def test_two_prefixes_of_a_bucket_do_not_meet(moto: S3Server) -> None:
    bucket = await moto.new_bucket()
    one, other, whole = (moto.store(bucket, prefix) for prefix in ("a", "a/b", ""))
    async with one, other, whole:
        await one.put("key", b"one")
        await other.put("key", b"other")
        ref = await other.create_multipart("begun")
        assert [meta.key async for meta in other.list()] == ["key"]
        assert [meta.key async for meta in one.list()] == ["b/key", "key"]
        assert [meta.key async for meta in whole.list()] == ["a/b/key", "a/key"]
        assert [multipart.ref async for multipart in other.list_multiparts()] == [ref]
        assert (await one.list_with_delimiter()).prefixes == ("b/",)


async def test_what_others_left_under_names_that_are_no_keys_is_not_listed(moto: S3Server) -> None:
    async with await moto.new_store("a") as store:
        for name in ("a/", "a/folder/", "a//x", "a/key"):
            await moto.put_object(store.options.bucket, name)
        assert [meta.key async for meta in store.list()] == ["key"]


async def test_keys_are_removed_a_thousand_at_a_time(store: S3Store, proxy: S3Proxy) -> None:
    await store.put("last", b"")
    keys = [*(f"absent {number}" for number in range(1001)), "last"]
    results = await store.delete_many(keys)
    assert [(result.key, result.error) for result in results] == [(key, None) for key in keys]
    assert proxy.count("POST ?delete") == 2
    with pytest.raises(NotFoundError):
        await store.head("last")


@pytest.mark.parametrize("mode", ["overwrite", "create"])
async def test_what_is_too_large_for_one_copy_is_copied_in_parts(moto: S3Server, mode: CopyMode) -> None:
    options = PutOptions(attributes=Attributes(content_type="text/plain", metadata={"a": "b"}), tags={"c": "d"})
    data = bytes(range(250)) * 50
    async with await moto.new_store("prefix", **SMALL_COPIES) as store:
        await store.put("source", data, options)
        result = await store.copy("source", "target", mode=mode)
        async with await store.get("target", GetOptions(if_match=result.e_tag)) as found:
            assert (found.attributes, await found.read()) == (options.attributes, data)
        assert await store.get_tags("target") == options.tags
        if mode == "create":
            with pytest.raises(AlreadyExistsError):
                await store.copy("source", "target", mode=mode)
        assert [multipart async for multipart in store.list_multiparts()] == []


async def test_a_source_that_is_replaced_while_it_is_copied_is_not_mixed(moto: S3Server, proxy: S3Proxy) -> None:
    async with await moto.new_store(endpoint=proxy.endpoint, **SMALL_COPIES) as store:
        await store.put("source", b"a" * SMALL_PART * 3)
        copied = asyncio.Event()

        async def replace_source() -> None:
            await copied.wait()
            await store.put("source", b"b" * SMALL_PART * 3)

        proxy.after = lambda request: copied.set() if request.is_about("PUT ?partNumber=1") else None
        proxy.held = "PUT ?partNumber=2"
        replacing = asyncio.create_task(replace_source())
        copying = asyncio.create_task(store.copy("source", "target"))
        await replacing
        proxy.go_on.set()
        with pytest.raises(StoreUnavailableError, match="replaced"):
            await copying
        with pytest.raises(NotFoundError):
            await store.head("target")
        assert [multipart async for multipart in store.list_multiparts()] == []


async def test_a_copy_onto_itself_changes_nothing(store: S3Store) -> None:
    before = await store.put("key", b"bytes")
    assert await store.copy("key", "key") == before
    with pytest.raises(AlreadyExistsError):
        await store.copy("key", "key", mode="create")


async def test_an_empty_object_is_copied_to_create(store: S3Store) -> None:
    options = PutOptions(attributes=Attributes(cache_control="no-store"), tags={"a": "b"})
    await store.put("source", b"", options)
    await store.copy("source", "target", mode="create")
    async with await store.get("target") as found:
        assert (found.attributes, await found.read()) == (options.attributes, b"")
    assert await store.get_tags("target") == {"a": "b"}
    with pytest.raises(AlreadyExistsError):
        await store.copy("source", "target", mode="create")


async def test_a_part_that_would_be_a_copy_of_too_much_is_refused(moto: S3Server) -> None:
    async with await moto.new_store(max_part_size=SMALL_PART) as store:
        await store.put("source", bytes(SMALL_PART + 1))
        ref = await store.create_multipart("key")
        with pytest.raises(InvalidPartError):
            await store.copy_part(ref, 1, "source")
        assert (await store.copy_part(ref, 1, "source", ByteRange(1))).size == SMALL_PART


async def test_parts_of_one_size_are_wanted_where_the_service_wants_them(moto: S3Server) -> None:
    async with await moto.new_store(uniform_parts=True) as store:
        ref = await store.create_multipart("key", MultipartOptions(part_size=SMALL_PART))
        sizes = (SMALL_PART, SMALL_PART + 1, 1)
        parts = [await store.put_part(ref, number, bytes(size)) for number, size in enumerate(sizes, 1)]
        with pytest.raises(InvalidPartError):
            await store.complete_multipart(ref, parts)


async def test_a_bucket_with_versions_gives_them_out(moto: S3Server) -> None:
    async with await moto.new_store(versions=True) as store:
        await moto.enable_versions(store.options.bucket)
        old = await store.put("key", b"old")
        new = await store.put("key", b"new", PutOptions(mode=UpdateVersion(old.e_tag, old.version)))
        assert old.version != new.version == (await store.head("key")).version
        assert await read(store, "key", GetOptions(version=old.version)) == b"old"
        assert (await store.head("key", GetOptions(version=old.version))).e_tag == old.e_tag
        with pytest.raises(UnsupportedOperationError, match="name the e_tag"):
            await store.put("key", b"", PutOptions(mode=UpdateVersion(version=new.version)))


@pytest.mark.parametrize("value", ["=?UTF-8?B?YQ==?=", "=?nonsense?Q?=?=", " edges ", "ü" * 200, "a\tb", ""])
async def test_metadata_of_any_text_comes_back(store: S3Store, value: str) -> None:
    attributes = Attributes(metadata={"value": value})
    await store.put("key", b"", PutOptions(attributes=attributes))
    async with await store.get("key", GetOptions(head=True)) as found:
        assert found.attributes == attributes


async def test_a_closed_store_says_so(moto: S3Server) -> None:
    store = await moto.new_store()
    await store.aclose()
    await store.aclose()
    with pytest.raises(StoreUnavailableError, match="closed"):
        await store.head("key")
