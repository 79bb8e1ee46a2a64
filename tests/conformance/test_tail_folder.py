"""The folder for tails cannot be written to, or is away with its disk: nothing is lost that comes back with it."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import pytest

from rindle.objectstore.errors import StoreUnavailableError
from tests.http import OCTETS
from tests.required import missing
from tests.serving import RunningServer, StartServer

PART = 64 * 1024

TakeAway = Callable[[], AbstractContextManager[None]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "disk"
    folder.mkdir()
    return folder


@pytest.fixture(params=["away", "read-only"])
def fail(request: pytest.FixtureRequest, folder: Path) -> Iterator[TakeAway]:
    """Makes the disk of the tails fail for a while."""
    if request.param == "away":
        yield lambda: away(folder)
        return
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "rindle-test", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        missing("tmpfs", "no file system can be mounted here: one that becomes read-only stays untested")
    try:
        yield lambda: read_only(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def away(folder: Path) -> Iterator[None]:
    """As when a disk comes loose and only its mount point is left."""
    aside = folder.with_name("aside")
    folder.rename(aside)
    folder.mkdir()
    try:
        yield
    finally:
        folder.rmdir()
        aside.rename(folder)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """As when Linux has met an error in a file system."""
    # Files that are open for writing would forbid it; after an error it is forced.
    subprocess.run(["mount", "--bind", str(folder), str(folder)], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


async def ready(server: RunningServer) -> bool:
    return (await server.client.request("GET", "/readyz", [], tus=False)).status == 200


@pytest.mark.invariant("I1", "I12", "I14")
@pytest.mark.parametrize("begun", [5, PART + 5])
async def test_what_was_acknowledged_comes_back_with_the_disk(
    start_server: StartServer, folder: Path, fail: TakeAway, begun: int
) -> None:
    server = await start_server(tails=folder / "tails", part_size=PART, least_free=0)
    content = bytes(range(256)) * (PART // 64)
    upload = await server.client.create(len(content))
    assert (await server.client.patch(upload, 0, content[:begun])).offset == begun
    assert await ready(server)
    with fail():
        assert not await ready(server)
        for body in (content[begun : begun + 10], content[begun:]):
            refused = await server.client.patch(upload, begun, body)
            assert (refused.status, refused.code) == (503, "store_unavailable")
            assert int(refused.headers["retry-after"]) > 0
            found = await server.client.head(upload)
            assert (found.status, found.offset) == (200, begun)
        with suppress(StoreUnavailableError):  # so it may say; but nothing is given up
            await server.parts.reaper.run()
    assert await ready(server)
    assert (await server.client.patch(upload, begun, content[begun:])).offset == len(content)
    assert await server.read_object(upload) == content
    assert await server.events(upload) == ["created", "finished"]
    await server.parts.reaper.run()
    assert list((folder / "tails" / "tus").iterdir()) == []


@pytest.mark.invariant("I12")
async def test_what_needs_no_tail_goes_on(start_server: StartServer, folder: Path, fail: TakeAway) -> None:
    server = await start_server(tails=folder / "tails", part_size=PART, least_free=0)
    with fail():
        whole = await server.client.create(2 * PART + 5)
        assert (await server.client.patch(whole, 0, bytes(2 * PART + 5))).offset == 2 * PART + 5
        begun = await server.client.post(("Upload-Length", "10"), OCTETS, body=b"hello")
        assert begun.status == 503
    assert await server.read_object(whole) == bytes(2 * PART + 5)
