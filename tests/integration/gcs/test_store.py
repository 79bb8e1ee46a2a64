"""What only the GCS store has: a prefix, generations, tags in metadata, other people's keys, credentials."""

import json
from datetime import timedelta
from pathlib import Path

import pytest

from rindle.objectstore.errors import (
    AlreadyExistsError,
    PreconditionFailedError,
    StoreUnavailableError,
    UnauthenticatedError,
    UnsupportedOperationError,
)
from rindle.objectstore.ext import read
from rindle.objectstore.gcs import GCSStore
from rindle.objectstore.types import Attributes, GetOptions, PutOptions, UpdateVersion
from tests.gcs import GCSServer
from tests.gcs_front import GCSFront
from tests.s3_proxy import Fault

pytestmark = pytest.mark.long


async def test_two_prefixes_of_a_bucket_do_not_meet(gcs: GCSServer) -> None:
    bucket = await gcs.new_bucket()
    one, other, whole = (gcs.store(bucket, prefix) for prefix in ("a", "a/b", ""))
    async with one, other, whole:
        await one.put("key", b"one")
        await other.put("key", b"other")
        ref = await other.create_multipart("begun")
        assert [meta.key async for meta in other.list()] == ["key"]
        assert [meta.key async for meta in one.list()] == ["b/key", "key"]
        assert [meta.key async for meta in whole.list()] == ["a/b/key", "a/key"]
        assert [multipart.ref async for multipart in other.list_multiparts()] == [ref]
        assert (await one.list_with_delimiter()).prefixes == ("b/",)


async def test_what_others_left_under_names_that_are_no_keys_is_not_listed(gcs: GCSServer) -> None:
    async with await gcs.new_store("a") as store:
        for name in ("a/", "a/folder/", "a//x", "a/key"):
            await gcs.put_object(store.options.bucket, name)
        assert [meta.key async for meta in store.list()] == ["key"]


async def test_an_object_is_updated_by_its_generation(gcs: GCSServer) -> None:
    bucket = await gcs.new_bucket(versioning={"enabled": True})
    async with gcs.store(bucket, versions=True) as store:
        old = await store.put("key", b"old")
        new = await store.put("key", b"new", PutOptions(mode=UpdateVersion(version=old.version)))
        assert (new.e_tag, new.version) == (new.version, (await store.head("key")).version)
        assert await read(store, "key", GetOptions(version=old.version)) == b"old"
        assert (await store.head("key", GetOptions(version=old.version))).e_tag == old.e_tag
        for stale in (UpdateVersion(old.e_tag, old.version), UpdateVersion(new.e_tag, old.version), UpdateVersion("0")):
            with pytest.raises(PreconditionFailedError):
                await store.put("key", b"newer", PutOptions(mode=stale))


async def test_tags_are_metadata_that_is_not_shown(store: GCSStore) -> None:
    options = PutOptions(attributes=Attributes(metadata={"a": "b"}), tags={"ö": "ä", "c": ""})
    before = await store.put("key", b"", options)
    assert await store.get_tags("key") == options.tags
    async with await store.get("key") as found:
        assert found.attributes == options.attributes
    await store.put_tags("key", {})
    assert await store.get_tags("key") == {}
    assert (await store.head("key")).e_tag == before.e_tag


@pytest.mark.parametrize("value", ["=?UTF-8?B?YQ==?=", "=?nonsense?Q?=?=", " edges ", "ü" * 200, "a\tb", ""])
async def test_metadata_of_any_text_comes_back_whichever_api_wrote_it(store: GCSStore, value: str) -> None:
    attributes = Attributes(metadata={"value": value})
    await store.put("key", b"", PutOptions(attributes=attributes))
    async with await store.get("key", GetOptions(head=True)) as found:
        assert found.attributes == attributes
    await store.copy("key", "copy", mode="create")
    async with await store.get("copy", GetOptions(head=True)) as found:
        assert found.attributes == attributes


async def test_a_compressed_object_is_read_as_it_is_kept(store: GCSStore) -> None:
    data = b"\x1f\x8b no gzip, and nobody looks"
    await store.put("key", data, PutOptions(attributes=Attributes(content_encoding="gzip")))
    async with await store.get("key") as found:
        assert (found.attributes.content_encoding, await found.read()) == ("gzip", data)


async def test_a_copy_onto_itself_changes_nothing(store: GCSStore) -> None:
    before = await store.put("key", b"bytes")
    assert await store.copy("key", "key") == before
    with pytest.raises(AlreadyExistsError):
        await store.copy("key", "key", mode="create")


async def test_a_closed_store_says_so(gcs: GCSServer) -> None:
    store = await gcs.new_store()
    await store.aclose()
    await store.aclose()
    with pytest.raises(StoreUnavailableError, match="closed"):
        await store.head("key")


async def test_a_url_is_signed_for_a_week_at_most(gcs: GCSServer) -> None:
    async with await gcs.new_store(secret=gcs.service_account, anonymous=False) as store:
        url = await store.sign_url("PUT", "key", timedelta(days=7))
        assert "X-Goog-Expires=604800&" in url
        with pytest.raises(UnsupportedOperationError, match="7 days"):
            await store.sign_url("GET", "key", timedelta(days=7, seconds=1))


# Credentials


async def test_a_service_accounts_token_is_asked_for_once(gcs: GCSServer, front: GCSFront) -> None:
    async with await gcs.new_store(secret=gcs.service_account, anonymous=False) as store:
        await store.put("key", b"bytes")
        await read(store, "key")
    tokens, *others = front.requests
    assert (tokens.target, b"assertion=" in tokens.body) == ("/token", True)
    assert {request.headers["authorization"] for request in others} == {"Bearer a token"}


async def test_googles_own_way_to_find_credentials_is_gone(
    gcs: GCSServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "key.json").write_text(gcs.service_account)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "key.json"))
    async with await gcs.new_store(anonymous=False) as store:
        before = store.capabilities
        await store.prepare()
        assert (before.signed_urls, store.capabilities.signed_urls) == (False, True)
        await store.put("key", b"bytes")
        assert (await store.sign_url("GET", "key", timedelta(hours=1))).startswith(gcs.endpoint)


async def test_credentials_that_are_refused_are_not_known(gcs: GCSServer, front: GCSFront) -> None:
    refused = json.dumps({"error": "invalid_grant", "error_description": "no such account"}).encode()
    front.faults += [Fault("POST", answer=(400, refused), headers=("Content-Type: application/json",))] * 9
    async with await gcs.new_store(secret=gcs.service_account, anonymous=False) as store:
        with pytest.raises(UnauthenticatedError, match="no such account"):
            await store.head("key")


# Rules of the bucket


@pytest.mark.parametrize(
    ("rules", "days"),
    [
        ([], None),
        ([("Delete", {"age": 1})], None),
        ([("AbortIncompleteMultipartUpload", {"age": 9}), ("AbortIncompleteMultipartUpload", {"age": 7})], 7),
        ([("AbortIncompleteMultipartUpload", {"age": 1, "matchesPrefix": ["elsewhere/"]})], None),
        ([("AbortIncompleteMultipartUpload", {"age": 3, "matchesPrefix": ["x/", "pre"]})], 3),
        ([("AbortIncompleteMultipartUpload", {"age": 3, "matchesPrefix": ["prefix/uploads/"]})], 3),
    ],
)
async def test_when_multiparts_expire_is_known_from_the_buckets_rules(
    gcs: GCSServer, front: GCSFront, rules: list[tuple[str, dict[str, object]]], days: int | None
) -> None:
    said = {"lifecycle": {"rule": [{"action": {"type": kind}, "condition": when} for kind, when in rules]}}
    front.faults.append(Fault("GET ?fields=lifecycle", answer=(200, json.dumps(said if rules else {}).encode())))
    async with await gcs.new_store("prefix") as store:
        assert await store.find_multipart_expiry() == (None if days is None else timedelta(days=days))
