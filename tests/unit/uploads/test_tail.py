import asyncio
import base64
import fcntl
import os
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from rindle.db.engine import Database
from rindle.db.repository import SqlUploadRepository
from rindle.objectstore.disk import DiskExecutor
from rindle.objectstore.payload import crc64nvme
from rindle.uploads.errors import TailMissingError
from rindle.uploads.ids import new_upload_id
from rindle.uploads.model import Tail
from rindle.uploads.node import NodeIdentity
from rindle.uploads.tail import TailFile, Tails, new_tail_name, tail_path

UPLOAD = new_upload_id()


@pytest.fixture
async def tails(tmp_path: Path) -> AsyncIterator[Tails]:
    node = NodeIdentity(tmp_path)
    disk = DiskExecutor("test", threads=2)
    yield Tails(node, disk)
    await disk.aclose()
    node.close()


async def write(tails: Tails, content: bytes) -> Tail:
    file = await tails.create(UPLOAD)
    await file.append([content[:3], content[3:]])
    await file.sync()
    file.close()
    return Tail(name=file.name, node=tails.node.id, length=len(content), crc64nvme=crc64nvme(content))


def content_of(tails: Tails, file: TailFile) -> bytes:
    return tail_path(tails.node.root, file.name).read_bytes()


async def test_a_tail_lies_at_the_base64url_of_its_upload(tails: Tails, tmp_path: Path) -> None:
    tail = await write(tails, b"hello")
    encoded, token, ending = tail.name.split(".")
    assert base64.urlsafe_b64decode(encoded + "=") == UPLOAD.encode()
    assert len(token) == 16
    assert ending == "tail"
    assert (tmp_path / "tus" / tail.name).read_bytes() == b"hello"
    assert (tmp_path / "tus" / tail.name).stat().st_mode & 0o777 == 0o600


async def test_after_a_clean_release_a_tail_is_continued_in_place(tails: Tails) -> None:
    tail = await write(tails, b"hello")
    file = await tails.resume(UPLOAD, tail, clean=True)
    assert file.name == tail.name
    await file.append([b" world"])
    assert content_of(tails, file) == b"hello world"
    await file.remove()


async def test_bytes_past_the_committed_length_were_never_acknowledged(tails: Tails) -> None:
    tail = await write(tails, b"hello")
    with tail_path(tails.node.root, tail.name).open("ab") as file:
        file.write(b"garbage of a dead request")
    resumed = await tails.resume(UPLOAD, tail, clean=True)
    assert content_of(tails, resumed) == b"hello"
    resumed.close()


@pytest.mark.parametrize("clean", [True, False])
async def test_a_tail_that_somebody_may_still_write_to_is_copied(tails: Tails, *, clean: bool) -> None:
    tail = await write(tails, b"hello")
    with tail_path(tails.node.root, tail.name).open("r+b") as zombie:
        if clean:
            fcntl.flock(zombie, fcntl.LOCK_EX)
        resumed = await tails.resume(UPLOAD, tail, clean=clean)
        assert resumed.name != tail.name
        zombie.write(b"HELLO and more")
        zombie.flush()
        assert content_of(tails, resumed) == b"hello"
    assert tail_path(tails.node.root, tail.name).exists()
    await resumed.settle()
    assert not tail_path(tails.node.root, tail.name).exists()


async def test_giving_up_a_copy_leaves_the_file_that_the_row_names(tails: Tails) -> None:
    tail = await write(tails, b"hello")
    copy = await tails.resume(UPLOAD, tail, clean=False)
    await copy.abandon()
    assert [path.name for path in (tails.node.root / "tus").iterdir()] == [tail.name]


async def test_giving_up_a_tail_continued_in_place_keeps_it(tails: Tails) -> None:
    tail = await write(tails, b"hello")
    file = await tails.resume(UPLOAD, tail, clean=True)
    await file.append([b"!"])
    await file.abandon()
    again = await tails.resume(UPLOAD, tail, clean=True)
    assert content_of(tails, again) == b"hello"
    again.close()


@pytest.mark.invariant("I2")
@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: path.unlink(), "missing"),
        (lambda path: os.truncate(path, 4), "short"),
        (lambda path: path.write_bytes(b"hellp"), "corrupt"),
        (lambda path: (path.unlink(), path.mkdir()), "corrupt"),
    ],
)
async def test_a_tail_that_is_not_what_was_committed_is_said_by_its_reason(
    tails: Tails, damage: object, reason: str
) -> None:
    tail = await write(tails, b"hello")
    assert callable(damage)
    damage(tail_path(tails.node.root, tail.name))
    with pytest.raises(TailMissingError) as caught:
        await tails.resume(UPLOAD, tail, clean=True)
    assert caught.value.reason == reason
    assert caught.value.final
    assert tail.name not in caught.value.public_message


@pytest.mark.parametrize("name", ["", "..", "../x.0123456789abcdef.tail", "a/b.0123456789abcdef.tail", "a.tail"])
def test_no_name_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="not the name of a tail"):
        tail_path(tmp_path, name)


async def test_a_link_in_place_of_a_tail_is_not_followed(tails: Tails, tmp_path: Path) -> None:
    tail = await write(tails, b"hello")
    path = tail_path(tails.node.root, tail.name)
    elsewhere = tmp_path / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    with pytest.raises(TailMissingError):
        await tails.resume(UPLOAD, tail, clean=True)
    assert elsewhere.read_bytes() == b"hello"


async def test_a_sweep_takes_what_no_row_names_and_nobody_holds(tails: Tails, sqlite_url: str, tmp_path: Path) -> None:
    database = Database(sqlite_url)
    repository = SqlUploadRepository(database, lease_ttl=timedelta(seconds=30), expires_in=None)
    forgotten = await write(tails, b"forgotten")
    held = await tails.create(UPLOAD)
    stranger = tmp_path / "tus" / "not-a-tail"
    stranger.write_text("somebody else's")
    assert await tails.sweep(repository) == 1
    left = {path.name for path in (tmp_path / "tus").iterdir()}
    assert left == {held.name, stranger.name}
    assert forgotten.name not in left
    held.close()
    await database.aclose()


async def test_a_file_made_while_a_sweep_runs_is_never_lost(tails: Tails, sqlite_url: str) -> None:
    database = Database(sqlite_url)
    repository = SqlUploadRepository(database, lease_ttl=timedelta(seconds=30), expires_in=None)

    async def make() -> None:
        for _ in range(30):
            file = await tails.create(UPLOAD)
            await file.append([b"x"])
            await asyncio.sleep(0)
            assert content_of(tails, file) == b"x"
            await file.remove()

    async def sweep() -> None:
        for _ in range(20):
            await tails.sweep(repository)

    await asyncio.gather(make(), sweep(), make(), sweep())
    await database.aclose()


@pytest.mark.invariant("I20")
def test_names_are_new_each_time() -> None:
    assert len({new_tail_name(UPLOAD) for _ in range(100)}) == 100
