"""POST: an upload comes into being, perhaps with its first bytes."""

import pytest

from tests.http import OCTETS, TUS, encode_chunk, id_of
from tests.serving import RunningServer, StartServer


async def test_case_07_an_upload_of_known_length_begins_at_0(server: RunningServer) -> None:
    created = await server.client.post(("Upload-Length", "100"))
    assert created.status == 201
    assert created.body == b""
    assert created.location.startswith("/files/")
    found = await server.client.head(created.location)
    assert found.status == 200
    assert found.offset == 0
    assert found.headers["upload-length"] == "100"
    assert "upload-defer-length" not in found.headers
    assert found.headers["cache-control"] == "no-store"
    assert await server.events(created.location) == ["created"]


async def test_case_08_an_upload_of_no_bytes_is_complete_at_once(server: RunningServer) -> None:
    upload = await server.client.create(0)
    found = await server.client.head(upload)
    assert (found.offset, found.headers["upload-length"]) == (0, "0")
    assert await server.read_object(upload) == b""
    repeated = await server.client.patch(upload, 0, b"")
    assert (repeated.status, repeated.offset) == (204, 0)
    assert await server.events(upload) == ["created", "finished"]


async def test_case_09_no_length_at_all_is_400(server: RunningServer) -> None:
    before = await server.state()
    assert (await server.client.post()).status == 400
    assert await server.state() == before


async def test_case_10_a_length_that_is_no_number_of_bytes_is_400(server: RunningServer) -> None:
    before = await server.state()
    for length in ("-1", "abc", "1.5", "", "+1", "01", "1_000", "1e3", "0x10", "1 0", "\xb2", "5,5", "5;q=1"):
        response = await server.client.post(("Upload-Length", length))
        assert (response.status, response.code) == (400, "malformed_header"), length
    assert await server.state() == before


async def test_case_11_a_length_past_63_bits_is_400(server: RunningServer) -> None:
    before = await server.state()
    for length in (2**63, 2**64, 10**30, int("9" * 4000)):
        assert (await server.client.post(("Upload-Length", str(length)))).status == 400, length
    assert await server.state() == before


async def test_case_12_a_length_that_is_known_and_deferred_is_400(server: RunningServer) -> None:
    before = await server.state()
    response = await server.client.post(("Upload-Length", "100"), ("Upload-Defer-Length", "1"))
    assert response.status == 400
    assert await server.state() == before


async def test_case_13_a_deferral_other_than_1_is_400(server: RunningServer) -> None:
    before = await server.state()
    for deferred in ("2", "0", "", "true", "01"):
        assert (await server.client.post(("Upload-Defer-Length", deferred))).status == 400, deferred
        both = await server.client.post(("Upload-Length", "5"), ("Upload-Defer-Length", deferred))
        assert both.status == 400, deferred
    assert await server.state() == before


async def test_case_14_a_deferred_length_is_said_to_be_deferred(server: RunningServer) -> None:
    created = await server.client.post(("Upload-Defer-Length", "1"))
    assert created.status == 201
    found = await server.client.head(created.location)
    assert found.headers["upload-defer-length"] == "1"
    assert "upload-length" not in found.headers
    assert found.offset == 0


async def test_case_15_a_length_past_the_maximum_is_413(start_server: StartServer) -> None:
    server = await start_server(max_size=1000)
    before = await server.state()
    response = await server.client.post(("Upload-Length", "1001"))
    assert (response.status, response.code) == (413, "max_size_exceeded")
    assert await server.state() == before
    assert (await server.client.post(("Upload-Length", "1000"))).status == 201


async def test_case_23_the_first_bytes_may_come_with_the_creation(server: RunningServer) -> None:
    created = await server.client.post(("Upload-Length", "10"), OCTETS, body=b"four")
    assert (created.status, created.offset) == (201, 4)
    assert (await server.client.head(created.location)).offset == 4
    rest = await server.client.patch(created.location, 4, b"bytes!")
    assert (rest.status, rest.offset) == (204, 10)
    assert await server.read_object(created.location) == b"fourbytes!"


async def test_case_24_all_bytes_may_come_with_the_creation(server: RunningServer) -> None:
    created = await server.client.post(("Upload-Length", "4"), OCTETS, body=b"four")
    assert (created.status, created.offset) == (201, 4)
    assert await server.read_object(created.location) == b"four"
    assert await server.events(created.location) == ["created", "finished"]


async def test_case_25_more_bytes_than_the_length_are_413_and_nothing_is_created(server: RunningServer) -> None:
    before = await server.state()
    response = await server.client.post(("Upload-Length", "4"), OCTETS, body=b"fives")
    assert (response.status, response.code) == (413, "length_exceeded")
    assert await server.state() == before


async def test_case_25_chunked_bytes_past_the_length_are_413_and_only_the_length_is_kept(server: RunningServer) -> None:
    response = await server.client.request_chunked(
        "POST", "/files", [("Upload-Length", "4"), OCTETS], [b"fi", b"ves and more"]
    )
    assert (response.status, response.code) == (413, "length_exceeded")
    assert (await server.client.head(response.location)).offset == 4
    assert await server.read_object(response.location) == b"five"


async def test_case_25_bytes_with_the_creation_past_the_maximum_are_413(start_server: StartServer) -> None:
    server = await start_server(max_size=1000, part_size=100)
    before = await server.state()
    response = await server.client.post(("Upload-Defer-Length", "1"), OCTETS, body=bytes(1001))
    assert (response.status, response.code) == (413, "max_size_exceeded")
    assert await server.state() == before


@pytest.mark.parametrize("media_type", ["text/plain", None])
async def test_case_26_a_body_of_another_type_is_ignored(server: RunningServer, media_type: str | None) -> None:
    sent = [("Content-Type", media_type)] if media_type else []
    created = await server.client.post(("Upload-Length", "4"), *sent, body=b"four")
    assert (created.status, created.offset) == (201, 0)
    assert (await server.client.head(created.location)).offset == 0
    assert server.tap.taken <= 4
    assert server.files() == {}


async def test_case_27_what_came_before_the_connection_broke_is_kept(server: RunningServer) -> None:
    async with server.tap.next_end(), server.client.connect() as connection:
        await connection.send_head("POST", "/files", [TUS, OCTETS, ("Upload-Length", "10"), ("Content-Length", "10")])
        await connection.send(b"four")
        await server.tap.took(4)
        connection.cut()
    (upload,) = await server.uploads()
    location = f"/files/{upload.id}"
    assert (await server.client.head(location)).offset == 4
    assert (await server.client.patch(location, 4, b"bytes!")).status == 204
    assert await server.read_object(location) == b"fourbytes!"


async def test_a_creation_whose_bytes_end_early_says_where_the_upload_is(server: RunningServer) -> None:
    async with server.client.connect() as connection:
        await connection.send_head(
            "POST", "/files", [TUS, OCTETS, ("Upload-Length", "10"), ("Transfer-Encoding", "chunked")]
        )
        await connection.send(encode_chunk(b"four"))
        await server.tap.took(4)
        server.parts.engine.drain()
        response = await connection.read_response()
    assert (response.status, response.code) == (503, "server_draining")
    assert (await server.client.head(response.location)).offset == 4


@pytest.mark.invariant("I18", "I20")
async def test_ids_are_made_by_the_server_and_never_twice(server: RunningServer) -> None:
    ids = {id_of(await server.client.create(1)) for _ in range(10)}
    assert len(ids) == 10
    assert all(len(upload_id) == 32 and upload_id.isascii() and upload_id.isalnum() for upload_id in ids)
