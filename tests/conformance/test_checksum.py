"""Upload-Checksum: the whole body counts, or none of it."""

import base64
import hashlib
import random
import zlib

import pytest
from awscrt import checksums

from tests.http import OCTETS, encode_chunk
from tests.serving import RunningServer, StartServer

PART = 64 * 1024


def checksum(algorithm: str, content: bytes) -> tuple[str, str]:
    if algorithm == "crc32":
        digest = zlib.crc32(content).to_bytes(4, "big")
    elif algorithm == "crc32c":
        digest = checksums.crc32c(content).to_bytes(4, "big")
    else:
        digest = hashlib.new(algorithm, content).digest()
    return ("Upload-Checksum", f"{algorithm} {base64.b64encode(digest).decode()}")


async def kept(server: RunningServer, upload: str) -> object:
    """What counts of an upload."""
    row = await server.find(upload)
    return row.state, row.offset, row.length, row.part_count, row.tail, row.lease, await server.find_parts(upload)


async def test_case_59_a_checksum_that_is_right_is_204(server: RunningServer) -> None:
    discovered = await server.client.request("OPTIONS", "/files")
    algorithms = discovered.headers["tus-checksum-algorithm"].split(",")
    assert "sha1" in algorithms
    upload = await server.client.create(5 * len(algorithms))
    for number, algorithm in enumerate(algorithms):
        response = await server.client.patch(upload, 5 * number, b"hello", checksum(algorithm, b"hello"))
        assert (response.status, response.offset) == (204, 5 * number + 5), algorithm
    assert await server.read_object(upload) == b"hello" * len(algorithms)


@pytest.mark.invariant("I15")
@pytest.mark.parametrize("begun", [0, 5, PART, PART + 5])
@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_case_60_a_checksum_that_is_wrong_is_460_and_changes_no_offset(
    server: RunningServer, begun: int, framing: str
) -> None:
    content = random.Random(60).randbytes(begun + 10)
    upload = await server.client.create(len(content))
    if begun:
        await server.client.patch(upload, 0, content[:begun])
    before = await kept(server, upload)
    wrong = checksum("sha1", content[begun:])
    if framing == "length":
        response = await server.client.patch(upload, begun, b"x" * 10, wrong)
    else:
        response = await server.client.patch_chunked(upload, begun, [b"x" * 5, b"x" * 5], wrong)
    assert (response.status, response.code) == (460, "checksum_mismatch")
    assert (await server.client.head(upload)).offset == begun
    assert await kept(server, upload) == before
    assert (await server.client.patch(upload, begun, content[begun:], wrong)).status == 204
    assert await server.read_object(upload) == content


@pytest.mark.invariant("I11", "I15")
async def test_case_60_a_wrong_checksum_leaves_no_file_behind(server: RunningServer) -> None:
    upload = await server.client.create(10)
    for sent in (b"hello", b"helloworld"):
        assert (await server.client.patch(upload, 0, sent, checksum("sha1", b"other"))).status == 460
        assert server.files() == {}
    assert await server.events(upload) == ["created"]


async def test_case_61_an_algorithm_that_is_not_known_is_400(server: RunningServer) -> None:
    upload = await server.client.create(10)
    before = await server.state()
    for algorithm in ("sha3", "SHA1", "crc64", "é"):
        response = await server.client.patch(upload, 0, b"hello", ("Upload-Checksum", f"{algorithm} YQ=="))
        assert response.status == 400, algorithm
    assert await server.state() == before


async def test_case_62_a_malformed_checksum_is_400(server: RunningServer) -> None:
    upload = await server.client.create(10)
    before = await server.state()
    right = checksum("sha1", b"hello")[1]
    for value in ("", "sha1", "sha1 ", "sha1 ***", "sha1 YQ==", "sha1 YQ", right + "=", right.replace(" ", "  "), " "):
        response = await server.client.patch(upload, 0, b"hello", ("Upload-Checksum", value))
        assert (response.status, response.code) == (400, "malformed_header"), value
    assert await server.state() == before


@pytest.mark.invariant("I15")
@pytest.mark.parametrize("begun", [0, 100, PART])
async def test_case_63_a_checksum_over_many_parts_takes_back_all_of_them(server: RunningServer, begun: int) -> None:
    content = random.Random(63).randbytes(4 * PART + 7)
    upload = await server.client.create(len(content))
    if begun:
        await server.client.patch(upload, 0, content[:begun])
    before = await kept(server, upload)
    wrong = content[begun:-1] + bytes([content[-1] ^ 1])
    for sent in (wrong, wrong[: 2 * PART]):
        response = await server.client.patch(upload, begun, sent, checksum("sha256", content[begun:]))
        assert response.status == 460
        assert await kept(server, upload) == before
    right = await server.client.patch(upload, begun, content[begun:], checksum("sha256", content[begun:]))
    assert (right.status, right.offset) == (204, len(content))
    assert await server.read_object(upload) == content
    assert await server.events(upload) == ["created", "finished"]


@pytest.mark.invariant("I15")
@pytest.mark.parametrize("size", [10, PART + 10, 2 * PART])
@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_case_64_a_body_with_a_checksum_that_breaks_off_counts_for_nothing(
    server: RunningServer, framing: str, size: int
) -> None:
    content = random.Random(64).randbytes(3 * PART)
    upload = await server.client.create(len(content))
    await server.client.patch(upload, 0, content[:5])
    before = await kept(server, upload)
    sent = content[5 : 5 + size]
    # Even if it is the checksum of what arrived: whether that was all, only the end of the body says.
    digest = checksum("sha1", sent if framing == "chunked" else content[5:])
    taken = server.tap.taken
    async with server.tap.next_end(), server.client.connect() as connection:
        await connection.begin_patch(upload, 5, digest, length=None if framing == "chunked" else len(content) - 5)
        await connection.send(encode_chunk(sent) if framing == "chunked" else sent)
        await server.tap.took(taken + size)
        connection.cut()
    assert await kept(server, upload) == before
    assert (await server.client.patch(upload, 5, content[5:], checksum("sha1", content[5:]))).status == 204
    assert await server.read_object(upload) == content


async def test_a_wrong_checksum_leaves_a_deferred_length_deferred(server: RunningServer) -> None:
    upload = await server.client.create(None)
    wrong = checksum("sha1", b"other")
    assert (await server.client.patch(upload, 0, b"hello", wrong, ("Upload-Length", "5"))).status == 460
    assert (await server.client.head(upload)).headers.get("upload-defer-length") == "1"
    assert (await server.client.patch(upload, 0, b"hello", ("Upload-Length", "10"))).status == 204


async def test_bytes_past_the_length_with_a_checksum_are_413_and_count_for_nothing(server: RunningServer) -> None:
    upload = await server.client.create(10)
    before = await kept(server, upload)
    content = b"much too much"
    response = await server.client.patch_chunked(upload, 0, [content], checksum("sha1", content))
    assert (response.status, response.code) == (413, "length_exceeded")
    assert await kept(server, upload) == before


async def test_bytes_past_the_maximum_with_a_checksum_are_413_and_count_for_nothing(start_server: StartServer) -> None:
    server = await start_server(max_size=10)
    upload = await server.client.create(None)
    before = await kept(server, upload)
    content = b"much too much"
    response = await server.client.patch_chunked(upload, 0, [content], checksum("sha1", content))
    assert (response.status, response.code) == (413, "max_size_exceeded")
    assert await kept(server, upload) == before


async def test_the_bytes_of_a_creation_may_have_a_checksum(server: RunningServer) -> None:
    right = checksum("sha1", b"hello")
    created = await server.client.post(("Upload-Length", "5"), OCTETS, right, body=b"hello")
    assert (created.status, created.offset) == (201, 5)
    refused = await server.client.post(("Upload-Length", "5"), OCTETS, right, body=b"wrong")
    assert refused.status == 460
    assert (await server.client.head(refused.location)).offset == 0
    before = await server.state()
    malformed = await server.client.post(("Upload-Length", "5"), OCTETS, ("Upload-Checksum", "sha1"), body=b"hello")
    assert malformed.status == 400
    assert await server.state() == before
