"""Acknowledged bytes that are not where they were put: told, never guessed around."""

import random
from pathlib import Path

import pytest
from sqlalchemy import text

from rindle.bootstrap import Components
from rindle.db.models import nodes
from rindle.objectstore.types import MultipartRef
from rindle.testing.faults import FaultyStore
from rindle.uploads.model import UploadState
from tests.serving import RunningServer, StartServer, rebuild

PART = 64 * 1024


async def tail_of(server: RunningServer, upload: str) -> Path:
    tail = (await server.find(upload)).tail
    assert tail is not None
    return server.data / "tails" / "tus" / tail.name


def remove(path: Path) -> None:
    path.unlink()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def bend(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def link_elsewhere(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


@pytest.mark.invariant("I2", "I11")
@pytest.mark.parametrize("begun", [5, PART + 5])
@pytest.mark.parametrize("loss", [remove, cut, bend], ids=["missing", "short", "corrupt"])
async def test_an_upload_whose_tail_is_lost_is_gone_and_says_so(
    server: RunningServer, loss: object, begun: int
) -> None:
    assert callable(loss)
    upload = await server.client.create(2 * PART)
    await server.client.patch(upload, 0, bytes(begun))
    loss(await tail_of(server, upload))
    response = await server.client.patch(upload, begun, b"more")
    assert (response.status, response.code) == (410, "tus_tail_missing")
    found = await server.client.head(upload)
    assert (found.status, found.code) == (410, "upload_gone")
    assert (await server.client.patch(upload, begun, b"more")).status == 410
    assert await server.events(upload) == ["created", "failed"]
    await server.parts.reaper.run()
    assert (await server.find(upload)).state is UploadState.FAILED
    assert server.files() == {}


@pytest.mark.invariant("I2", "I11")
@pytest.mark.parametrize("begun", [PART, PART + 5])
async def test_an_upload_whose_parts_are_lost_is_gone_and_says_so(server: RunningServer, begun: int) -> None:
    upload = await server.client.create(3 * PART)
    await server.client.patch(upload, 0, bytes(begun))
    row = await server.find(upload)
    assert row.multipart is not None
    await server.parts.store.abort_multipart(row.multipart)
    response = await server.client.patch(upload, begun, bytes(3 * PART - begun))
    assert (response.status, response.code) == (410, "upload_gone")
    assert (await server.client.head(upload)).status == 410
    assert await server.events(upload) == ["created", "failed"]
    await server.parts.reaper.run()
    assert (await server.find(upload)).state is UploadState.FAILED
    assert server.files() == {}


async def test_a_multipart_that_nothing_rests_on_yet_is_begun_anew(start_server: StartServer) -> None:
    lost: list[MultipartRef] = []

    def change(parts: Components) -> Components:
        store = FaultyStore(parts.store)

        async def lose_the_first(operation: str, _key: str) -> None:
            if operation == "put_part" and not lost:
                lost.extend([multipart.ref async for multipart in parts.store.list_multiparts()])
                await parts.store.abort_multipart(lost[0])

        store.before = lose_the_first
        return rebuild(parts, store=store)

    server = await start_server(change=change, part_size=PART)
    upload = await server.client.create(2 * PART)
    assert (await server.client.patch(upload, 0, bytes(2 * PART))).status == 503
    assert (await server.client.head(upload)).offset == 0
    assert (await server.client.patch(upload, 0, bytes(2 * PART))).status == 204
    assert await server.read_object(upload) == bytes(2 * PART)


async def test_a_tail_that_is_a_link_is_not_followed(server: RunningServer) -> None:
    upload = await server.client.create(10, body=b"hello")
    link_elsewhere(await tail_of(server, upload))
    assert (await server.client.patch(upload, 5, b"world")).status >= 400
    assert (server.data / "tails" / "tus" / "elsewhere").read_bytes() == b"hello"
    assert (await server.find(upload)).offset == 5


async def test_what_lies_past_the_acknowledged_length_does_not_count(server: RunningServer) -> None:
    content = random.Random(21).randbytes(PART + 10)
    upload = await server.client.create(len(content))
    await server.client.patch(upload, 0, content[:5])
    with (await tail_of(server, upload)).open("ab") as file:
        file.write(b"never acknowledged")
    assert (await server.client.head(upload)).offset == 5
    assert (await server.client.patch(upload, 5, content[5:9])).offset == 9
    assert (await server.client.patch(upload, 9, content[9:])).offset == len(content)
    assert await server.read_object(upload) == content


@pytest.mark.invariant("I2", "I14")
async def test_a_tail_on_another_node_is_waited_for_until_that_node_is_given_up(
    server: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    upload = await server.client.create(10, body=b"hello")
    await server.parts.repository.beat("another", "another")
    await server.change_row(upload, "tail_node = 'another'")
    before = await server.state()
    found = await server.client.head(upload)
    assert (found.status, found.code) == (423, "tus_tail_missing")
    patched = await server.client.patch(upload, 5, b"world")
    assert (patched.status, patched.code) == (503, "tus_tail_missing")
    assert found.headers["retry-after"]
    assert patched.headers["retry-after"]
    assert await server.state() == before
    assert "[tail elsewhere, owner another] Operator: " in caplog.text
    now = "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')"
    await server.parts.database.write(text(f"UPDATE {nodes.name} SET retired_at = {now} WHERE id = 'another'"))
    for response in (await server.client.head(upload), await server.client.patch(upload, 5, b"world")):
        assert (response.status, response.code) == (410, "tus_tail_missing")
