"""Requests that no client sends by mistake."""

import logging

import pytest

from tests.http import CHUNKED, OCTETS, TUS, id_of
from tests.serving import RunningServer

FULLWIDTH_FIVE = "\uff15".encode().decode("latin-1")  # the bytes of its UTF-8, as a header carries them


@pytest.mark.invariant("I14", "I18")
async def test_case_100_an_id_that_was_never_given_is_404_whatever_is_in_it(server: RunningServer) -> None:
    upload = await server.client.create(10, body=b"hello")
    upload_id = id_of(upload)
    before = await server.state()
    for rest in (
        "..",
        "../files",
        f"../{upload_id}",
        "../../../../etc/passwd",
        "%2e%2e",
        "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "%2F",
        f"%2F{upload_id}",
        f"{upload_id}%2F",
        f"{upload_id}/",
        f"{upload_id}/..",
        f"./{upload_id}",
        f"{upload_id}%00",
        f"%00{upload_id}",
        f"{upload_id}%0a",
        f"{upload_id}%0d%0aX:%20y",
        f"{upload_id}%20",
        f"{upload_id}.tail",
        upload_id.upper(),
        upload_id[:-1],
        f"{upload_id}0",
        "%EF%BC%95" * 32,
        "%ff%fe",
        "~",
        "*",
        "x" * 10 * 1024,
        "%00" * 10 * 1024,
    ):
        for method in ("HEAD", "PATCH", "DELETE"):
            sent = [OCTETS, ("Upload-Offset", "5")] if method == "PATCH" else []
            response = await server.client.request(method, f"/files/{rest}", sent, b"x" if sent else None)
            assert (response.status, response.code) == (404, "upload_not_found"), (method, rest[:80])
    assert await server.state() == before


async def test_a_path_beside_the_collection_is_404(server: RunningServer) -> None:
    before = await server.state()
    for target in ("/", "/file", "/filesx", "/files.", "/FILES", "//files", "/files%00", "/x/files"):
        response = await server.client.request("POST", target, [("Upload-Length", "5")])
        assert response.status == 404, target
    assert await server.state() == before


@pytest.mark.parametrize(
    "header",
    [
        TUS,
        ("Upload-Length", "5"),
        ("Upload-Metadata", "a YQ=="),
        ("Upload-Concat", "partial"),
        ("Upload-Checksum", "sha1 qvTGHdzF6KLavt4PO0gs2a6pQ00="),
        ("Content-Encoding", "identity"),
        ("X-HTTP-Method-Override", "POST"),
        OCTETS,
        ("Upload-Defer-Length", "1"),
    ],
    ids=lambda header: header[0],
)
async def test_a_header_of_a_creation_that_comes_twice_is_400(server: RunningServer, header: tuple[str, str]) -> None:
    others = {TUS, OCTETS}
    if header[0] != "Upload-Defer-Length":
        others.add(("Upload-Length", "5"))
    others.discard(header)
    before = await server.state()
    response = await server.client.request("POST", "/files", [*others, header, header], b"hello", tus=False)
    assert (response.status, response.code) == (400, "malformed_header")
    assert await server.state() == before
    once = await server.client.request("POST", "/files", [*others, header], b"hello", tus=False)
    assert once.status == 201


@pytest.mark.parametrize(
    "header",
    [
        TUS,
        OCTETS,
        ("Upload-Offset", "0"),
        ("Upload-Length", "5"),
        ("Upload-Checksum", "sha1 qvTGHdzF6KLavt4PO0gs2a6pQ00="),
        ("Content-Encoding", "identity"),
        ("X-HTTP-Method-Override", "PATCH"),
    ],
    ids=lambda header: header[0],
)
async def test_a_header_of_an_append_that_comes_twice_is_400(server: RunningServer, header: tuple[str, str]) -> None:
    upload = await server.client.create(5)
    others = {TUS, OCTETS, ("Upload-Offset", "0")} - {header}
    before = await server.state()
    response = await server.client.request("PATCH", upload, [*others, header, header], b"hello", tus=False)
    assert (response.status, response.code) == (400, "malformed_header")
    assert await server.state() == before
    assert (await server.client.request("PATCH", upload, [*others, header], b"hello", tus=False)).status == 204


async def test_values_joined_by_a_comma_are_as_bad_as_two_headers(server: RunningServer) -> None:
    upload = await server.client.create(10)
    before = await server.state()
    assert (await server.client.post(("Upload-Length", "5,5"))).status == 400
    assert (await server.client.post(("Upload-Defer-Length", "1,1"))).status == 400
    assert (await server.client.request("PATCH", upload, [OCTETS, ("Upload-Offset", "0, 0")], b"x")).status == 400
    assert (await server.client.patch(upload, 0, b"x", ("Upload-Length", "10,10"))).status == 400
    twice = [("Tus-Resumable", "1.0.0, 1.0.0"), OCTETS, ("Upload-Offset", "0")]
    assert (await server.client.request("PATCH", upload, twice, b"x", tus=False)).status == 412
    assert await server.state() == before


async def test_numbers_are_ascii_digits_below_2_to_the_63(server: RunningServer) -> None:
    upload = await server.client.create(None)
    before = await server.state()
    for number in (
        str(2**63),
        str(2**64),
        "9" * 19,
        "9" * 5000,
        "+5",
        "-5",
        "-0",
        "5_0",
        "5 0",
        "5\t0",
        "0x5",
        "5.0",
        "5e1",
        "05",
        "00",
        FULLWIDTH_FIVE,
        "\xb2",
        "\xa05",
        "inf",
        "NaN",
        "",
    ):
        for response in (
            await server.client.post(("Upload-Length", number)),
            await server.client.request("PATCH", upload, [OCTETS, ("Upload-Offset", number)], b"x"),
            await server.client.patch(upload, 0, b"x", ("Upload-Length", number)),
        ):
            assert (response.status, response.code) == (400, "malformed_header"), number
    assert await server.state() == before


async def test_the_largest_numbers_are_taken_for_numbers(server: RunningServer) -> None:
    largest = str(2**63 - 1)
    upload = await server.client.create(None)
    before = await server.state()
    assert (await server.client.post(("Upload-Length", largest))).status == 413
    offset = await server.client.request("PATCH", upload, [OCTETS, ("Upload-Offset", largest)], b"")
    assert offset.status in {409, 413}
    assert (await server.client.patch(upload, 0, b"x", ("Upload-Length", largest))).status == 413
    async with server.client.connect() as connection:
        await connection.begin_patch(upload, 0, length=2**63 - 1)
        assert (await connection.read_response()).status == 413
    async with server.client.connect() as connection:
        await connection.send_head("POST", "/files", [TUS, OCTETS, ("Upload-Length", "5"), ("Content-Length", largest)])
        assert (await connection.read_response()).status == 413
    assert await server.state() == before


@pytest.mark.parametrize(
    "framing",
    [
        [("Content-Length", "5"), CHUNKED],
        [CHUNKED, ("Content-Length", "5")],
        [("Content-Length", "5"), ("Content-Length", "6")],
        [("Content-Length", "5"), ("Content-Length", "5")],
        [("Content-Length", "5, 5")],
        [("Content-Length", "+5")],
        [("Content-Length", "-5")],
        [("Content-Length", "0x5")],
        [("Content-Length", "5_0")],
        [("Content-Length", "9" * 5000)],
        [("Transfer-Encoding", "chunked, identity")],
        [("Transfer-Encoding", "xchunked")],
    ],
    ids=str,
)
async def test_a_body_whose_end_is_ambiguous_is_400_and_stores_no_bytes(
    server: RunningServer, framing: list[tuple[str, str]]
) -> None:
    upload = await server.client.create(10)
    before = await server.state()
    async with server.client.connect() as connection:
        await connection.send_head("PATCH", upload, [TUS, OCTETS, ("Upload-Offset", "0"), *framing])
        await connection.send(b"5\r\nhello\r\n0\r\n\r\n")
        assert (await connection.read_response()).status == 400
        assert await connection.read_to_end() == b""
    assert await server.state() == before


@pytest.mark.invariant("I19")
async def test_nothing_that_a_client_sends_breaks_a_log_line(
    server: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    bad = "%0aERROR%20all%20is%20lost%1b%5b31m%00%e2%80%a8%ff"
    for target in (f"/files/{bad}", f"/files/{'0' * 32}{bad}", f"/files/{bad * 200}"):
        for method in ("HEAD", "PATCH", "DELETE", "PUT"):
            sent = [OCTETS, ("Upload-Offset", "5"), ("Upload-Length", str(2**62))]
            await server.client.request(method, target, sent, None if method == "HEAD" else b"x")
    for name, value in (
        ("X-HTTP-Method-Override", "PUR\x9bGE\xff"),
        ("Upload-Metadata", "a\xff YQ=="),
        ("Upload-Checksum", "sha\x85 YQ=="),
        ("Upload-Concat", "final;/files/\x9b"),
        ("Tus-Resumable", "\x9b"),
    ):
        await server.client.request("POST", "/files", [("Upload-Length", "5"), (name, value)], tus=False)
        await server.client.post(("Upload-Length", "5"), (name, value))
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("rindle")]
    assert len(lines) >= 12
    for line in lines:
        assert line.isprintable(), line
        assert line.isascii(), line
        assert len(line) < 500


@pytest.mark.invariant("I19")
async def test_headers_with_line_breaks_or_nul_never_come_back(server: RunningServer) -> None:
    for value in ("final;\x7f", "final;\x00", "partial\x01"):
        async with server.client.connect() as connection:
            await connection.send_head("POST", "/files", [TUS, ("Upload-Length", "5"), ("Upload-Concat", value)])
            assert (await connection.read_response()).status == 400
    assert await server.uploads() == []


async def test_bytes_that_are_no_ascii_in_a_concatenation_come_back_as_they_were(server: RunningServer) -> None:
    part = await server.client.create(5, ("Upload-Concat", "partial"), body=b"hello")
    concat = f"final;http://h\xf6st.example{part}"
    created = await server.client.post(("Upload-Concat", concat))
    found = await server.client.head(created.location)
    assert (found.status, found.headers["upload-concat"]) == (200, concat)
