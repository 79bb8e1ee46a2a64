"""A service that is busy, cuts connections and loses answers, as a proxy in front of a real one."""

from base64 import b64encode

import pytest

from rindle.objectstore.errors import (
    AlreadyExistsError,
    IntegrityError,
    InvalidKeyError,
    InvalidPartError,
    MultipartNotFoundError,
    NotFoundError,
    NotModifiedError,
    ObjectStoreError,
    PermissionDeniedError,
    PreconditionFailedError,
    StoreFullError,
    StoreTimeoutError,
    StoreUnavailableError,
    ThrottledError,
    UnauthenticatedError,
    UnsupportedOperationError,
)
from rindle.objectstore.ext import exists, read
from rindle.objectstore.payload import BytesPayload, crc64nvme
from rindle.objectstore.s3 import S3Store
from rindle.objectstore.types import (
    Attributes,
    ByteRange,
    GetOptions,
    MultipartRef,
    PartMeta,
    PutOptions,
    UpdateVersion,
)
from tests.s3 import SMALL_PART, S3Server
from tests.s3_proxy import Fault, Request, S3Proxy, error_body

CREATE = PutOptions(mode="create")
BODY = BytesPayload(b"a" * 70_000, b"", b"b" * 30_000)
BYTES = b"".join(BODY.chunks)

PART = "PUT ?partNumber"
COMPLETE = "POST ?uploadId"


async def begin(store: S3Store) -> tuple[MultipartRef, list[PartMeta]]:
    ref = await store.create_multipart("key")
    return ref, [await store.put_part(ref, 1, BODY), await store.put_part(ref, 2, b"more")]


# Bodies are sent again


async def test_a_part_goes_to_a_busy_service_again(store: S3Store, proxy: S3Proxy) -> None:
    ref = await store.create_multipart("key")
    proxy.fail(PART, (500, "InternalError"), (503, "ServiceUnavailable"), (503, "SlowDown"))
    part = await store.put_part(ref, 1, BODY)
    assert proxy.count(PART) == 4
    await store.complete_multipart(ref, [part])
    assert await read(store, "key") == BYTES


@pytest.mark.parametrize("cut", [0, 1, 65_536, 99_999, 100_000])
async def test_a_part_whose_connection_breaks_is_sent_again_from_its_start(
    store: S3Store, proxy: S3Proxy, cut: int
) -> None:
    ref = await store.create_multipart("key")
    proxy.faults.append(Fault(PART, cut=cut))
    await store.put_part(ref, 1, BODY)
    assert [len(request.body) for request in proxy.seen(PART)] == [cut, 100_000]
    assert proxy.seen(PART)[1].body == BYTES


async def test_a_part_whose_answer_is_lost_is_put_once_more(store: S3Store, proxy: S3Proxy) -> None:
    ref = await store.create_multipart("key")
    proxy.faults.append(Fault(PART, lose=True))
    part = await store.put_part(ref, 1, BODY)
    assert [part async for part in store.list_parts(ref)] == [part]


async def test_attempts_have_an_end(store: S3Store, proxy: S3Proxy) -> None:
    proxy.fail("PUT", *[(500, "InternalError")] * 9)
    with pytest.raises(StoreUnavailableError):
        await store.put("key", BODY)
    assert proxy.count("PUT") == store.options.attempts == 4


async def test_a_payload_that_fails_is_not_sent_again(store: S3Store, proxy: S3Proxy) -> None:
    with pytest.raises(IntegrityError):
        await store.put("key", BytesPayload(BYTES, crc64nvme=1))
    assert proxy.count("PUT") == 0  # the request never became whole


# Answers that are lost


async def test_a_completion_whose_answer_is_lost_is_known_by_its_object(store: S3Store, proxy: S3Proxy) -> None:
    ref, parts = await begin(store)
    proxy.faults.append(Fault(COMPLETE, lose=True))
    # moto answers 500 about a multipart that is gone; this is what S3 says.
    proxy.fail(COMPLETE, (404, "NoSuchUpload"))
    proxy.fail("GET ?uploadId", (404, "NoSuchUpload"))
    done = await store.complete_multipart(ref, parts)
    assert done.e_tag == (await store.head("key")).e_tag
    assert await read(store, "key") == BYTES + b"more"


async def test_a_creating_completion_does_not_take_its_own_object_for_anothers(store: S3Store, proxy: S3Proxy) -> None:
    ref, parts = await begin(store)
    proxy.faults.append(Fault(COMPLETE, lose=True))
    proxy.fail(COMPLETE, (412, "PreconditionFailed"))
    proxy.fail("GET ?uploadId", (404, "NoSuchUpload"))
    done = await store.complete_multipart(ref, parts, mode="create")
    assert done.e_tag == (await store.head("key")).e_tag


async def test_a_creating_completion_does_not_take_anothers_object_for_its_own(store: S3Store, proxy: S3Proxy) -> None:
    ref, parts = await begin(store)
    await store.put("key", b"another's")
    proxy.fail(COMPLETE, (500, "InternalError"), (412, "PreconditionFailed"))
    with pytest.raises(AlreadyExistsError):
        await store.complete_multipart(ref, parts, mode="create")
    assert [part async for part in store.list_parts(ref)] == parts


async def test_a_multipart_that_is_gone_without_its_object_is_not_complete(store: S3Store, proxy: S3Proxy) -> None:
    ref, parts = await begin(store)
    for rival in (None, b"another's"):
        if rival is not None:
            await store.put("key", rival)
        proxy.fail(COMPLETE, (500, "InternalError"), (404, "NoSuchUpload"))
        proxy.fail("GET ?uploadId", (404, "NoSuchUpload"))
        with pytest.raises(MultipartNotFoundError):
            await store.complete_multipart(ref, parts)


async def test_a_service_that_answers_500_about_a_multipart_that_is_gone_is_seen_through(
    store: S3Store, proxy: S3Proxy
) -> None:
    """As Ceph does."""
    ref, parts = await begin(store)
    aborted, its_parts = await begin(store)
    await store.complete_multipart(ref, parts)
    await store.abort_multipart(aborted)
    await store.put("key", b"another's")
    for gone, named in ((ref, parts), (aborted, its_parts)):
        proxy.fail(COMPLETE, *[(500, "InternalError")] * 4)
        proxy.fail("GET ?uploadId", (404, "NoSuchKey"))
        with pytest.raises(MultipartNotFoundError):
            await store.complete_multipart(gone, named)
    again, its_parts = await begin(store)
    done = await store.complete_multipart(again, its_parts)
    proxy.fail(COMPLETE, *[(500, "InternalError")] * 4)
    proxy.fail("GET ?uploadId", (404, "NoSuchKey"))
    assert await store.complete_multipart(again, its_parts) == done


async def test_a_completion_that_fails_while_the_multipart_is_there_may_be_tried_again(
    store: S3Store, proxy: S3Proxy
) -> None:
    ref, parts = await begin(store)
    proxy.fail(COMPLETE, *[(500, "InternalError")] * 4)
    with pytest.raises(StoreUnavailableError):
        await store.complete_multipart(ref, parts)
    await store.complete_multipart(ref, parts)


async def test_an_error_in_an_answer_that_began_as_success_is_one(store: S3Store, proxy: S3Proxy) -> None:
    ref, parts = await begin(store)
    slow = Fault(COMPLETE, answer=(200, error_body("InternalError")))
    proxy.faults += [slow, slow]
    await store.complete_multipart(ref, parts)
    assert proxy.count(COMPLETE) == 3
    assert await read(store, "key") == BYTES + b"more"


async def test_only_errors_in_answers_that_began_as_success_are_no_success(store: S3Store, proxy: S3Proxy) -> None:
    ref, parts = await begin(store)
    proxy.faults += [Fault(COMPLETE, answer=(200, error_body("InternalError")))] * 4
    with pytest.raises(StoreUnavailableError):
        await store.complete_multipart(ref, parts)
    assert not await exists(store, "key")


async def test_a_create_whose_answer_is_lost_knows_its_own_object(store: S3Store, proxy: S3Proxy) -> None:
    proxy.faults.append(Fault("PUT", lose=True))
    options = PutOptions(mode="create", attributes=Attributes(metadata={"mine": "yes"}))
    done = await store.put("key", BODY, options)
    assert proxy.count("PUT") == 2
    async with await store.get("key") as found:
        assert (found.meta.e_tag, found.attributes) == (done.e_tag, options.attributes)


async def test_a_create_that_was_cut_does_not_take_anothers_equal_object_for_its_own(
    store: S3Store, proxy: S3Proxy
) -> None:
    await store.put("key", BODY, CREATE)
    proxy.faults.append(Fault("PUT", cut=100))
    with pytest.raises(AlreadyExistsError):
        await store.put("key", BODY, CREATE)


async def test_an_update_whose_answer_is_lost_knows_its_own_object(store: S3Store, proxy: S3Proxy) -> None:
    before = await store.put("key", b"old")
    proxy.faults.append(Fault("PUT", lose=True))
    done = await store.put("key", b"new", PutOptions(mode=UpdateVersion(before.e_tag)))
    assert (await store.head("key")).e_tag == done.e_tag
    proxy.faults.append(Fault("PUT", cut=0))
    with pytest.raises(PreconditionFailedError):
        await store.put("key", b"newer", PutOptions(mode=UpdateVersion(before.e_tag)))


async def test_a_write_that_met_another_is_tried_again(store: S3Store, proxy: S3Proxy) -> None:
    proxy.fail("PUT", (409, "ConditionalRequestConflict"), (409, "ConditionalRequestConflict"))
    await store.put("key", BODY, CREATE)
    assert proxy.count("PUT") == 3
    proxy.fail("PUT", *[(409, "ConditionalRequestConflict")] * 4)
    with pytest.raises(StoreUnavailableError):
        await store.put("other", BODY, CREATE)


async def test_a_read_that_breaks_off_says_so(store: S3Store, proxy: S3Proxy) -> None:
    await store.put("key", BODY)
    proxy.faults.append(Fault("GET", cut_answer=50_000))
    async with await store.get("key") as found:
        with pytest.raises(StoreUnavailableError):
            await found.read()


async def test_a_service_that_is_down_is_unavailable_and_comes_back(moto: S3Server) -> None:
    async with S3Proxy(moto.endpoint) as gone:
        store = await moto.new_store(endpoint=gone.endpoint)
    async with store:
        with pytest.raises(StoreUnavailableError):
            await store.put("key", BODY)
        port = int(store.options.endpoint.rpartition(":")[2]) if store.options.endpoint else 0
        async with S3Proxy(moto.endpoint, port=port):
            await store.put("key", BODY)


async def test_a_service_that_does_not_answer_is_given_up(moto: S3Server, proxy: S3Proxy) -> None:
    async with await moto.new_store(endpoint=proxy.endpoint, read_timeout=0.1, attempts=1) as store:
        for when in ("head", "body", "answer"):
            proxy.faults.append(Fault("PUT", hold=when))
            with pytest.raises(StoreTimeoutError):
                await store.put("key", BytesPayload(bytes(20 << 20)))
        proxy.faults.append(Fault("HEAD", hold="head"))
        with pytest.raises(StoreTimeoutError):
            await store.head("key")


async def test_a_service_that_does_not_take_a_body_is_asked_again(moto: S3Server, proxy: S3Proxy) -> None:
    async with await moto.new_store(endpoint=proxy.endpoint, read_timeout=1) as store:
        proxy.faults += [Fault("PUT", hold="body"), Fault("PUT", hold="answer")]
        await store.put("key", BytesPayload(bytes(20 << 20)))
        assert (await store.head("key")).size == 20 << 20


# Copies that create, where the service knows that


@pytest.fixture
async def copying(moto: S3Server, proxy: S3Proxy) -> S3Store:
    return await moto.new_store(endpoint=proxy.endpoint, conditions=frozenset({"put", "copy"}))


async def test_a_copy_that_creates_is_one_conditional_call_and_keeps_everything(
    copying: S3Store, proxy: S3Proxy
) -> None:
    options = PutOptions(attributes=Attributes(content_type="text/plain", metadata={"a": "ö"}), tags={"b": "c"})
    async with copying as store:
        await store.put("source", BODY, options)
        await store.copy("source", "target", mode="create")
        sent = proxy.seen("PUT")[-1].headers
        assert (sent["if-none-match"], sent["x-amz-metadata-directive"]) == ("*", "REPLACE")
        assert "x-amz-copy-source-if-match" in sent
        async with await store.get("target") as found:
            assert (found.attributes, await found.read()) == (options.attributes, BYTES)
        assert await store.get_tags("target") == options.tags


async def test_a_copy_that_creates_knows_its_own_object_from_anothers(copying: S3Store, proxy: S3Proxy) -> None:
    async with copying as store:
        await store.put("source", BODY)
        proxy.faults.append(Fault("PUT", lose=True))
        proxy.fail("PUT", (412, "PreconditionFailed"))
        await store.copy("source", "target", mode="create")
        proxy.fail("PUT", (500, "InternalError"), (412, "PreconditionFailed"))
        with pytest.raises(AlreadyExistsError):
            await store.copy("source", "target", mode="create")


async def test_a_copy_whose_source_is_replaced_may_be_tried_again(copying: S3Store, proxy: S3Proxy) -> None:
    async with copying as store:
        await store.put("source", BODY)

        def replaced(request: Request, answer: bytes) -> bytes:
            return (
                answer.replace(b'ETag: "', b'ETag: "0')
                if request.method == "HEAD" and proxy.count("HEAD") == 1
                else answer
            )

        proxy.rewrite = replaced
        proxy.fail("PUT", (412, "PreconditionFailed"))
        with pytest.raises(StoreUnavailableError, match="replaced"):
            await store.copy("source", "target", mode="create")


# What else a service may say


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (404, "NoSuchBucket", StoreUnavailableError),
        (404, "NoSuchUpload", MultipartNotFoundError),
        (404, "NoSuchKey", MultipartNotFoundError),
        (404, "", StoreUnavailableError),
        (400, "InvalidPart", InvalidPartError),
        (400, "InvalidPartOrder", InvalidPartError),
        (400, "EntityTooSmall", InvalidPartError),
        (409, "ConditionalRequestConflict", StoreUnavailableError),
        (400, "BadDigest", IntegrityError),
        (400, "KeyTooLongError", InvalidKeyError),
        (403, "AccessDenied", PermissionDeniedError),
        (403, "SomethingNew", PermissionDeniedError),
        (403, "InvalidAccessKeyId", UnauthenticatedError),
        (403, "SignatureDoesNotMatch", UnauthenticatedError),
        (403, "RequestTimeTooSkewed", UnauthenticatedError),
        (400, "ExpiredToken", UnauthenticatedError),
        (403, "QuotaExceeded", StoreFullError),
        (507, "InsufficientStorage", StoreFullError),
        (503, "SlowDown", ThrottledError),
        (429, "SomethingNew", ThrottledError),
        (400, "RequestTimeout", StoreTimeoutError),
        (500, "InternalError", StoreUnavailableError),
        (502, "", StoreUnavailableError),
        (501, "NotImplemented", UnsupportedOperationError),
        (400, "SomethingNew", ObjectStoreError),
    ],
)
async def test_errors_are_told_apart(
    moto: S3Server, proxy: S3Proxy, status: int, code: str, kind: type[ObjectStoreError]
) -> None:
    async with await moto.new_store(endpoint=proxy.endpoint, attempts=1) as store:
        proxy.fail(COMPLETE, (status, code))
        proxy.faults.append(Fault("GET ?uploadId", answer=(200, b"<ListPartsResult/>")))
        with pytest.raises(ObjectStoreError) as caught:
            await store.complete_multipart(
                MultipartRef("key", "id"), [PartMeta(part_number=1, size=1, e_tag="0" * 32)], mode="create"
            )
    assert type(caught.value) is kind
    assert caught.value.key == "key"
    assert caught.value.__cause__ is not None


async def test_a_bucket_that_is_gone_is_not_an_object_that_is_not_there(store: S3Store, proxy: S3Proxy) -> None:
    with pytest.raises(NotFoundError):
        await store.head("key")
    for call in ("HEAD", "GET ?list-type"):
        proxy.fail(call, (404, "NoSuchBucket"))
    with pytest.raises(StoreUnavailableError):
        await store.head("key")


async def test_a_404_that_is_not_the_service_s_says_nothing_of_the_object(store: S3Store, proxy: S3Proxy) -> None:
    """Some gateway's, while it is changed."""
    await store.put("key", BODY)
    page = Fault("GET", answer=(404, b"<html>there is no such page</html>"))
    proxy.faults.append(page)
    with pytest.raises(StoreUnavailableError):
        await store.get("key")
    proxy.faults += [Fault("HEAD", answer=(404, b"")), page]
    with pytest.raises(StoreUnavailableError):
        await store.head("key")


async def test_a_part_without_an_e_tag_is_not_stored(store: S3Store, proxy: S3Proxy) -> None:
    ref = await store.create_multipart("key")
    proxy.faults.append(Fault(PART, answer=(200, b"")))
    with pytest.raises(StoreUnavailableError, match="no e_tag"):
        await store.put_part(ref, 1, BODY)


async def test_a_service_that_knows_no_ranges_gives_no_wrong_bytes(store: S3Store, proxy: S3Proxy) -> None:
    await store.put("key", BODY)
    proxy.without = frozenset({"range"})
    with pytest.raises(StoreUnavailableError, match="other bytes"):
        await store.get("key", GetOptions(range=ByteRange(5, 10)))


async def test_objects_that_could_not_be_removed_are_named(store: S3Store, proxy: S3Proxy) -> None:
    refused = b"<DeleteResult><Error><Key>b</Key><Code>AccessDenied</Code><Message>no</Message></Error></DeleteResult>"
    proxy.faults.append(Fault("POST ?delete", answer=(200, refused)))
    results = await store.delete_many(["a", "b"])
    assert [(result.key, type(result.error)) for result in results] == [("a", type(None)), ("b", PermissionDeniedError)]
    proxy.fail("POST ?delete", *[(500, "InternalError")] * 4)
    results = await store.delete_many(["a", "b"])
    assert [type(result.error) for result in results] == [StoreUnavailableError, StoreUnavailableError]


async def test_of_many_objects_one_that_may_not_be_removed_does_not_stop_the_rest(
    store: S3Store, proxy: S3Proxy
) -> None:
    keys = [f"key {number}" for number in range(1500)]
    await store.put(keys[1200], b"on the second page")
    refused = b"<DeleteResult><Error><Key>key 700</Key><Code>AccessDenied</Code></Error></DeleteResult>"
    proxy.faults.append(Fault("POST ?delete", answer=(200, refused)))
    results = await store.delete_many(keys)
    assert [result.key for result in results] == keys
    assert [number for number, result in enumerate(results) if result.error is not None] == [700]
    assert isinstance(results[700].error, PermissionDeniedError)
    assert proxy.count("POST ?delete") == 2
    assert not await exists(store, keys[1200])


# What is sent


async def test_a_body_is_sent_with_its_own_checksum_and_nothing_else_is_made_of_it(
    moto: S3Server, proxy: S3Proxy
) -> None:
    async with await moto.new_store(endpoint=proxy.endpoint, checksums="crc64nvme") as store:
        ref = await store.create_multipart("key")
        crc = crc64nvme(BYTES)
        for payload in (BytesPayload(*BODY.chunks, crc64nvme=crc), BODY):
            await store.put_part(ref, 1, payload)
        await store.put("key", b"")
    (created,) = proxy.seen("POST ?uploads")
    assert created.headers["x-amz-checksum-algorithm"] == "CRC64NVME"
    assert created.headers["x-amz-checksum-type"] == "FULL_OBJECT"
    spelt = b64encode(crc.to_bytes(8, "big")).decode()
    for request in proxy.seen(PART):
        assert request.headers["x-amz-content-sha256"] == "UNSIGNED-PAYLOAD"
        assert request.headers["x-amz-checksum-crc64nvme"] == spelt
        assert (request.headers["content-length"], request.body) == ("100000", BYTES)
        assert "transfer-encoding" not in request.headers
        assert not {"x-amz-sdk-checksum-algorithm", "content-md5"} & request.headers.keys()


async def test_encryption_and_storage_class_go_with_every_write(moto: S3Server, proxy: S3Proxy) -> None:
    async with await moto.new_store(
        endpoint=proxy.endpoint,
        sse="aws:kms",
        kms_key_id="alias/rindle",
        bucket_key=True,
        storage_class="STANDARD_IA",
        conditions=frozenset({"put", "copy"}),
        max_part_size=SMALL_PART,
        max_copy_size=SMALL_PART,
    ) as store:
        await store.put("a", b"a")
        await store.put("b", b"b", CREATE)
        await store.copy("a", "c")
        await store.copy("a", "d", mode="create")
        await store.put("large", bytes(SMALL_PART + 1))
        await store.copy("large", "e")
    writes = [request for request in proxy.requests if request.method == "PUT" and "uploadId" not in request.target]
    begun = proxy.seen("POST ?uploads")
    assert (len(writes), len(begun)) == (5, 1)
    for request in [*writes, *begun]:
        assert request.headers["x-amz-server-side-encryption"] == "aws:kms"
        assert request.headers["x-amz-server-side-encryption-aws-kms-key-id"] == "alias/rindle"
        assert request.headers["x-amz-server-side-encryption-bucket-key-enabled"] == "true"
        assert request.headers["x-amz-storage-class"] == "STANDARD_IA"


async def test_a_reader_that_has_the_object_costs_no_body(store: S3Store, proxy: S3Proxy) -> None:
    before = await store.put("key", BODY)
    with pytest.raises(NotModifiedError):
        await store.get("key", GetOptions(if_none_match=before.e_tag))
    assert proxy.seen("GET")[-1].headers["if-none-match"] == f'"{before.e_tag}"'


# Answers that are not read

DTD = b"""<?xml version="1.0"?><!DOCTYPE r [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;">]>
<ListBucketResult><Contents><Key>&b;</Key><Size>1</Size><LastModified>2026-01-01T00:00:00Z</LastModified></Contents>
</ListBucketResult>"""


async def test_entities_in_an_answer_are_not_expanded(store: S3Store, proxy: S3Proxy) -> None:
    proxy.faults.append(Fault("GET ?list-type", answer=(200, DTD)))
    with pytest.raises(ObjectStoreError, match="document type declaration"):
        await store.list_page()


async def test_a_proxys_error_page_is_an_error_like_any(store: S3Store, proxy: S3Proxy) -> None:
    page = b"<!DOCTYPE html><html><body>Bad Gateway</body></html>"
    proxy.faults += [Fault("GET ?list-type", answer=(502, page))] * 2
    assert (await store.list_page()).objects == ()
    assert proxy.count("GET ?list-type") == 3
    proxy.faults += [Fault("GET ?list-type", answer=(403, page))]
    with pytest.raises(PermissionDeniedError):
        await store.list_page()
