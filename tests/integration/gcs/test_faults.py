"""A service that is busy, cuts connections and loses answers, as what is in front of an emulator."""

import json
from base64 import b64encode
from collections.abc import Awaitable, Callable, Sequence

import pytest

from rindle.objectstore.errors import (
    AlreadyExistsError,
    IntegrityError,
    MultipartNotFoundError,
    NotFoundError,
    NotModifiedError,
    PermissionDeniedError,
    PreconditionFailedError,
    StoreTimeoutError,
    StoreUnavailableError,
    UnauthenticatedError,
)
from rindle.objectstore.ext import exists, read
from rindle.objectstore.gcs import GCSStore
from rindle.objectstore.payload import BytesPayload, crc64nvme
from rindle.objectstore.types import (
    Attributes,
    ByteRange,
    GetOptions,
    MultipartRef,
    PartMeta,
    PutOptions,
    UpdateVersion,
)
from tests.gcs import GCSServer
from tests.gcs_front import TOKENS, GCSFront
from tests.s3_proxy import Fault, S3Proxy, error_body

pytestmark = pytest.mark.long

CREATE = PutOptions(mode="create")
BODY = BytesPayload(b"a" * 70_000, b"", b"b" * 30_000)
BYTES = b"".join(BODY.chunks)

INSERT = "POST ?uploadType"
REWRITE = "POST ?sourceGeneration"
PART = "PUT ?partNumber"
COMPLETE = "POST ?uploadId"


def refusal(call: str, status: int, reason: str, said: str = "no") -> Fault:
    """What the JSON API says."""
    body = {"error": {"code": status, "message": said, "errors": [{"reason": reason, "message": said}]}}
    return Fault(call, answer=(status, json.dumps(body).encode()))


async def begin(store: GCSStore) -> tuple[MultipartRef, list[PartMeta]]:
    ref = await store.create_multipart("key")
    return ref, [await store.put_part(ref, 1, BODY), await store.put_part(ref, 2, b"more")]


# Bodies are sent again


async def test_a_part_goes_to_a_busy_service_again(store: GCSStore, front: GCSFront) -> None:
    ref = await store.create_multipart("key")
    front.fail(PART, (500, "InternalError"), (503, "ServiceUnavailable"), (429, "SlowDown"))
    part = await store.put_part(ref, 1, BODY)
    assert front.count(PART) == 4
    await store.complete_multipart(ref, [part])
    assert await read(store, "key") == BYTES


@pytest.mark.parametrize("cut", [0, 1, 65_536, 100_000])
async def test_bodies_whose_connection_breaks_are_sent_again_from_their_start(
    store: GCSStore, front: GCSFront, cut: int
) -> None:
    front.faults += [Fault(INSERT, cut=cut), Fault(PART, cut=cut)]
    await store.put("key", BODY)
    assert await read(store, "key") == BYTES
    ref = await store.create_multipart("other")
    await store.complete_multipart(ref, [await store.put_part(ref, 1, BODY)])
    assert await read(store, "other") == BYTES
    assert [len(request.body) for request in front.seen(PART)] == [cut, 100_000]


async def test_attempts_have_an_end(store: GCSStore, front: GCSFront) -> None:
    front.faults += [refusal(INSERT, 503, "backendError")] * 9
    with pytest.raises(StoreUnavailableError):
        await store.put("key", BODY)
    assert front.count(INSERT) == store.options.attempts == 4


async def test_a_payload_that_is_not_the_one_it_says_is_not_sent(store: GCSStore, front: GCSFront) -> None:
    with pytest.raises(IntegrityError):
        await store.put("key", BytesPayload(BYTES, crc64nvme=1))
    assert front.count(INSERT) == 0


async def test_other_bytes_than_were_sent_are_refused_by_the_service(
    store: GCSStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def another(*_: object, **__: object) -> int:
        return 1

    monkeypatch.setattr("rindle.objectstore.gcs.bucket.checksum", another)
    with pytest.raises(IntegrityError):
        await store.put("key", BODY)
    assert not await exists(store, "key")


async def test_a_part_that_arrives_damaged_is_not_counted(store: GCSStore, front: GCSFront) -> None:
    ref = await store.create_multipart("key")
    other = b64encode(bytes(4))
    front.rewrite = lambda request, answer: (
        answer[: answer.index(b"crc32c=")] + b"crc32c=" + other + b"\r\n\r\n" if request.is_about(PART) else answer
    )
    with pytest.raises(StoreUnavailableError, match="not arrived"):
        await store.put_part(ref, 1, BytesPayload(BYTES, crc64nvme=crc64nvme(BYTES)))


# Answers that are lost


async def test_a_completion_whose_answer_is_lost_does_not_say_what_was_done(store: GCSStore, front: GCSFront) -> None:
    ref, parts = await begin(store)
    front.faults.append(Fault(COMPLETE, lose=True))
    with pytest.raises(MultipartNotFoundError):
        await store.complete_multipart(ref, parts)
    assert await read(store, "key") == BYTES + b"more"


async def test_an_error_in_an_answer_that_began_as_success_is_one(store: GCSStore, front: GCSFront) -> None:
    ref, parts = await begin(store)
    front.faults.append(Fault(COMPLETE, answer=(200, error_body("InternalError"))))
    with pytest.raises(StoreUnavailableError):
        await store.complete_multipart(ref, parts)
    assert not await exists(store, "key")
    await store.complete_multipart(ref, parts)
    assert await read(store, "key") == BYTES + b"more"


async def test_a_create_whose_answer_is_lost_knows_its_own_object(store: GCSStore, front: GCSFront) -> None:
    front.faults.append(Fault(INSERT, lose=True))
    options = PutOptions(mode="create", attributes=Attributes(metadata={"mine": "yes"}), tags={"a": "b"})
    done = await store.put("key", BODY, options)
    assert front.count(INSERT) == 2
    async with await store.get("key") as found:
        assert (found.meta.e_tag, found.attributes) == (done.e_tag, options.attributes)
    assert await store.get_tags("key") == {"a": "b"}


async def test_a_create_that_was_cut_does_not_take_anothers_equal_object_for_its_own(
    store: GCSStore, front: GCSFront
) -> None:
    await store.put("key", BODY, CREATE)
    front.faults.append(Fault(INSERT, cut=100))
    with pytest.raises(AlreadyExistsError):
        await store.put("key", BODY, CREATE)


async def test_an_update_whose_answer_is_lost_knows_its_own_object(store: GCSStore, front: GCSFront) -> None:
    before = await store.put("key", b"old")
    front.faults.append(Fault(INSERT, lose=True))
    done = await store.put("key", b"new", PutOptions(mode=UpdateVersion(before.e_tag)))
    assert (await store.head("key")).e_tag == done.e_tag
    front.faults.append(Fault(INSERT, cut=0))
    with pytest.raises(PreconditionFailedError):
        await store.put("key", b"newer", PutOptions(mode=UpdateVersion(before.e_tag)))


async def test_a_copy_that_creates_knows_its_own_object_from_anothers(store: GCSStore, front: GCSFront) -> None:
    await store.put("source", BODY)
    front.faults.append(Fault(REWRITE, lose=True))
    done = await store.copy("source", "target", mode="create")
    assert (await store.head("target")).e_tag == done.e_tag
    front.faults.append(Fault(REWRITE, cut=0))
    with pytest.raises(AlreadyExistsError):
        await store.copy("source", "target", mode="create")


async def test_a_copy_may_take_the_service_several_calls(store: GCSStore, front: GCSFront) -> None:
    await store.put("source", BODY)
    more = json.dumps({"done": False, "rewriteToken": "to go on"}).encode()
    front.faults += [Fault(REWRITE, answer=(200, more)), refusal(REWRITE, 503, "backendError")]
    await store.copy("source", "target")
    assert ["rewriteToken=to%20go%20on" in request.target for request in front.seen(REWRITE)] == [False, True, True]
    assert await read(store, "target") == BYTES


async def test_a_copy_whose_source_is_replaced_may_be_tried_again(store: GCSStore, front: GCSFront) -> None:
    await store.put("source", BODY)
    front.faults.append(refusal(REWRITE, 404, "notFound", "No such object"))
    with pytest.raises(StoreUnavailableError, match="replaced"):
        await store.copy("source", "target", mode="create")


async def test_a_read_that_breaks_off_says_so(store: GCSStore, front: GCSFront) -> None:
    await store.put("key", BODY)
    front.faults.append(Fault("GET", cut_answer=50_000))
    async with await store.get("key") as found:
        with pytest.raises(StoreUnavailableError):
            await found.read()


# A service that is away, or does not know who asks


async def test_a_service_that_is_down_is_unavailable_and_comes_back(gcs: GCSServer, front: GCSFront) -> None:
    async with S3Proxy(front.endpoint) as gone:
        store = await gcs.new_store(endpoint=gone.endpoint)
    async with store:
        with pytest.raises(StoreUnavailableError):
            await store.put("key", BODY)
        async with S3Proxy(front.endpoint, port=gone.port or _port(store)):
            await store.put("key", BODY)


def _port(store: GCSStore) -> int:
    assert store.options.endpoint is not None
    return int(store.options.endpoint.rpartition(":")[2])


async def test_a_service_that_does_not_answer_is_given_up(gcs: GCSServer, front: GCSFront) -> None:
    async with await gcs.new_store(read_timeout=0.1, attempts=1) as store:
        for when in ("head", "body", "answer"):
            front.faults.append(Fault(INSERT, hold=when))
            with pytest.raises(StoreTimeoutError):
                await store.put("key", BytesPayload(bytes(20 << 20)))
        front.faults.append(Fault("HEAD", hold="head"))
        with pytest.raises(StoreTimeoutError):
            await store.head("key")


async def test_a_token_that_is_withdrawn_is_renewed_once(gcs: GCSServer, front: GCSFront) -> None:
    front.rewrite = lambda request, answer: (
        answer
        if request.target == TOKENS or request.headers.get("authorization") == f"Bearer {front.token}"
        else WITHDRAWN
    )
    async with await gcs.new_store(secret=gcs.service_account, anonymous=False) as store:
        await store.put("key", BODY)
        front.token = "another token"
        assert await read(store, "key") == BYTES
        assert front.count("POST") == 3  # a token, the object, another token
        front.faults += [refusal("GET", 401, "authError")] * 2
        with pytest.raises(UnauthenticatedError):
            await store.get("key")


WITHDRAWN = b"HTTP/1.1 401 Some\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


async def test_a_bucket_that_is_gone_is_not_an_object_that_is_not_there(gcs: GCSServer, store: GCSStore) -> None:
    with pytest.raises(NotFoundError):
        await store.head("key")
    async with gcs.store("no-such-bucket") as gone:
        attempts: Sequence[Callable[[], Awaitable[object]]] = (
            lambda: gone.head("key"),
            lambda: gone.get("key"),
            lambda: gone.put("key", b""),
            gone.list_page,
        )
        for attempt in attempts:
            with pytest.raises(StoreUnavailableError):
                await attempt()


async def test_objects_that_could_not_be_removed_are_named(store: GCSStore, front: GCSFront) -> None:
    front.faults.append(refusal("DELETE", 403, "forbidden"))
    results = await store.delete_many(["a", "b", "c"])
    assert [type(result.error) for result in results].count(PermissionDeniedError) == 1
    assert [result.key for result in results] == ["a", "b", "c"]


async def test_a_service_that_knows_no_ranges_gives_no_wrong_bytes(store: GCSStore, front: GCSFront) -> None:
    await store.put("key", BODY)
    front.without = frozenset({"range"})
    with pytest.raises(StoreUnavailableError, match="other bytes"):
        await store.get("key", GetOptions(range=ByteRange(5, 10)))


async def test_what_is_between_may_answer_anything(store: GCSStore, front: GCSFront) -> None:
    for call, answer in (("GET ?maxResults", b"<html>"), ("POST ?uploads", b"{}"), ("POST ?uploads", b"<Some/>")):
        front.faults.append(Fault(call, answer=(200, answer)))
        with pytest.raises(StoreUnavailableError, match="answer"):
            await (store.list_page() if call.startswith("GET") else store.create_multipart("key"))


# What is sent


async def test_storage_class_key_and_payer_go_with_every_write(gcs: GCSServer, front: GCSFront) -> None:
    async with await gcs.new_store(storage_class="NEARLINE", kms_key_name="a/key", user_project="payer") as store:
        await store.put("a", b"a")
        await store.put("b", b"b", CREATE)
        await store.copy("a", "c")
        await store.create_multipart("d")
    inserts, copies, begun = front.seen(INSERT), front.seen(REWRITE), front.seen("POST ?uploads")
    assert (len(inserts), len(copies), len(begun)) == (2, 1, 1)
    assert all(b'"storageClass": "NEARLINE"' in request.body for request in [*inserts, *copies])
    assert all("kmsKeyName=a%2Fkey" in request.target for request in inserts)
    assert "destinationKmsKeyName=a%2Fkey" in copies[0].target
    assert begun[0].headers["x-goog-storage-class"] == "NEARLINE"
    assert begun[0].headers["x-goog-encryption-kms-key-name"] == "a/key"
    assert all(request.headers["x-goog-user-project"] == "payer" for request in front.requests)


async def test_a_reader_that_has_the_object_costs_no_body(store: GCSStore, front: GCSFront) -> None:
    before = await store.put("key", BODY)
    front.requests.clear()
    with pytest.raises(NotModifiedError):
        await store.get("key", GetOptions(if_none_match=before.e_tag))
    assert [request.method for request in front.requests] == ["HEAD"]


async def test_a_part_is_sent_as_it_is(store: GCSStore, front: GCSFront) -> None:
    ref = await store.create_multipart("key")
    await store.put_part(ref, 1, BODY)
    (sent,) = front.seen(PART)
    assert (sent.headers["content-length"], sent.body) == ("100000", BYTES)
    assert not {"transfer-encoding", "content-encoding"} & sent.headers.keys()
