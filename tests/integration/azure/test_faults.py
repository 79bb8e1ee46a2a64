"""A service that is busy, cuts connections and loses answers, as a proxy in front of an emulator."""

from base64 import b64encode
from collections.abc import Awaitable, Callable, Sequence

import pytest

from rindle.objectstore.azure import AzureStore
from rindle.objectstore.errors import (
    AlreadyExistsError,
    IntegrityError,
    InvalidPartError,
    MultipartNotFoundError,
    NotFoundError,
    NotModifiedError,
    PermissionDeniedError,
    PreconditionFailedError,
    StoreTimeoutError,
    StoreUnavailableError,
)
from rindle.objectstore.ext import exists, read
from rindle.objectstore.payload import BytesPayload, crc64nvme
from rindle.objectstore.types import (
    Attributes,
    ByteRange,
    GetOptions,
    MultipartRef,
    PartMeta,
    PutOptions,
    SuffixRange,
    UpdateVersion,
)
from tests.azure import ACCOUNT, Azurite
from tests.s3_proxy import Fault, S3Proxy, error_body

pytestmark = pytest.mark.long

CREATE = PutOptions(mode="create")
BODY = BytesPayload(b"a" * 70_000, b"", b"b" * 30_000)
BYTES = b"".join(BODY.chunks)

BLOCK = "PUT ?blockid"
LIST = "PUT ?comp=blocklist"
APPEND = "PUT ?comp=appendblock"


def refusal(call: str, status: int, code: str) -> Fault:
    """What Azure says: the code in a header, too."""
    return Fault(call, answer=(status, error_body(code)), headers=(f"x-ms-error-code: {code}",))


async def begin(store: AzureStore) -> tuple[MultipartRef, list[PartMeta]]:
    ref = await store.create_multipart("key")
    return ref, [await store.put_part(ref, 1, BODY), await store.put_part(ref, 2, b"more")]


# Bodies are sent again


async def test_a_part_goes_to_a_busy_service_again(store: AzureStore, proxy: S3Proxy) -> None:
    ref = await store.create_multipart("key")
    proxy.faults += [refusal(BLOCK, 500, "InternalError"), refusal(BLOCK, 503, "ServerBusy")]
    part = await store.put_part(ref, 1, BODY)
    assert proxy.count(BLOCK) == 3
    await store.complete_multipart(ref, [part])
    assert await read(store, "key") == BYTES


@pytest.mark.parametrize("cut", [0, 1, 65_536, 99_999, 100_000])
async def test_bodies_whose_connection_breaks_are_sent_again_from_their_start(
    store: AzureStore, proxy: S3Proxy, cut: int
) -> None:
    proxy.faults.append(Fault("PUT", cut=cut))
    await store.put("key", BODY)
    assert [len(request.body) for request in proxy.seen("PUT")] == [cut, 100_000]
    assert await read(store, "key") == BYTES
    ref = await store.create_multipart("other")
    proxy.faults.append(Fault(BLOCK, cut=cut))
    await store.complete_multipart(ref, [await store.put_part(ref, 1, BODY)])
    assert await read(store, "other") == BYTES


async def test_a_part_whose_answers_are_lost_is_one(store: AzureStore, proxy: S3Proxy) -> None:
    ref = await store.create_multipart("key")
    proxy.faults += [Fault(BLOCK, lose=True), Fault(APPEND, lose=True)]
    part = await store.put_part(ref, 1, BODY)
    assert [part async for part in store.list_parts(ref)] == [part]


async def test_attempts_have_an_end(store: AzureStore, proxy: S3Proxy) -> None:
    proxy.faults += [refusal("PUT", 500, "InternalError")] * 9
    with pytest.raises(StoreUnavailableError):
        await store.put("key", BODY)
    assert proxy.count("PUT") == store.options.attempts == 4


async def test_other_bytes_than_were_sent_are_refused_by_the_service(
    store: AzureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def another(*_: object, **__: object) -> int:
        return 1

    ref = await store.create_multipart("key")
    for room in ("container", "store"):
        monkeypatch.setattr(f"rindle.objectstore.azure.{room}.checksum", another)
    for attempt in (store.put("key", BODY), store.put_part(ref, 1, BODY)):
        with pytest.raises(IntegrityError):
            await attempt
    assert not await exists(store, "key")


# Answers that are lost


async def test_a_completion_whose_answer_is_lost_is_done_again(store: AzureStore, proxy: S3Proxy) -> None:
    ref, parts = await begin(store)
    proxy.faults.append(Fault(LIST, lose=True))
    done = await store.complete_multipart(ref, parts)
    assert done.e_tag == (await store.head("key")).e_tag
    assert await read(store, "key") == BYTES + b"more"
    assert [multipart async for multipart in store.list_multiparts()] == []


async def test_a_creating_completion_does_not_take_its_own_object_for_anothers(
    store: AzureStore, proxy: S3Proxy
) -> None:
    ref, parts = await begin(store)
    proxy.faults.append(Fault(LIST, lose=True))
    done = await store.complete_multipart(ref, parts, mode="create")
    assert proxy.count(LIST) == 2
    assert done.e_tag == (await store.head("key")).e_tag


async def test_a_creating_completion_does_not_take_anothers_object_for_its_own(
    store: AzureStore, proxy: S3Proxy
) -> None:
    ref, parts = await begin(store)
    await store.put("key", b"another's")
    proxy.faults.append(refusal(LIST, 500, "InternalError"))
    with pytest.raises(AlreadyExistsError):
        await store.complete_multipart(ref, parts, mode="create")
    assert await read(store, "key") == b"another's"


async def test_a_completion_that_died_before_its_end_is_ended_by_the_next(store: AzureStore, proxy: S3Proxy) -> None:
    ref, parts = await begin(store)
    proxy.faults += [refusal("DELETE", 500, "InternalError")] * 4
    with pytest.raises(StoreUnavailableError):
        await store.complete_multipart(ref, parts, mode="create")
    assert [multipart.ref async for multipart in store.list_multiparts()] == [ref]
    done = await store.complete_multipart(ref, parts, mode="create")
    assert await read(store, "key", GetOptions(if_match=done.e_tag)) == BYTES + b"more"
    assert [multipart async for multipart in store.list_multiparts()] == []
    assert await store.complete_multipart(ref, parts) == done
    await store.put("key", b"another's")
    with pytest.raises(MultipartNotFoundError):
        await store.complete_multipart(ref, parts)


async def test_parts_that_azure_has_dropped_are_missed(store: AzureStore, proxy: S3Proxy) -> None:
    ref, parts = await begin(store)
    proxy.faults.append(refusal(LIST, 400, "InvalidBlockList"))
    with pytest.raises(InvalidPartError, match="too old"):
        await store.complete_multipart(ref, parts)
    gone = b"HTTP/1.1 404 Some\r\nx-ms-error-code: BlobNotFound\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    proxy.rewrite = lambda request, answer: gone if request.is_about("GET ?comp=blocklist") else answer
    assert [part async for part in store.list_parts(ref)] == []


async def test_a_create_whose_answer_is_lost_knows_its_own_object(store: AzureStore, proxy: S3Proxy) -> None:
    proxy.faults.append(Fault("PUT", lose=True))
    options = PutOptions(mode="create", attributes=Attributes(metadata={"mine": "yes"}))
    done = await store.put("key", BODY, options)
    assert proxy.count("PUT") == 2
    async with await store.get("key") as found:
        assert (found.meta.e_tag, found.attributes) == (done.e_tag, options.attributes)


async def test_a_create_that_was_cut_does_not_take_anothers_equal_object_for_its_own(
    store: AzureStore, proxy: S3Proxy
) -> None:
    await store.put("key", BODY, CREATE)
    proxy.faults.append(Fault("PUT", cut=100))
    with pytest.raises(AlreadyExistsError):
        await store.put("key", BODY, CREATE)


async def test_an_update_whose_answer_is_lost_knows_its_own_object(store: AzureStore, proxy: S3Proxy) -> None:
    before = await store.put("key", b"old")
    proxy.faults.append(Fault("PUT", lose=True))
    done = await store.put("key", b"new", PutOptions(mode=UpdateVersion(before.e_tag)))
    assert (await store.head("key")).e_tag == done.e_tag
    proxy.faults.append(Fault("PUT", cut=0))
    with pytest.raises(PreconditionFailedError):
        await store.put("key", b"newer", PutOptions(mode=UpdateVersion(before.e_tag)))


async def test_a_read_that_breaks_off_says_so(store: AzureStore, proxy: S3Proxy) -> None:
    await store.put("key", BODY)
    proxy.faults.append(Fault("GET", cut_answer=50_000))
    async with await store.get("key") as found:
        with pytest.raises(StoreUnavailableError):
            await found.read()


async def test_the_end_of_an_object_that_is_replaced_meanwhile_is_not_the_new_ones(
    store: AzureStore, proxy: S3Proxy
) -> None:
    await store.put("key", BODY)

    def replaced(request: object, answer: bytes) -> bytes:
        return answer.replace(b'"0x', b'"0x1', 1) if answer.startswith(b"HTTP/1.1 206") else answer

    proxy.rewrite = replaced
    with pytest.raises(StoreUnavailableError, match="replaced"):
        await store.get("key", GetOptions(range=SuffixRange(10)))


# A service that is away, or does otherwise


async def test_a_service_that_is_down_is_unavailable_and_comes_back(azurite: Azurite) -> None:
    container = await azurite.new_container()
    async with S3Proxy(azurite.endpoint) as gone:
        endpoint = gone.endpoint
    async with azurite.store(container, endpoint=f"{endpoint}/{ACCOUNT}") as store:
        with pytest.raises(StoreUnavailableError):
            await store.put("key", BODY)
        async with S3Proxy(azurite.endpoint, port=int(endpoint.rpartition(":")[2])):
            await store.put("key", BODY)


async def test_a_service_that_does_not_answer_is_given_up(azurite: Azurite, proxy: S3Proxy) -> None:
    container = await azurite.new_container()
    endpoint = f"{proxy.endpoint}/{ACCOUNT}"
    async with azurite.store(container, endpoint=endpoint, read_timeout=0.1, attempts=1) as store:
        for when in ("head", "body", "answer"):
            proxy.faults.append(Fault("PUT", hold=when))
            with pytest.raises(StoreTimeoutError):
                await store.put("key", BytesPayload(bytes(20 << 20)))
        proxy.faults.append(Fault("HEAD", hold="head"))
        with pytest.raises(StoreTimeoutError):
            await store.head("key")


async def test_a_container_that_is_gone_is_not_an_object_that_is_not_there(azurite: Azurite, store: AzureStore) -> None:
    with pytest.raises(NotFoundError):
        await store.head("key")
    async with azurite.store("no-such-container") as gone:
        attempts: Sequence[Callable[[], Awaitable[object]]] = (
            lambda: gone.head("key"),
            lambda: gone.get("key"),
            lambda: gone.put("key", b""),
            lambda: gone.delete("key"),
            gone.list_page,
        )
        for attempt in attempts:
            with pytest.raises(StoreUnavailableError):
                await attempt()


async def test_objects_that_could_not_be_removed_are_named(store: AzureStore, proxy: S3Proxy) -> None:
    proxy.faults.append(refusal("DELETE", 403, "AuthorizationPermissionMismatch"))
    results = await store.delete_many(["a", "b", "c"])
    assert [type(result.error) for result in results].count(PermissionDeniedError) == 1
    assert [result.key for result in results] == ["a", "b", "c"]


async def test_a_service_that_knows_no_ranges_gives_no_wrong_bytes(store: AzureStore, proxy: S3Proxy) -> None:
    await store.put("key", BODY)
    lines = ['ETag: "0x1"', "Last-Modified: Sat, 21 Nov 2026 18:19:51 GMT", "Content-Length: 100000"]
    head = "\r\n".join(["HTTP/1.1 200 Some", *lines, "Connection: close", "", ""])
    proxy.rewrite = lambda *_: head.encode() + BYTES
    with pytest.raises(StoreUnavailableError, match="other bytes"):
        await store.get("key", GetOptions(range=ByteRange(5, 10)))


# What is sent


async def test_a_body_is_sent_as_it_is_with_its_own_checksum(store: AzureStore, proxy: S3Proxy) -> None:
    ref = await store.create_multipart("key")
    crc = crc64nvme(BYTES)
    for payload in (BytesPayload(*BODY.chunks, crc64nvme=crc), BODY):
        await store.put_part(ref, 1, payload)
    spelt = b64encode(crc.to_bytes(8, "little")).decode()
    for request in proxy.seen(BLOCK):
        assert request.headers["x-ms-content-crc64"] == spelt
        assert (request.headers["content-length"], request.body) == ("100000", BYTES)
        assert not {"transfer-encoding", "content-md5"} & request.headers.keys()


async def test_a_part_is_two_calls_and_a_whole_multipart_three_more(store: AzureStore, proxy: S3Proxy) -> None:
    ref, parts = await begin(store)
    await store.complete_multipart(ref, parts)
    methods = [request.method for request in proxy.requests]
    assert methods == ["PUT", *["PUT"] * 4, "GET", "PUT", "DELETE"]


async def test_tier_and_encryption_scope_go_with_every_write(azurite: Azurite, proxy: S3Proxy) -> None:
    container = await azurite.new_container()
    options = {"endpoint": f"{proxy.endpoint}/{ACCOUNT}", "tier": "Cool", "encryption_scope": "scope"}
    async with azurite.store(container, **options) as store:
        await store.put("a", b"a")
        ref = await store.create_multipart("b")
        await store.complete_multipart(ref, [await store.put_part(ref, 1, b"b")])
    writes = proxy.seen("PUT")
    assert len(writes) == 5
    assert all(request.headers["x-ms-encryption-scope"] == "scope" for request in writes)
    made = [writes[0], *proxy.seen(LIST)]
    assert [request.headers["x-ms-access-tier"] for request in made] == ["Cool", "Cool"]


async def test_a_reader_that_has_the_object_costs_no_body(store: AzureStore, proxy: S3Proxy) -> None:
    before = await store.put("key", BODY)
    with pytest.raises(NotModifiedError):
        await store.get("key", GetOptions(if_none_match=before.e_tag))
    assert proxy.seen("GET")[-1].headers["if-none-match"] == f'"{before.e_tag}"'
