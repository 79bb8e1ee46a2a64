"""A disk that is full, as a small file system of its own; needs the right to mount."""

import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.required import missing
from tests.serving import RunningServer, StartServer

MIB = 1 << 20
SIZE = 8 * MIB


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "rindle-test", str(disk)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        missing("tmpfs", "no file system of a few MiB can be mounted here: a full disk stays untested")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def used(disk: Path) -> int:
    status = os.statvfs(disk)
    return (status.f_blocks - status.f_bfree) * status.f_frsize


async def assert_served(server: RunningServer, size: int) -> None:
    content = random.Random(size).randbytes(size)
    upload = await server.client.create(size)
    response = await server.client.patch(upload, 0, content)
    assert (response.status, response.offset) == (204, size)
    assert await server.read_object(upload) == content


@pytest.mark.invariant("I1", "I12")
@pytest.mark.parametrize("memory_budget", ["256MiB", "64KiB"])
async def test_case_95_a_full_disk_is_507_and_nothing_is_lost_or_made_up(
    small_disk: Path, start_server: StartServer, memory_budget: str
) -> None:
    server = await start_server(
        store=f"file://{small_disk}/objects",
        tails=small_disk / "tails",
        part_size=3 * MIB,
        memory_budget=memory_budget,
        least_free=0,
    )
    await assert_served(server, 1000)
    empty = used(small_disk)
    content = random.Random(95).randbytes(2 * SIZE)
    upload = await server.client.create(len(content))
    response = await server.client.patch(upload, 0, content)
    assert (response.status, response.code) == (507, "store_full")
    assert int(response.headers["retry-after"]) > 0
    found = await server.client.head(upload)
    assert found.status == 200
    assert found.offset == sum(part.size for part in await server.find_parts(upload))
    assert found.offset < SIZE
    assert (await server.client.delete(upload)).status == 204
    assert used(small_disk) <= empty
    await assert_served(server, SIZE // 2)


async def test_a_part_that_found_no_room_takes_none(small_disk: Path, start_server: StartServer) -> None:
    server = await start_server(
        store=f"file://{small_disk}/objects", tails=small_disk / "tails", part_size=5 * MIB, least_free=0
    )
    await assert_served(server, 1000)
    empty = used(small_disk)
    upload = await server.client.create(2 * SIZE)
    response = await server.client.patch(upload, 0, bytes(2 * SIZE))
    assert (response.status, response.code) == (507, "store_full")
    assert used(small_disk) - empty <= (await server.client.head(upload)).offset + MIB // 4
    await assert_served(server, MIB)


async def test_an_upload_that_filled_the_disk_goes_on_when_there_is_room(
    small_disk: Path, start_server: StartServer
) -> None:
    server = await start_server(
        store=f"file://{small_disk}/objects", tails=small_disk / "tails", part_size=MIB, least_free=0
    )
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(SIZE - 4 * MIB))
    content = random.Random(7).randbytes(6 * MIB + 5)
    upload = await server.client.create(len(content))
    assert (await server.client.patch(upload, 0, content)).status == 507
    offset = (await server.client.head(upload)).offset
    assert 0 < offset < 4 * MIB
    ballast.unlink()
    response = await server.client.patch(upload, offset, content[offset:])
    assert (response.status, response.offset) == (204, len(content))
    assert await server.read_object(upload) == content


@pytest.mark.invariant("I11", "I12")
@pytest.mark.parametrize("begun", [0, 5])
async def test_a_tail_that_finds_no_room_is_507_and_takes_none(
    small_disk: Path, start_server: StartServer, begun: int
) -> None:
    server = await start_server(store="memory://", tails=small_disk / "tails", part_size=2 * SIZE, least_free=0)
    content = random.Random(8).randbytes(2 * SIZE)
    upload = await server.client.create(len(content))
    await server.client.patch(upload, 0, content[:begun])
    empty = used(small_disk)
    response = await server.client.patch(upload, begun, content[begun : SIZE + MIB])
    assert (response.status, response.code) == (507, "store_full")
    assert (await server.client.head(upload)).offset == begun
    assert used(small_disk) <= empty
    other = await server.client.create(3 * MIB)
    assert (await server.client.patch(other, 0, bytes(2 * MIB))).offset == 2 * MIB
    assert (await server.client.delete(other)).status == 204
    assert (await server.client.patch(upload, begun, content[begun:1000])).offset == 1000
    response = await server.client.patch(upload, 1000, content[1000:])
    assert (response.status, response.offset) == (204, len(content))
    assert await server.read_object(upload) == content


async def test_where_the_records_have_no_room_either_nothing_is_made_up(
    small_disk: Path, start_server: StartServer
) -> None:
    server = await start_server(data=small_disk, part_size=MIB, least_free=0)
    await assert_served(server, 1000)
    content = random.Random(95).randbytes(2 * SIZE)
    upload = await server.client.create(len(content))
    response = await server.client.patch(upload, 0, content)
    assert response.status in {503, 507}
    assert int(response.headers["retry-after"]) > 0
    found = await server.client.head(upload)
    assert (found.status, found.offset) in {(200, offset) for offset in range(0, SIZE, MIB)}
    assert found.offset == sum(part.size for part in await server.find_parts(upload))
    assert await server.events(upload) == ["created"]
    refused = await server.client.post(("Upload-Length", "5"), ("Upload-Metadata", f"a {'YWFh' * 2000}"))
    assert refused.status in {201, 503, 507}
