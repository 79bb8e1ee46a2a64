"""PATCH: bytes at an offset."""

import random

import pytest

from tests.http import OCTETS, TUS, files_below
from tests.serving import RunningServer, StartServer

PART = 64 * 1024
MIB = 1 << 20


async def test_case_28_bytes_at_the_offset_are_taken(server: RunningServer) -> None:
    upload = await server.client.create(10)
    response = await server.client.patch(upload, 0, b"hello")
    assert (response.status, response.offset) == (204, 5)
    assert response.headers["tus-resumable"] == "1.0.0"
    assert response.body == b""
    assert (await server.client.head(upload)).offset == 5


async def test_case_29_the_last_bytes_make_the_object(server: RunningServer) -> None:
    upload = await server.client.create(10)
    await server.client.patch(upload, 0, b"hello")
    response = await server.client.patch(upload, 5, b"world")
    assert (response.status, response.offset) == (204, 10)
    assert await server.read_object(upload) == b"helloworld"
    assert await server.events(upload) == ["created", "finished"]
    assert files_below(server.data / "tails" / "tus") == []


@pytest.mark.invariant("I14")
async def test_case_30_wrong_offset_is_409_and_changes_nothing(server: RunningServer) -> None:
    upload = await server.client.create(10)
    await server.client.patch(upload, 0, b"hello")
    before = await server.state()
    for offset in (3, 0, 6, 10):
        response = await server.client.patch(upload, offset, b"")
        assert (response.status, response.offset) == (409, 5), offset
    assert (await server.client.patch(upload, 3, b"xxx")).status == 409
    assert await server.state() == before
    assert (await server.client.head(upload)).offset == 5


async def test_case_31_an_offset_that_is_missing_or_no_number_is_400(server: RunningServer) -> None:
    upload = await server.client.create(10)
    before = await server.state()
    sent: list[list[tuple[str, str]]] = [[]]
    sent += [[("Upload-Offset", offset)] for offset in ("-1", "abc", "1e3", "", "+0", "00", "0_0", "\xb2", str(2**63))]
    for headers in sent:
        response = await server.client.request("PATCH", upload, [OCTETS, *headers], b"hello")
        assert (response.status, response.code) == (400, "malformed_header"), headers
    assert await server.state() == before


async def assert_type_refused(server: RunningServer, *headers: tuple[str, str]) -> None:
    upload = await server.client.create(10)
    before = await server.state()
    response = await server.client.request("PATCH", upload, [*headers, ("Upload-Offset", "0")], b"hello")
    assert (response.status, response.code) == (415, "unsupported_media_type")
    assert await server.state() == before


@pytest.mark.parametrize("headers", [[], [("Content-Type", "text/plain")], [("Content-Type", "")]], ids=str)
async def test_case_32_another_content_type_or_none_is_415_and_stores_no_bytes(
    server: RunningServer, headers: list[tuple[str, str]]
) -> None:
    await assert_type_refused(server, *headers)


async def test_case_33_a_content_type_with_parameters_is_415_and_stores_no_bytes(server: RunningServer) -> None:
    await assert_type_refused(server, ("Content-Type", f"{OCTETS[1]}; charset=x"))


async def test_a_media_type_is_compared_without_case(server: RunningServer) -> None:
    upload = await server.client.create(10)
    headers = [("Content-Type", "Application/Offset+Octet-Stream"), ("Upload-Offset", "0")]
    assert (await server.client.request("PATCH", upload, headers, b"hello")).status == 204
    created = await server.client.post(("Upload-Length", "5"), headers[0], body=b"hello")
    assert (created.status, created.offset) == (201, 5)


async def test_case_34_an_upload_that_is_not_known_is_404(server: RunningServer) -> None:
    before = await server.state()
    response = await server.client.patch(f"/files/{'0' * 32}", 0, b"hello")
    assert (response.status, response.code) == (404, "upload_not_found")
    assert "upload-offset" not in response.headers
    assert (await server.client.head(f"/files/{'0' * 32}")).status == 404
    assert await server.state() == before


@pytest.mark.parametrize("end", ["deleted", "expired"])
async def test_case_35_an_upload_that_is_gone_is_410(server: RunningServer, end: str) -> None:
    upload = await server.client.create(10)
    await server.client.patch(upload, 0, b"hello")
    if end == "deleted":
        await server.client.delete(upload)
    else:
        await server.change_row(upload, "expires_at = '2000-01-01T00:00:00.000Z'")
    before = await server.state()
    response = await server.client.patch(upload, 5, b"world")
    assert (response.status, response.code) == (410, "upload_gone")
    assert await server.state() == before


@pytest.mark.parametrize("offset", [0, 5, PART, PART + 5])
async def test_case_37_no_bytes_at_the_offset_are_204_and_change_it_not(server: RunningServer, offset: int) -> None:
    upload = await server.client.create(2 * PART)
    if offset:
        await server.client.patch(upload, 0, bytes(offset))
    for _ in range(2):
        response = await server.client.patch(upload, offset, b"")
        assert (response.status, response.offset) == (204, offset)
    rest = bytes(2 * PART - offset)
    assert (await server.client.patch(upload, offset, rest)).offset == 2 * PART
    assert await server.read_object(upload) == bytes(2 * PART)


async def test_case_38_no_bytes_at_the_end_are_204_and_the_upload_finishes_once(server: RunningServer) -> None:
    upload = await server.client.create(5)
    await server.client.patch(upload, 0, b"hello")
    before = await server.state()
    response = await server.client.patch(upload, 5, b"")
    assert (response.status, response.offset) == (204, 5)
    response = await server.client.patch_chunked(upload, 5, [])
    assert (response.status, response.offset) == (204, 5)
    assert await server.state() == before
    assert await server.events(upload) == ["created", "finished"]


async def test_case_39_a_byte_past_the_end_is_413(server: RunningServer) -> None:
    upload = await server.client.create(5)
    await server.client.patch(upload, 0, b"hello")
    before = await server.state()
    for response in (await server.client.patch(upload, 5, b"x"), await server.client.patch_chunked(upload, 5, [b"x"])):
        assert (response.status, response.code) == (413, "length_exceeded")
    assert await server.state() == before


@pytest.mark.invariant("I13", "I14")
async def test_case_40_a_content_length_past_the_length_is_413_before_a_byte_is_read(server: RunningServer) -> None:
    upload = await server.client.create(10)
    await server.client.patch(upload, 0, b"hello")
    before = await server.state()
    response = await server.client.patch(upload, 5, b"worlds")
    assert (response.status, response.code) == (413, "length_exceeded")
    assert await server.state() == before
    assert (await server.client.head(upload)).offset == 5


@pytest.mark.parametrize("length", [8, PART, PART + 8, 2 * PART])
async def test_case_41_chunked_bytes_past_the_length_are_413_and_only_the_length_is_kept(
    server: RunningServer, length: int
) -> None:
    content = random.Random(41).randbytes(length)
    upload = await server.client.create(length)
    response = await server.client.patch_chunked(upload, 0, [content[:5], content[5:] + b"surplus", b"and more"])
    assert (response.status, response.code) == (413, "length_exceeded")
    assert (await server.client.head(upload)).offset == length
    assert await server.read_object(upload) == content
    assert await server.events(upload) == ["created", "finished"]


async def test_case_42_a_chunked_body_is_as_good_as_any(server: RunningServer) -> None:
    content = random.Random(42).randbytes(PART + 10)
    upload = await server.client.create(len(content))
    response = await server.client.patch_chunked(upload, 0, [content[:1], content[1:PART], content[PART:-5]])
    assert (response.status, response.offset) == (204, PART + 5)
    response = await server.client.patch_chunked(upload, PART + 5, [content[-5:]])
    assert (response.status, response.offset) == (204, PART + 10)
    assert await server.read_object(upload) == content


async def test_case_46_a_thousand_single_bytes_make_the_right_object_in_few_parts(start_server: StartServer) -> None:
    server = await start_server(part_size=256)
    content = random.Random(46).randbytes(1000)
    upload = await server.client.create(1000)
    async with server.client.connect() as connection:
        for offset in range(1000):
            await connection.begin_patch(upload, offset, length=1)
            await connection.send(content[offset : offset + 1])
            response = await connection.read_response()
            assert (response.status, response.offset) == (204, offset + 1)
    assert await server.read_object(upload) == content
    assert [part.size for part in await server.find_parts(upload)] == [256, 256, 256, 232]
    assert files_below(server.data / "tails" / "tus") == []


@pytest.mark.parametrize(
    "sizes",
    [
        [5 * MIB - 1, 2],
        [5 * MIB, 1],
        [5 * MIB + 1, 5 * MIB - 1],
        [10 * MIB + 1, 5 * MIB - 2, 2],
        [1, 5 * MIB, 5 * MIB, 1],
    ],
    ids=["part-1", "part", "part+1", "two-parts+1", "part-across-requests"],
)
async def test_case_47_all_parts_but_the_last_have_one_size(start_server: StartServer, sizes: list[int]) -> None:
    server = await start_server(part_size=5 * MIB)
    content = random.Random(47).randbytes(sum(sizes))
    upload = await server.client.create(len(content))
    offset = 0
    for size in sizes:
        response = await server.client.patch(upload, offset, content[offset : offset + size])
        offset += size
        assert (response.status, response.offset) == (204, offset)
    parts = await server.find_parts(upload)
    assert [part.part_number for part in parts] == [*range(1, len(parts) + 1)]
    assert {part.size for part in parts[:-1]} == {5 * MIB}
    assert sum(part.size for part in parts) == len(content)
    assert await server.read_object(upload) == content


async def test_a_body_in_a_coding_is_415_and_stores_no_bytes(server: RunningServer) -> None:
    upload = await server.client.create(10)
    before = await server.state()
    for coding in ("gzip", "br", "identity, gzip"):
        response = await server.client.patch(upload, 0, b"hello", ("Content-Encoding", coding))
        assert (response.status, response.code) == (415, "unsupported_media_type"), coding
        created = await server.client.post(("Upload-Length", "5"), OCTETS, ("Content-Encoding", coding), body=b"hello")
        assert created.status == 415, coding
    assert await server.state() == before
    assert (await server.client.patch(upload, 0, b"hello", ("Content-Encoding", "identity"))).status == 204


async def test_case_48_who_asks_first_is_refused_without_being_told_to_continue(server: RunningServer) -> None:
    upload = await server.client.create(10)
    before = await server.state()
    async with server.client.connect() as connection:
        await connection.begin_patch(upload, 3, ("Expect", "100-continue"), length=5)
        refusal = await connection.read_interim()
        assert (refusal.status, refusal.offset) == (409, 0)
        assert refusal.headers["connection"] == "close"
        assert await connection.read_to_end() == b""
    assert server.tap.received == 0
    assert await server.state() == before


async def test_case_49_who_asks_first_is_told_to_continue(server: RunningServer) -> None:
    upload = await server.client.create(10)
    async with server.client.connect() as connection:
        await connection.begin_patch(upload, 0, ("Expect", "100-continue"), length=5)
        assert (await connection.read_interim()).status == 100
        await connection.send(b"hello")
        response = await connection.read_interim()
        assert (response.status, response.offset) == (204, 5)


async def test_one_connection_serves_many_requests(server: RunningServer) -> None:
    upload = await server.client.create(10)
    async with server.client.connect() as connection:
        for status, offset, body in ((204, 0, b"hello"), (409, 3, b""), (204, 5, b"world")):
            await connection.begin_patch(upload, offset, length=len(body))
            await connection.send(body)
            assert (await connection.read_response()).status == status
        await connection.send_head("HEAD", upload, [TUS])
        assert (await connection.read_response(method="HEAD")).offset == 10
