"""Who appends while somebody else does, or did."""

import asyncio
import random

import pytest

from tests.http import TUS
from tests.serving import RunningServer, StartServer, quickly, take_over

PART = 64 * 1024


@pytest.mark.parametrize("size", [5, PART, PART + 5])
async def test_case_84_a_head_does_not_disturb_the_patch_that_is_running(server: RunningServer, size: int) -> None:
    content = random.Random(84).randbytes(2 * PART)
    upload = await server.client.create(len(content))
    async with server.client.connect() as connection:
        await connection.begin_patch(upload, 0, length=len(content))
        await connection.send(content[:size])
        await server.tap.took(size)
        for _ in range(3):
            found = await server.client.head(upload)
            assert found.status == 200
            assert found.offset in {0, PART}
        await connection.send(content[size:])
        assert (await connection.read_response()).offset == len(content)
    assert await server.read_object(upload) == content


@pytest.mark.parametrize("size", [5, PART, PART + 5])
async def test_case_85_who_comes_back_takes_over_from_a_patch_that_stalls(start_server: StartServer, size: int) -> None:
    server = await start_server(change=quickly, part_size=PART)
    content = random.Random(85).randbytes(2 * PART)
    upload = await server.client.create(len(content))
    async with server.client.connect() as stalled:
        await stalled.begin_patch(upload, 0, length=len(content))
        await stalled.send(content[:size])
        await server.tap.took(size)
        await take_over(server.client, upload, content, {0, PART, size})
        ended = await stalled.read_response()
        assert (ended.status, ended.code) == (423, "upload_interrupted")
        assert ended.headers["retry-after"]
    assert await server.read_object(upload) == content
    assert await server.events(upload) == ["created", "finished"]


async def test_a_patch_that_is_at_work_is_not_taken_over(start_server: StartServer) -> None:
    server = await start_server(handover_timeout="50ms")
    upload = await server.client.create(10)
    async with server.client.connect() as connection:
        await connection.begin_patch(upload, 0, length=10)
        await connection.send(b"hello")
        await server.tap.took(5)
        before = await server.find(upload)
        response = await server.client.patch(upload, 0, b"other")
        assert (response.status, response.code) == (423, "upload_locked")
        assert response.headers["retry-after"]
        assert await server.find(upload) == before
        await connection.send(b"world")
        assert (await connection.read_response()).offset == 10
    assert await server.read_object(upload) == b"helloworld"


async def test_what_a_dead_process_held_is_taken_over_at_once(server: RunningServer) -> None:
    content = random.Random(86).randbytes(2 * PART)
    upload = await server.client.create(len(content))
    await server.client.patch(upload, 0, content[:5])
    holder = f"{server.parts.tails.node.id}/{'0' * 16}"
    await server.change_row(
        upload,
        "lease_token = 'dead', lease_holder = :holder, lease_until = '9999-01-01T00:00:00.000Z'",
        holder=holder,
    )
    assert (await server.client.head(upload)).offset == 5
    response = await server.client.patch(upload, 5, content[5:])
    assert (response.status, response.offset) == (204, len(content))
    assert await server.read_object(upload) == content


@pytest.mark.invariant("I16")
async def test_all_memory_is_given_back_whatever_became_of_the_bytes(start_server: StartServer) -> None:
    server = await start_server(part_size=PART, idle_timeout="100ms")
    budget = server.parts.engine._storage.budget
    content = bytes(3 * PART + 5)
    upload = await server.client.create(len(content))
    wrong = ("Upload-Checksum", "sha1 qvTGHdzF6KLavt4PO0gs2a6pQ00=")
    assert (await server.client.patch(upload, 0, content[: PART + 5], wrong)).status == 460
    for size in (5, PART + 5):
        async with server.client.connect() as connection:
            await connection.begin_patch(upload, 0, wrong, length=len(content))
            await connection.send(content[:size])
            assert (await connection.read_response()).code == "read_timeout"
    assert (await server.client.patch(upload, 0, content[: PART + 5])).status == 204
    other = await server.client.create(len(content))
    async with server.client.connect() as connection:
        await connection.begin_patch(other, 0, length=len(content))
        taken = server.tap.taken
        await connection.send(content[: PART + 5])
        await server.tap.took(taken + PART + 5)
        assert budget.used > 0
        assert (await server.client.delete(other)).status == 204
        await connection.read_response()
    assert (await server.client.patch(upload, PART + 5, content[PART + 5 :])).status == 204
    assert budget.used == 0


@pytest.mark.invariant("I16")
async def test_many_uploads_with_little_memory_go_through_the_disk(start_server: StartServer) -> None:
    server = await start_server(part_size=PART, memory_budget="16KiB")
    contents = [random.Random(number).randbytes(2 * PART + number) for number in range(10)]
    uploads = [await server.client.create(len(content)) for content in contents]
    responses = await asyncio.gather(
        *(server.client.patch(upload, 0, content) for upload, content in zip(uploads, contents, strict=True))
    )
    assert [response.status for response in responses] == [204] * 10
    for upload, content in zip(uploads, contents, strict=True):
        assert await server.read_object(upload) == content
    assert list((server.data / "tails" / "tus").iterdir()) == []
    assert server.parts.engine._storage.budget.used == 0


async def test_requests_sent_without_waiting_for_answers_are_answered_in_order(server: RunningServer) -> None:
    upload = await server.client.create(10)
    async with server.client.connect() as connection:
        await connection.begin_patch(upload, 0, length=5)
        await connection.send(b"hello")
        await connection.begin_patch(upload, 5, length=5)
        await connection.send(b"world")
        await connection.send_head("HEAD", upload, [TUS])
        assert (await connection.read_response()).offset == 5
        assert (await connection.read_response()).offset == 10
        assert (await connection.read_response(method="HEAD")).offset == 10
    assert await server.read_object(upload) == b"helloworld"
