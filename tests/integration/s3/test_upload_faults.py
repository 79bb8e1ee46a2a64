"""Uploads whose service refuses, throttles, stalls, lies or is away: said, nothing lost, and it goes on by itself."""

import random
import re
from dataclasses import dataclass
from typing import Literal

import pytest

from rindle.reaper.report import Chore
from rindle.uploads.model import UploadState
from tests.http import Client, Response
from tests.s3 import SMALL_PART, S3Server
from tests.s3_proxy import Fault, Request, S3Proxy
from tests.serving import RunningServer, StartServer

pytestmark = pytest.mark.long

PART = 64 * 1024
DATA = random.Random(0).randbytes(PART * 3 + 1000)
FIRST = PART + 10
"""What is there before anything goes wrong: a part, and a tail."""

PUT_PART = "PUT ?partNumber"
COMPLETE = "POST ?uploadId"
ATTEMPTS = 2

CODES = [
    (503, "SlowDown"),
    (503, "ServiceUnavailable"),
    (500, "InternalError"),
    (502, ""),
    (400, "RequestTimeout"),
    (400, "IncompleteBody"),
    (400, "BadDigest"),
    (400, "ExpiredToken"),
    (403, "InvalidAccessKeyId"),
    (403, "RequestTimeTooSkewed"),
    (403, "AccessDenied"),
    (404, "NoSuchBucket"),
    (400, "SomethingNew"),
]


@dataclass
class Upload:
    """One upload of :data:`DATA` on a server whose service may fail."""

    server: RunningServer
    location: str

    @property
    def client(self) -> Client:
        return self.server.client

    async def append(self, offset: int) -> Response:
        return await self.client.patch(self.location, offset, DATA[offset:])

    async def assert_refused(self, response: Response, status: int = 503) -> int:
        """It was, with a time to come back; where the upload stands now, which a HEAD says without the service."""
        assert response.status == status, response
        assert int(response.headers["retry-after"]) > 0
        found = await self.client.head(self.location)
        assert found.status == 200, found
        return found.offset

    async def assert_finished(self, offset: int) -> None:
        """It goes on from there, with no more than that to know."""
        done = await self.append(offset)
        assert (done.status, done.offset) == (204, len(DATA))
        await self.assert_whole()

    async def assert_whole(self) -> None:
        assert (await self.client.head(self.location)).offset == len(DATA)
        assert await self.server.read_object(self.location) == DATA
        assert await self.server.events(self.location) == ["created", "finished"]
        await self.server.parts.reaper.run()
        store = self.server.parts.store
        assert [meta.key async for meta in store.list()] == [(await self.server.find(self.location)).key]
        assert [multipart async for multipart in store.list_multiparts()] == []


@pytest.fixture(autouse=True)
def without_pauses_between_completions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rindle.uploads.completion._PAUSES", (0, 0))


@pytest.fixture
async def url(moto: S3Server, proxy: S3Proxy) -> str:
    return moto.url(
        await moto.new_bucket(),
        endpoint=proxy.endpoint,
        min_part_size=str(SMALL_PART),
        checksums="none",
        conditions="none",
        attempts=str(ATTEMPTS),
        connect_timeout="1",
        read_timeout="1",
    )


@pytest.fixture
async def upload(url: str, start_server: StartServer, proxy: S3Proxy) -> Upload:
    server = await start_server(store=url, part_size=PART)
    location = await server.client.create(len(DATA))
    assert (await server.client.patch(location, 0, DATA[:FIRST])).offset == FIRST
    proxy.requests.clear()
    return Upload(server, location)


# Parts


@pytest.mark.invariant("I1", "I3", "I5")
@pytest.mark.parametrize(("status", "code"), CODES)
async def test_a_part_that_is_refused_may_be_sent_again(upload: Upload, proxy: S3Proxy, status: int, code: str) -> None:
    proxy.fail(PUT_PART, *[(status, code)] * 40)
    offset = await upload.assert_refused(await upload.append(FIRST))
    assert offset == FIRST
    proxy.faults.clear()
    await upload.assert_finished(offset)


@pytest.mark.invariant("I1", "I3")
async def test_a_service_that_is_full_says_so(upload: Upload, proxy: S3Proxy) -> None:
    proxy.fail(PUT_PART, *[(403, "QuotaExceeded")] * 40)
    offset = await upload.assert_refused(await upload.append(FIRST), 507)
    proxy.faults.clear()
    await upload.assert_finished(offset)


@pytest.mark.invariant("I1", "I3")
@pytest.mark.parametrize(
    "fault",
    [
        Fault(PUT_PART, cut=0),
        Fault(PUT_PART, cut=10_000),
        Fault(PUT_PART, lose=True),
        Fault(PUT_PART, cut_answer=20),
        Fault(PUT_PART, hold="answer"),
    ],
    ids=["reset", "reset in the body", "answer lost", "answer cut", "no answer"],
)
@pytest.mark.parametrize("times", [1, 40], ids=["once", "always"])
async def test_a_part_whose_connection_fails_is_put_again_or_may_be_sent_again(
    upload: Upload, proxy: S3Proxy, fault: Fault, times: int
) -> None:
    proxy.faults += [fault] * times
    response = await upload.append(FIRST)
    if times == 1:
        assert (response.status, response.offset) == (204, len(DATA))
        await upload.assert_whole()
        return
    offset = await upload.assert_refused(response)
    assert offset == FIRST
    proxy.faults.clear()
    await upload.assert_finished(offset)


@pytest.mark.invariant("I5")
async def test_of_parts_in_flight_those_before_the_one_that_failed_count(upload: Upload, proxy: S3Proxy) -> None:
    proxy.fail("PUT ?partNumber=3", *[(500, "InternalError")] * 40)
    offset = await upload.assert_refused(await upload.append(FIRST))
    assert offset == 2 * PART
    proxy.faults.clear()
    await upload.assert_finished(offset)


@pytest.mark.invariant("I2", "I3")
@pytest.mark.parametrize("e_tag", ["another", "none"])
async def test_a_part_of_another_e_tag_never_gets_into_the_object(upload: Upload, proxy: S3Proxy, e_tag: str) -> None:
    """As if somebody else had put the part meanwhile, or the service had lost its mind."""

    def bend(request: Request, answer: bytes) -> bytes:
        said = b'ETag: "00000000000000000000000000000000"\r\n' if e_tag == "another" else b""
        return re.sub(rb"(?i)etag: [^\r]*\r\n", said, answer) if request.is_about("PUT ?partNumber=2") else answer

    proxy.rewrite = bend
    response = await upload.append(FIRST)
    proxy.rewrite = lambda _, answer: answer
    if e_tag == "none":  # then it does not count as stored
        await upload.assert_finished(await upload.assert_refused(response))
        return
    assert (response.status, response.code) == (410, "upload_gone")
    assert (await upload.client.head(upload.location)).status == 410
    assert await upload.server.events(upload.location) == ["created", "failed"]
    await upload.server.parts.reaper.run()
    assert [meta async for meta in upload.server.parts.store.list()] == []
    assert [multipart async for multipart in upload.server.parts.store.list_multiparts()] == []


# The end


@pytest.mark.invariant("I6", "I7")
@pytest.mark.parametrize(
    ("status", "code", "by"),
    [
        *((status, code, "PATCH") for status, code in (*CODES[1:], (403, "QuotaExceeded"))),
        (503, "ServiceUnavailable", "HEAD"),
        (403, "AccessDenied", "HEAD"),
        (503, "ServiceUnavailable", "reaper"),
        (403, "AccessDenied", "reaper"),
    ],
)
async def test_a_completion_that_is_refused_is_made_later_without_the_bytes(
    upload: Upload, proxy: S3Proxy, status: int, code: str, by: Literal["PATCH", "HEAD", "reaper"]
) -> None:
    proxy.fail(COMPLETE, *[(status, code)] * 40)
    refused = await upload.append(FIRST)
    assert refused.status == (507 if code == "QuotaExceeded" else 503)
    assert int(refused.headers["retry-after"]) > 0
    found = await upload.client.head(upload.location)
    assert (found.status, "upload-offset" in found.headers) == (423, False)
    proxy.faults.clear()
    proxy.requests.clear()
    if by == "PATCH":
        assert (await upload.client.patch(upload.location, len(DATA), b"")).status == 204
    elif by == "HEAD":
        assert (await upload.client.head(upload.location)).status == 200
    else:
        await upload.server.change_row(upload.location, "retry_at = state_changed_at")
        assert (await upload.server.parts.reaper.run())[Chore.UNFINISHED].done == 1
    assert proxy.count(PUT_PART) == 0
    await upload.assert_whole()


@pytest.mark.invariant("I6", "I7", "I8")
async def test_an_object_that_takes_its_time_is_waited_for_and_made_once(
    url: str, start_server: StartServer, proxy: S3Proxy
) -> None:
    server = await start_server(store=url.replace("read_timeout=1", "read_timeout=60"), completion_timeout="100ms")
    data = bytes(11 << 20)
    location = await server.client.create(len(data))
    proxy.held = COMPLETE
    for request in (
        server.client.patch(location, 0, data),
        server.client.head(location),
        server.client.patch(location, len(data), b""),
        server.client.delete(location),
    ):
        waiting = await request
        assert (waiting.status, waiting.code) == (423, "upload_finalizing")
        assert int(waiting.headers["retry-after"]) > 0
    proxy.go_on.set()
    while (found := await server.client.head(location)).status == 423:
        pass
    assert (found.status, found.offset) == (200, len(data))
    assert proxy.count(COMPLETE) == 1
    assert await server.events(location) == ["created", "finished"]
    assert await server.read_object(location) == data


@pytest.mark.invariant("I6", "I7")
async def test_an_object_is_known_by_its_mark_where_e_tags_are_no_digests(upload: Upload, proxy: S3Proxy) -> None:
    """As with keys of KMS: the e_tag of the object does not follow from those of its parts."""

    def opaque(request: Request, answer: bytes) -> bytes:
        return re.sub(rb'(?i)(etag: )"[^"]*"', rb'\1"opaque"', answer) if request.method == "HEAD" else answer

    proxy.rewrite = opaque
    proxy.faults.append(Fault(COMPLETE, lose=True))
    proxy.fail(COMPLETE, (404, "NoSuchUpload"))
    await upload.append(FIRST)
    proxy.rewrite = lambda _, answer: answer
    await upload.assert_whole()


@pytest.mark.invariant("I2", "I6")
async def test_a_multipart_that_the_service_dropped_is_no_object(upload: Upload, proxy: S3Proxy) -> None:
    proxy.fail(COMPLETE, (404, "NoSuchUpload"))
    gone = await upload.append(FIRST)
    assert (gone.status, gone.code) == (410, "upload_gone")
    assert (await upload.client.head(upload.location)).status == 410
    assert (await upload.server.find(upload.location)).state is UploadState.ABORTING


# The service as a whole


@pytest.mark.invariant("I1", "I7")
async def test_a_service_that_was_away_is_used_again_without_a_restart(
    moto: S3Server, start_server: StartServer
) -> None:
    async with S3Proxy(moto.endpoint) as proxy:
        port = int(proxy.endpoint.rpartition(":")[2])
        parameters = {"checksums": "none", "conditions": "none", "min_part_size": str(SMALL_PART), "attempts": "1"}
        url = moto.url(await moto.new_bucket(), endpoint=proxy.endpoint, **parameters)
        server = await start_server(store=url, part_size=PART)
        upload = Upload(server, await server.client.create(len(DATA)))
        assert (await server.client.patch(upload.location, 0, DATA[:FIRST])).offset == FIRST
    offset = await upload.assert_refused(await upload.append(FIRST))
    assert offset == FIRST
    # What needs no service goes on: new uploads, and bytes that are no part yet.
    assert (await server.client.patch(upload.location, FIRST, DATA[FIRST : FIRST + 5])).offset == FIRST + 5
    small = await server.client.post(("Upload-Length", "5"))
    assert small.status == 201
    ready = await server.client.request("GET", "/readyz", [], tus=False)
    assert ready.status == 503
    assert b"store_unavailable" in ready.body
    async with S3Proxy(moto.endpoint, port=port):
        await upload.assert_finished(FIRST + 5)
        assert (await server.client.request("GET", "/readyz", [], tus=False)).status == 200
