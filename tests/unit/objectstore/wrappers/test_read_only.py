from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from rindle.errors import ConfigurationError
from rindle.objectstore.base import MultipartStore
from rindle.objectstore.errors import StoreUnavailableError, UnsupportedOperationError
from rindle.objectstore.ext import read, rename
from rindle.objectstore.memory import MemoryStore
from rindle.objectstore.s3 import S3Options, S3Store
from rindle.objectstore.types import MultipartRef, PartMeta, PutOptions, UpdateVersion
from rindle.objectstore.wrappers import read_only
from rindle.testing.faults import FaultyStore
from rindle.testing.payloads import UntouchablePayload

REF = MultipartRef("key", "0" * 32)
PART = PartMeta(part_number=1, size=1, e_tag="0")
WRITES: dict[str, Callable[[MultipartStore], Awaitable[object]]] = {
    "put": lambda store: store.put("key", UntouchablePayload()),
    "create": lambda store: store.put("key", UntouchablePayload(), PutOptions(mode="create")),
    "update": lambda store: store.put("key", UntouchablePayload(), PutOptions(mode=UpdateVersion("e_tag"))),
    "delete": lambda store: store.delete("key"),
    "delete_many": lambda store: store.delete_many(["key"]),
    "copy": lambda store: store.copy("key", "other"),
    "copy to create": lambda store: store.copy("key", "other", mode="create"),
    "rename": lambda store: rename(store, "key", "other"),
    "put_tags": lambda store: store.put_tags("key", {"a": "b"}),
    "create_multipart": lambda store: store.create_multipart("key"),
    "put_part": lambda store: store.put_part(REF, 1, UntouchablePayload()),
    "copy_part": lambda store: store.copy_part(REF, 1, "key"),
    "complete_multipart": lambda store: store.complete_multipart(REF, [PART]),
    "complete to create": lambda store: store.complete_multipart(REF, [PART], mode="create"),
    "abort_multipart": lambda store: store.abort_multipart(REF),
}


@pytest.mark.parametrize("write", WRITES)
async def test_writes_are_refused_before_any_call(write: str) -> None:
    inner = FaultyStore(MemoryStore())
    with pytest.raises(UnsupportedOperationError, match="read-only"):
        await WRITES[write](read_only(inner))
    assert inner.calls == {}


def test_no_method_that_writes_is_forgotten() -> None:
    """Whoever adds one to the contract must say here that it is refused."""
    reads = {"get", "head", "list_page", "list", "list_with_delimiter", "get_tags", "list_parts", "list_multiparts"}
    others = {
        "sign_url",
        "as_fsspec",
        "prepare",
        "sweep",
        "aclose",
        "part_limits",
        "multipart",
        "find_multipart_expiry",
    }
    public = {name for name in dir(MultipartStore) if not name.startswith("_")}
    assert public - reads - others == {
        "put",
        "delete",
        "delete_many",
        "copy",
        "put_tags",
        "create_multipart",
        "put_part",
        "copy_part",
        "complete_multipart",
        "abort_multipart",
    }
    assert public - reads - others <= WRITES.keys()


async def test_what_is_there_is_read() -> None:
    inner = MemoryStore()
    await inner.put("key", b"bytes")
    store = read_only(inner)
    assert await read(store, "key") == b"bytes"
    assert not store.capabilities.put_create
    assert store.capabilities.tags


async def test_urls_are_signed_for_reading_only() -> None:
    async with read_only(S3Store(S3Options(bucket="bucket", region="eu-central-1"))) as store:
        assert "X-Amz-Signature" in await store.sign_url("GET", "key", timedelta(minutes=1))
        for method in ("PUT", "DELETE"):
            with pytest.raises(UnsupportedOperationError, match="read-only"):
                await store.sign_url(method, "key", timedelta(minutes=1))


async def test_to_prepare_is_to_list_and_sweeping_is_left_to_others() -> None:
    inner = FaultyStore(MemoryStore())
    store = read_only(inner)
    await store.prepare()
    assert await store.sweep() == 0
    assert inner.calls == {"list_page": 1}

    async def fail(_operation: str, key: str) -> None:
        msg = "no answer"
        raise StoreUnavailableError(msg, store="memory", key=key)

    inner.before = fail
    with pytest.raises(ConfigurationError, match="cannot be read: memory: no answer"):
        await store.prepare()
