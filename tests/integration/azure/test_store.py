"""What only the Azure store has: a prefix, journals, copies in blocks, other people's keys, ways to be let in."""

import asyncio
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Self

import pytest
from azure.core.credentials import AccessToken
from azure.storage.blob import (
    BlobSasPermissions,
    ContainerSasPermissions,
    UserDelegationKey,
    generate_container_sas,
)

from rindle.objectstore.azure import AzureStore
from rindle.objectstore.azure.credentials import Account, Signer
from rindle.objectstore.errors import (
    AlreadyExistsError,
    InvalidKeyError,
    ObjectStoreError,
    PermissionDeniedError,
    StoreUnavailableError,
    UnsupportedOperationError,
)
from rindle.objectstore.ext import exists, read
from rindle.objectstore.types import Attributes, ByteRange, CopyMode, GetOptions, PutOptions, UpdateVersion
from tests.azure import ACCOUNT, KEY, Azurite
from tests.s3_proxy import S3Proxy

pytestmark = pytest.mark.long

OLD = "2025-01-01T00:00:00.1Z"


async def test_two_prefixes_of_a_container_do_not_meet(azurite: Azurite) -> None:
    container = await azurite.new_container()
    one, other, whole = (azurite.store(container, prefix) for prefix in ("a", "a/b", ""))
    async with one, other, whole:
        await one.put("key", b"one")
        await other.put("key", b"other")
        ref = await other.create_multipart("begun")
        assert [meta.key async for meta in other.list()] == ["key"]
        assert [meta.key async for meta in whole.list()] == ["a/b/key", "a/key"]
        assert [multipart.ref async for multipart in other.list_multiparts()] == [ref]
        assert [multipart.ref.key async for multipart in whole.list_multiparts()] == ["a/b/begun"]
        assert (await one.list_with_delimiter()).prefixes == ("b/",)


async def test_journals_are_nobodys_objects(store: AzureStore) -> None:
    await store.put("key", b"")
    ref = await store.create_multipart("a/key")
    assert [meta.key async for meta in store.list()] == ["key"]
    assert [meta.key async for meta in store.list(".rindle/")] == []
    page = await store.list_with_delimiter()
    assert ([meta.key for meta in page.objects], page.prefixes) == (["key"], ())
    with pytest.raises(InvalidKeyError):
        await store.get(f".rindle/multiparts/a/key/{ref.multipart_id}")


async def test_what_others_left_under_names_that_are_no_keys_is_not_listed(azurite: Azurite) -> None:
    async with await azurite.new_store("a") as store:
        container = (await store._connection.clients()).container
        for name in ("a/folder/", "a//x", "a/dot.", "a/key"):
            await container.upload_blob(name, b"")
        assert [meta.key async for meta in store.list()] == ["key"]


async def test_a_key_that_leaves_no_room_for_a_journal_is_refused(store: AzureStore) -> None:
    with pytest.raises(InvalidKeyError, match="shorter"):
        await store.create_multipart("k" * 1000)
    await store.put("k" * 1000, b"")


@pytest.mark.parametrize("mode", ["overwrite", "create"])
async def test_what_is_too_large_for_one_copy_is_copied_in_blocks(
    azurite: Azurite, monkeypatch: pytest.MonkeyPatch, mode: CopyMode
) -> None:
    monkeypatch.setattr("rindle.objectstore.azure.store._COPY_SIZE", 5000)
    options = PutOptions(attributes=Attributes(content_type="text/plain", metadata={"a-b": "c"}), tags={"d": "e f"})
    data = bytes(range(250)) * 50
    async with await azurite.new_store("prefix") as store:
        await store.put("source", data, options)
        result = await store.copy("source", "target", mode=mode)
        async with await store.get("target", GetOptions(if_match=result.e_tag)) as found:
            assert (found.attributes, await found.read()) == (options.attributes, data)
        assert await store.get_tags("target") == options.tags
        if mode == "create":
            with pytest.raises(AlreadyExistsError):
                await store.copy("source", "target", mode=mode)
        assert [multipart async for multipart in store.list_multiparts()] == []


async def test_a_copy_that_creates_knows_its_own_object_and_keeps_everything(azurite: Azurite) -> None:
    options = PutOptions(attributes=Attributes(content_language="de", metadata={"a": "ö"}), tags={"b": "c"})
    async with await azurite.new_store() as store:
        await store.put("source", b"bytes", options)
        await store.copy("source", "target", mode="create")
        async with await store.get("target") as found:
            assert (found.attributes, await found.read()) == (options.attributes, b"bytes")
        assert await store.get_tags("target") == options.tags
        assert await store.copy("target", "target") == await put_result(store, "target")
        with pytest.raises(AlreadyExistsError):
            await store.copy("target", "target", mode="create")


async def put_result(store: AzureStore, key: str) -> Any:
    return store._result(await store._container.head_blob(key))


async def test_a_source_that_is_replaced_while_it_is_copied_is_not_mixed(azurite: Azurite) -> None:
    async with await azurite.new_store() as store:
        await store.put("source", b"old")
        ref = await store.create_multipart("key")
        head = store._container.head_blob

        async def replaced(key: str, version: str | None = None) -> Any:
            found = await head(key, version)
            await store.put("source", b"new")
            return found

        store._container.head_blob = replaced  # type: ignore[method-assign]
        with pytest.raises(StoreUnavailableError, match="replaced"):
            await store.copy_part(ref, 1, "source", ByteRange(0, 2))
        with pytest.raises(StoreUnavailableError, match="replaced"):
            await store.copy("source", "target", mode="create")
        store._container.head_blob = head  # type: ignore[method-assign]
        assert not await exists(store, "target")
        assert [part async for part in store.list_parts(ref)] == []


async def test_a_part_may_be_empty(store: AzureStore) -> None:
    ref = await store.create_multipart("key")
    parts = [await store.put_part(ref, 1, b"x"), await store.put_part(ref, 2, b"")]
    assert [part async for part in store.list_parts(ref)] == parts
    await store.complete_multipart(ref, parts)
    assert await read(store, "key") == b"x"


@pytest.mark.parametrize("value", ["=?UTF-8?B?YQ==?=", " edges ", "ü" * 200, "a\tb", ""])
async def test_metadata_of_any_text_comes_back(store: AzureStore, value: str) -> None:
    attributes = Attributes(metadata={"a-name.with_marks": value})
    await store.put("key", b"", PutOptions(attributes=attributes))
    async with await store.get("key", GetOptions(head=True)) as found:
        assert found.attributes == attributes


async def test_a_compressed_object_is_read_as_it_is_kept(store: AzureStore) -> None:
    data = b"\x1f\x8b no gzip, and nobody looks"
    await store.put("key", data, PutOptions(attributes=Attributes(content_encoding="gzip")))
    async with await store.get("key") as found:
        assert (found.attributes.content_encoding, await found.read()) == ("gzip", data)


async def test_a_version_is_named_by_its_e_tag(azurite: Azurite) -> None:
    async with await azurite.new_store(versions=True) as store:
        await store.put("key", b"")
        with pytest.raises(UnsupportedOperationError, match="name the e_tag"):
            await store.put("key", b"", PutOptions(mode=UpdateVersion(version="x")))


async def test_versions_are_asked_for_and_given_out(store: AzureStore, azurite: Azurite, proxy: S3Proxy) -> None:
    """Azurite keeps none: what is asked of Azure, and what is made of what it says."""
    endpoint = store.options.endpoint
    async with azurite.store(store.options.container, endpoint=endpoint, versions=True) as versioned:
        proxy.rewrite = lambda _, answer: answer.replace(b"\r\n", b"\r\nx-ms-version-id: 2026-11-21T18:19:51.1Z\r\n", 1)
        assert (await versioned.put("key", b"bytes")).version == "2026-11-21T18:19:51.1Z"
        assert (await versioned.head("key")).version == "2026-11-21T18:19:51.1Z"
        proxy.requests.clear()
        for head in (False, True):
            with suppress(ObjectStoreError):  # whatever Azurite makes of it
                await (await versioned.get("key", GetOptions(version=OLD, head=head))).aclose()
        assert all(f"versionid={OLD}" in request.target for request in proxy.requests)


async def test_a_closed_store_says_so(azurite: Azurite) -> None:
    store = await azurite.new_store()
    await store.aclose()
    await store.aclose()
    with pytest.raises(StoreUnavailableError, match="closed"):
        await store.head("key")


# Ways to be let in


async def test_a_connection_string_lets_in(azurite: Azurite) -> None:
    container = await azurite.new_container()
    secret = f"AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={azurite.account_url};"
    async with azurite.store(container, account=None, endpoint=None, secret=secret) as store:
        await store.prepare()
        await store.put("key", b"bytes")
        assert store.capabilities.signed_urls


async def test_a_sas_token_lets_in_as_far_as_it_goes(azurite: Azurite) -> None:
    container = await azurite.new_container()
    async with azurite.store(container, secret=sas(container, "rcwdlt")) as store:
        await store.prepare()
        await store.put("source", b"bytes", PutOptions(tags={"a": "b"}))
        await store.copy("source", "target")
        assert (await read(store, "target"), await store.get_tags("target")) == (b"bytes", {"a": "b"})
        ref = await store.create_multipart("key")
        await store.complete_multipart(ref, [await store.copy_part(ref, 1, "source")])
        assert not store.capabilities.signed_urls
    async with azurite.store(container, secret=sas(container, "rl")) as store:
        assert await read(store, "key") == b"bytes"
        with pytest.raises(PermissionDeniedError):
            await store.put("key", b"")


def sas(container: str, permissions: str) -> str:
    permission = ContainerSasPermissions.from_string(permissions)
    expiry = datetime.now(UTC) + timedelta(hours=1)
    token: str = generate_container_sas(ACCOUNT, container, KEY, permission=permission, expiry=expiry)
    return token


class Tokens:
    """What azure-identity gives, without asking anybody."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.closed = False

    async def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        self.asked += scopes
        return AccessToken("a token", 2**40)

    async def close(self) -> None:
        self.closed = True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self.close()


class Lender:
    """The part of the service that lends keys for signing."""

    def __init__(self) -> None:
        self.lent: list[tuple[datetime, datetime]] = []

    async def get_user_delegation_key(self, start: datetime, end: datetime) -> Any:
        self.lent.append((start, end))
        key = UserDelegationKey()  # type: ignore[no-untyped-call]
        key.signed_oid, key.signed_tid, key.signed_service, key.signed_version = "oid", "tid", "b", "2020-02-10"
        key.signed_start, key.signed_expiry = start.strftime("%Y-%m-%dT%H:%M:%SZ"), end.strftime("%Y-%m-%dT%H:%M:%SZ")
        key.value = KEY
        return key


async def test_with_tokens_urls_are_signed_by_a_key_that_is_lent_for_a_while() -> None:
    tokens, lender = Tokens(), Lender()
    service: Any = lender
    signer = Signer(Account("https://account.blob.core.windows.net", "account", tokens), "container", service)
    reading = BlobSasPermissions(read=True)
    urls = await asyncio.gather(*(signer.sas("key", reading, timedelta(minutes=minutes)) for minutes in (5, 50, 30)))
    assert len(lender.lent) == 1
    assert all("skoid=oid" in url and "sp=r&" in url for url in urls)
    await signer.sas("key", reading, timedelta(days=6))
    (_, end) = lender.lent[-1]
    assert len(lender.lent) == 2
    assert end <= datetime.now(UTC) + timedelta(days=7)
    assert await signer.source_authorization() == "Bearer a token"
    assert tokens.asked == ["https://storage.azure.com/.default"]


async def test_a_credential_of_ones_own_is_left_open(azurite: Azurite) -> None:
    tokens = Tokens()
    store = azurite.store("container", secret=None, credential=tokens)
    assert store.capabilities.signed_urls
    with pytest.raises(UnsupportedOperationError, match="7 days"):
        await store.sign_url("GET", "key", timedelta(days=8))
    await store.aclose()
    assert not tokens.closed


async def test_a_url_may_be_signed_for_writing(azurite: Azurite, store: AzureStore) -> None:
    url = await store.sign_url("PUT", "key", timedelta(days=30))
    assert "sp=cw&" in url
    assert "sr=b&" in url
