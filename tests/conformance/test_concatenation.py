"""Upload-Concat: partial uploads become one."""

import asyncio
import random

import pytest
from starlette.requests import Request

from rindle.objectstore.errors import StoreUnavailableError
from rindle.objectstore.types import PartLimits
from rindle.testing.faults import FaultyStore
from rindle.uploads.model import UploadState
from rindle.uploads.planner import plan_joining
from tests.http import OCTETS, Response
from tests.serving import RunningServer, StartServer, rebuild

PART = 64 * 1024
MIB = 1 << 20
GIB = 1 << 30
PARTIAL = ("Upload-Concat", "partial")


def final_of(*uploads: str) -> tuple[str, str]:
    return ("Upload-Concat", f"final;{' '.join(uploads)}")


async def partial(server: RunningServer, content: bytes) -> str:
    upload = await server.client.create(len(content), PARTIAL)
    if content:
        assert (await server.client.patch(upload, 0, content)).offset == len(content)
    return upload


async def refused(server: RunningServer, *headers: tuple[str, str], body: bytes | None = None) -> Response:
    """A creation that is refused, and changes nothing."""
    before = await server.state()
    response = await server.client.post(*headers, body=body)
    assert await server.state() == before
    return response


@pytest.mark.parametrize("sizes", [(5, 6), (PART, PART), (PART + 1, 2 * PART - 1), (0, 5), (3 * PART, 1)], ids=str)
async def test_case_71_partial_uploads_are_joined_in_order(server: RunningServer, sizes: tuple[int, int]) -> None:
    contents = [random.Random(size).randbytes(size) for size in sizes]
    uploads = [await partial(server, content) for content in contents]
    found = await server.client.head(uploads[0])
    assert found.headers["upload-concat"] == "partial"
    created = await server.client.post(final_of(*uploads), ("Upload-Metadata", "name eA=="))
    assert created.status == 201
    found = await server.client.head(created.location)
    assert found.headers["upload-concat"] == f"final;{' '.join(uploads)}"
    assert found.headers["upload-length"] == str(sum(sizes))
    assert found.headers["upload-metadata"] == "name eA=="
    assert found.offset == sum(sizes)
    assert await server.read_object(created.location) == b"".join(contents)
    assert await server.events(created.location) == ["created", "finished"]
    for upload, content in zip(uploads, contents, strict=True):
        assert await server.read_object(upload) == content


async def test_case_72_a_partial_upload_may_come_twice(server: RunningServer) -> None:
    content = random.Random(72).randbytes(PART + 7)
    upload = await partial(server, content)
    created = await server.client.post(final_of(upload, upload))
    assert created.status == 201
    assert await server.read_object(created.location) == content + content
    again = await server.client.post(final_of(upload))
    assert await server.read_object(again.location) == content


async def test_case_73_a_final_upload_with_a_length_is_400(server: RunningServer) -> None:
    upload = await partial(server, b"hello")
    for header in (("Upload-Length", "5"), ("Upload-Defer-Length", "1")):
        assert (await refused(server, final_of(upload), header)).status == 400


async def test_case_74_a_final_upload_with_bytes_is_403(server: RunningServer) -> None:
    upload = await partial(server, b"hello")
    assert (await refused(server, final_of(upload), OCTETS, body=b"hello")).status == 403
    before = await server.state()
    response = await server.client.request_chunked("POST", "/files", [final_of(upload), OCTETS], [b"x"])
    assert (response.status, response.code) == (403, "body_forbidden")
    assert await server.state() == before


@pytest.mark.parametrize("offset", [0, 5])
@pytest.mark.parametrize("body", [b"", b"x"])
async def test_case_75_a_final_upload_takes_no_patch(server: RunningServer, offset: int, body: bytes) -> None:
    final = (await server.client.post(final_of(await partial(server, b"hello")))).location
    before = await server.state()
    response = await server.client.patch(final, offset, body)
    assert (response.status, response.code) == (403, "upload_is_final")
    assert await server.state() == before


async def test_case_76_an_unfinished_partial_upload_is_400(server: RunningServer) -> None:
    unfinished = await server.client.create(5, PARTIAL)
    await server.client.patch(unfinished, 0, b"hell")
    deferred = await server.client.create(None, PARTIAL)
    for upload in (unfinished, deferred):
        response = await refused(server, final_of(await partial(server, b"x"), upload))
        assert (response.status, response.code) == (400, "invalid_concatenation")


async def test_an_upload_that_is_not_partial_is_not_joined(server: RunningServer) -> None:
    whole = await server.client.create(5, body=b"hello")
    final = (await server.client.post(final_of(await partial(server, b"x")))).location
    for upload in (whole, final):
        assert (await refused(server, final_of(upload))).status == 400


async def test_case_77_an_unknown_partial_upload_is_404(server: RunningServer) -> None:
    upload = await partial(server, b"hello")
    response = await refused(server, final_of(upload, f"/files/{'0' * 32}"))
    assert (response.status, response.code) == (404, "upload_not_found")


async def test_a_partial_upload_that_is_gone_is_410(server: RunningServer) -> None:
    upload = await partial(server, b"hello")
    assert (await server.client.delete(upload)).status == 204
    assert (await refused(server, final_of(upload))).status == 410


async def test_case_78_any_other_concatenation_is_400(server: RunningServer) -> None:
    upload = await partial(server, b"hello")
    for value in (
        "final;",
        "final",
        "foo",
        "",
        "Partial",
        "partial;",
        f"partial;{upload}",
        f"final; {upload}",
        f"final;{upload}  {upload}",
        f"final;{upload},{upload}",
        f"final {upload}",
        f"final;{upload}/",
        f"final;{upload}?x",
        "final;/files/../../etc/passwd",
        "final;http://evil.example/",
    ):
        response = await refused(server, ("Upload-Concat", value))
        assert response.status == 400, value
        assert (await refused(server, ("Upload-Concat", value), ("Upload-Length", "5"))).status == 400, value


async def test_case_79_more_than_the_maximum_together_is_413(start_server: StartServer) -> None:
    server = await start_server(max_size=1000)
    upload = await partial(server, bytes(500))
    assert (await server.client.post(final_of(upload, upload))).status == 201
    response = await refused(server, final_of(upload, upload, await partial(server, b"x")))
    assert (response.status, response.code) == (413, "max_size_exceeded")


async def test_no_more_than_a_thousand_are_joined(server: RunningServer) -> None:
    upload = await partial(server, b"x")
    created = await server.client.post(final_of(*[upload] * 1000))
    assert created.status == 201
    assert await server.read_object(created.location) == b"x" * 1000
    response = await refused(server, final_of(*[upload] * 1001))
    assert (response.status, response.code) == (400, "invalid_concatenation")


async def test_case_80_partial_uploads_smaller_than_a_part_are_joined(start_server: StartServer) -> None:
    server = await start_server(part_size=5 * MIB)
    contents = [random.Random(size).randbytes(size) for size in (1, 3 * MIB, 5 * MIB - 1, 7)]
    uploads = [await partial(server, content) for content in contents]
    created = await server.client.post(final_of(*uploads))
    assert await server.read_object(created.location) == b"".join(contents)


@pytest.mark.parametrize(
    "sizes",
    [[5 * GIB + 1], [1, 6 * GIB, 2, 11 * GIB + 3], [5 * MIB - 1, 5 * MIB, 5 * MIB + 1], [1] * 1000, [0, 0, 7, 0]],
    ids=["above-5-gib", "mixed", "around-the-minimum", "crumbs", "empties"],
)
def test_case_80_partial_uploads_of_any_size_become_parts_that_s3_takes(sizes: list[int]) -> None:
    limits = PartLimits(min_size=5 * MIB, max_size=5 * GIB, max_count=10_000, max_object_size=5 << 40)
    plan = plan_joining(sizes, limits, 5 * MIB)
    held = [sum(segment.size for segment in part) for part in plan]
    assert all(5 * MIB <= size <= 5 * GIB for size in held[:-1])
    assert held[-1] <= 5 * GIB
    assert len(plan) <= 10_000
    whole = [segment for part in plan for segment in part]
    covered = dict.fromkeys(range(len(sizes)), 0)
    for segment in whole:
        assert segment.start == covered[segment.source]
        covered[segment.source] = segment.end
    assert list(covered.values()) == sizes
    assert [segment.source for segment in whole] == sorted(segment.source for segment in whole)


async def test_case_81_a_partial_upload_fires_no_finish_hook(server: RunningServer) -> None:
    upload = await partial(server, b"hello")
    assert await server.events(upload) == ["created"]
    large = await partial(server, bytes(2 * PART + 5))
    assert await server.events(large) == ["created"]
    created = await server.client.post(final_of(upload, large))
    assert await server.events(created.location) == ["created", "finished"]


async def by_header(request: Request) -> str:
    return request.headers["x-user"]


@pytest.mark.invariant("I14")
async def test_case_82_the_partial_uploads_of_others_are_not_found(start_server: StartServer) -> None:
    server = await start_server(authorize=by_header)
    alice, bob = ("X-User", "alice"), ("X-User", "bob")
    created = await server.client.post(("Upload-Length", "5"), PARTIAL, OCTETS, alice, body=b"hello")
    response = await refused(server, final_of(created.location), bob)
    assert (response.status, response.code) == (404, "upload_not_found")
    unknown = await refused(server, final_of(f"/files/{'0' * 32}"), bob)
    assert (unknown.status, unknown.body) == (response.status, response.body)
    assert (await server.client.post(final_of(created.location), alice)).status == 201


async def test_many_concatenations_of_the_same_uploads_at_once_all_come_out_right(server: RunningServer) -> None:
    contents = [random.Random(size).randbytes(size) for size in (5, PART + 5)]
    one, two = [await partial(server, content) for content in contents]
    orders = [(one, two), (two, one)] * 5
    responses = await asyncio.gather(*(server.client.post(final_of(*order)) for order in orders))
    assert [response.status for response in responses] == [201] * 10
    for order, response in zip(orders, responses, strict=True):
        expected = contents if order == (one, two) else contents[::-1]
        assert await server.read_object(response.location) == b"".join(expected)
    assert {upload.pins for upload in await server.uploads()} == {0}


async def test_the_urls_of_a_final_upload_may_be_absolute(server: RunningServer) -> None:
    upload = await partial(server, b"hello")
    created = await server.client.post(final_of(f"http://test.example{upload}", f"https://other.example{upload}"))
    assert await server.read_object(created.location) == b"hellohello"


async def test_a_concatenation_of_what_is_lost_fails_and_lets_go_of_the_rest(server: RunningServer) -> None:
    kept, lost = await partial(server, b"hello"), await partial(server, b"world")
    key = (await server.find(lost)).key
    assert key is not None
    await server.parts.store.delete(key)
    response = await server.client.post(final_of(kept, lost))
    assert (response.status, response.code) == (410, "upload_gone")
    (final,) = [upload for upload in await server.uploads() if upload.is_final]
    assert (await server.client.head(f"/files/{final.id}")).status == 410
    assert await server.events(f"/files/{final.id}") == ["created", "failed"]
    assert (await server.parts.reaper.run()).failed == 0
    assert (await server.find(f"/files/{final.id}")).state is UploadState.FAILED
    assert await server.read_object(kept) == b"hello"
    for upload in (kept, lost):
        assert (await server.client.delete(upload)).status == 204


async def test_a_concatenation_whose_parts_vanished_fails(start_server: StartServer) -> None:
    copies = iter([None, StoreUnavailableError("not now", store="test")])

    async def fail_once(operation: str, _key: str) -> None:
        if operation == "copy_part" and (error := next(copies, None)) is not None:
            raise error

    server = await start_server(
        part_size=PART, change=lambda parts: rebuild(parts, store=FaultyStore(parts.store, before=fail_once))
    )
    uploads = [await partial(server, bytes(PART)) for _ in range(2)]
    final = (await server.client.post(final_of(*uploads))).location
    row = await server.find(final)
    assert (row.state, row.part_count) == (UploadState.CONCATENATING, 1)
    assert row.multipart is not None
    found = await server.client.head(uploads[0])
    assert found.status == 200
    await server.parts.store.abort_multipart(row.multipart)
    await server.parts.reaper.run()
    assert (await server.client.head(final)).status == 410
    assert await server.events(final) == ["created", "failed"]
    again = await server.client.post(final_of(*uploads))
    assert await server.read_object(again.location) == bytes(2 * PART)
