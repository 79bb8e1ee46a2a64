from datetime import timedelta

import pytest

from rindle.objectstore.errors import InvalidKeyError, NotFoundError
from rindle.objectstore.ext import read
from rindle.objectstore.keys import MAX_KEY_BYTES
from rindle.objectstore.memory import MemoryStore
from rindle.objectstore.s3 import S3Options, S3Store
from rindle.objectstore.wrappers import prefixed


@pytest.fixture
def inner() -> MemoryStore:
    return MemoryStore()


async def test_keys_lie_below_the_prefix_and_nothing_else_is_seen(inner: MemoryStore) -> None:
    for key in ("a", "a/b", "a/b/c", "a/bb", "a/b0"):
        await inner.put(key, key.encode())
    store = prefixed(inner, "a/b")
    assert [meta.key async for meta in store.list()] == ["c"]
    await store.put("d/e", b"new")
    assert await read(inner, "a/b/d/e") == b"new"
    assert (await store.list_with_delimiter()).prefixes == ("d/",)
    assert [meta.key async for meta in store.list(start_after="c")] == ["d/e"]
    await store.delete_many(["c", "d/e", "../b0"[3:]])
    assert [meta.key async for meta in inner.list()] == ["a", "a/b", "a/b0", "a/bb"]


async def test_prefixes_add_up(inner: MemoryStore) -> None:
    await prefixed(prefixed(inner, "a"), "b").put("key", b"bytes")
    assert [meta.key async for meta in inner.list()] == ["a/b/key"]


async def test_errors_are_about_the_key_that_was_asked_for(inner: MemoryStore) -> None:
    store = prefixed(inner, "a/b")
    with pytest.raises(NotFoundError) as caught:
        await store.get("key")
    assert caught.value.key == "key"
    with pytest.raises(InvalidKeyError, match="longer than"):
        await store.put("x" * (MAX_KEY_BYTES - 3), b"")


@pytest.mark.parametrize("prefix", ["", "/a", "a/", "a//b", ".."])
async def test_a_prefix_that_could_be_no_key_is_refused(inner: MemoryStore, prefix: str) -> None:
    with pytest.raises(InvalidKeyError):
        prefixed(inner, prefix)


async def test_a_handle_is_good_under_its_prefix_only(inner: MemoryStore) -> None:
    store = prefixed(inner, "a")
    ref = await store.create_multipart("key")
    assert ref.key == "key"
    assert [multipart.ref.key async for multipart in inner.list_multiparts()] == ["a/key"]
    await prefixed(inner, "b").abort_multipart(ref)
    await store.complete_multipart(ref, [await store.put_part(ref, 1, b"bytes")])
    assert await read(inner, "a/key") == b"bytes"


async def test_a_signed_url_is_for_the_key_below_the_prefix() -> None:
    async with prefixed(S3Store(S3Options(bucket="bucket", region="eu-central-1")), "a/b") as store:
        url = await store.sign_url("GET", "key", timedelta(minutes=1))
    assert "/a/b/key?" in url
