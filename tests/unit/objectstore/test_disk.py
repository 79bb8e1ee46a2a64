import asyncio
import errno
import fcntl
import gc
import os
import shutil
import sys
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Self

import pytest
from typing_extensions import Buffer

from rindle.objectstore.disk import (
    IOV_MAX,
    DiskExecutor,
    OpenFile,
    locked,
    make_directories,
    make_held_directory,
    make_held_file,
    publish,
    remove,
    sweep,
)

READ_WRITE = os.O_RDWR | os.O_CREAT


@pytest.fixture
async def executor() -> AsyncIterator[DiskExecutor]:
    executor = DiskExecutor("test", threads=2)
    yield executor
    await executor.aclose()


@pytest.fixture
def file(tmp_path: Path) -> OpenFile:
    return OpenFile(tmp_path / "file", READ_WRITE)


def open_descriptors() -> int:
    gc.collect()
    return len(list(Path("/dev/fd").iterdir()))


# The executor


async def test_a_function_runs_in_a_named_thread(executor: DiskExecutor) -> None:
    name = await executor.run(lambda: threading.current_thread().name)
    assert name.startswith("rindle-test")


async def test_a_function_gets_its_arguments_and_its_error_comes_through(executor: DiskExecutor) -> None:
    assert await executor.run(max, 3, 5) == 5
    with pytest.raises(FileNotFoundError):
        await executor.run(Path("/does/not/exist").stat)


class Held:
    """A function for a thread: says when it has begun, and goes on when it may; at the latest when the test ends."""

    def __init__(self, then: Callable[[], object] = bool) -> None:
        self.begun = asyncio.Event()
        self.go_on = threading.Event()
        self.finished = False
        self._then = then
        self._loop = asyncio.get_running_loop()

    def __call__(self) -> object:
        self._loop.call_soon_threadsafe(self.begun.set)
        self.go_on.wait()
        self.finished = True
        return self._then()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.go_on.set()


@pytest.mark.parametrize("cancels", [1, 3])
async def test_a_cancelled_call_ends_only_when_its_function_has(executor: DiskExecutor, cancels: int) -> None:
    with Held() as held:
        task = asyncio.create_task(executor.run(held))
        await held.begun.wait()
        for _ in range(cancels):
            task.cancel()
            for _ in range(10):
                await asyncio.sleep(0)
            assert not task.done()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert held.finished


async def test_what_was_handed_over_is_done_though_nobody_waits_any_more(executor: DiskExecutor) -> None:
    done = threading.Event()
    with Held() as held:
        busy = [asyncio.create_task(executor.run(held)) for _ in range(2)]
        queued = asyncio.create_task(executor.run(done.set))
        await asyncio.sleep(0)
        queued.cancel()
    with pytest.raises(asyncio.CancelledError):
        await queued
    assert done.is_set()
    await asyncio.gather(*busy)


async def test_the_error_of_a_cancelled_call_is_not_reported_as_lost(executor: DiskExecutor) -> None:
    lost: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: lost.append(context))
    with Held(Path("/does/not/exist").stat) as held:
        task = asyncio.create_task(executor.run(held))
        await held.begun.wait()
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    del task
    gc.collect()
    assert lost == []


async def test_a_file_opened_for_a_cancelled_call_is_closed(executor: DiskExecutor, tmp_path: Path) -> None:
    before = open_descriptors()
    with Held(lambda: OpenFile(tmp_path / "file", READ_WRITE)) as held:
        task = asyncio.create_task(executor.run(held))
        await held.begun.wait()
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    del task
    await asyncio.sleep(0)  # until then the loop's own call holds the task, and its traceback the file
    await executor.aclose()  # until then a thread may hold what it has returned
    assert open_descriptors() == before


async def test_closing_waits_for_what_is_being_done_and_may_be_repeated() -> None:
    executor = DiskExecutor("test", threads=1)
    done = threading.Event()
    work = asyncio.create_task(executor.run(done.set))
    await asyncio.sleep(0)
    await executor.aclose()
    assert done.is_set()
    await work
    await executor.aclose()


# Files


def test_buffers_are_written_one_after_another_at_an_offset(file: OpenFile) -> None:
    buffers: list[Buffer] = [b"one", b"", memoryview(b"two"), bytearray(b"three")]
    assert file.write(buffers, 5) == 11
    assert file.path.read_bytes() == b"\0\0\0\0\0onetwothree"
    assert file.write([b"xx"], 6) == 2
    assert file.path.read_bytes() == b"\0\0\0\0\0oxxtwothree"


def test_nothing_is_written_of_nothing(file: OpenFile) -> None:
    assert file.write([], 7) == 0
    assert file.write([b"", b""], 7) == 0
    assert file.path.read_bytes() == b""


@pytest.mark.parametrize("count", [IOV_MAX - 1, IOV_MAX, IOV_MAX + 1, 3 * IOV_MAX + 5])
def test_more_buffers_are_written_than_one_call_takes(file: OpenFile, count: int) -> None:
    buffers = [str(number).encode() for number in range(count)]
    file.write(buffers, 0)
    assert file.path.read_bytes() == b"".join(buffers)


@pytest.mark.parametrize("most", [1, 2, 3, 7])
def test_a_short_write_goes_on_where_it_stopped(file: OpenFile, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pwritev = os.pwritev

    def short(descriptor: int, buffers: Sequence[memoryview], offset: int) -> int:
        return pwritev(descriptor, [b"".join(buffers)[:most]], offset)

    monkeypatch.setattr(os, "pwritev", short)
    assert file.write([b"one", b"", b"two", b"three", b""], 2) == 11
    assert file.path.read_bytes() == b"\0\0onetwothree"


def test_reading_gives_less_only_at_the_end(file: OpenFile, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write([b"0123456789"], 0)
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda descriptor, size, offset: pread(descriptor, min(size, 3), offset))
    assert [file.read(5, 2), file.read(50, 7), file.read(5, 10)] == [b"23456", b"789", b""]


@pytest.mark.parametrize("way", ["in the kernel", "through memory"])
def test_bytes_are_copied_from_one_file_into_another(
    file: OpenFile, tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if way == "through memory" and sys.platform == "linux":

        def refuse(*_: object) -> int:
            raise OSError(errno.EXDEV, "not between these")

        monkeypatch.setattr(os, "copy_file_range", refuse)
    data = bytes(range(256)) * 10_000
    with OpenFile(tmp_path / "source", READ_WRITE) as source:
        source.write([data], 0)
        file.copy_from(source, 100, 2_000_000, 10)
        assert file.path.read_bytes() == bytes(10) + data[100:2_000_100]
        with pytest.raises(OSError, match="ended 1 bytes early"):
            file.copy_from(source, len(data) - 1, 2, 0)


def test_a_file_knows_whether_its_name_is_still_its_own(file: OpenFile, tmp_path: Path) -> None:
    assert file.is_in_place()
    file.path.rename(tmp_path / "moved")
    assert not file.is_in_place()
    assert file.is_at(tmp_path / "moved")
    (tmp_path / "file").touch()
    assert not file.is_in_place()
    assert not file.is_at(tmp_path / "moved" / "below")


def test_a_file_is_closed_once_and_when_it_is_forgotten(tmp_path: Path) -> None:
    before = open_descriptors()
    file = OpenFile(tmp_path / "file", READ_WRITE)
    file.close()
    file.close()
    forgotten = OpenFile(tmp_path / "file", os.O_RDONLY)
    assert open_descriptors() == before + 1
    del forgotten
    assert open_descriptors() == before
    with pytest.raises(FileNotFoundError):
        OpenFile(tmp_path / "other", os.O_RDONLY)


def test_a_lock_excludes_within_the_process_too(file: OpenFile) -> None:
    assert file.try_lock()
    with OpenFile(file.path, os.O_RDWR) as other:
        assert not other.try_lock()
        assert not other.try_lock(exclusive=False)
        file.close()
        assert other.try_lock(exclusive=False)
        with OpenFile(file.path, os.O_RDWR) as third:
            assert third.try_lock(exclusive=False)
            assert not third.try_lock()


async def test_a_lock_file_is_held_by_one_at_a_time(executor: DiskExecutor, tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    counter.write_text("0")

    def increment() -> None:
        for _ in range(50):
            with locked(tmp_path / "lock"):
                counter.write_text(str(int(counter.read_text()) + 1))

    await asyncio.gather(*(executor.run(increment) for _ in range(2)))
    assert await executor.run(counter.read_text) == "100"


# Names


def test_directories_are_made_up_to_the_one_wanted(tmp_path: Path) -> None:
    make_directories(tmp_path / "a/b/c", 0o700)
    make_directories(tmp_path / "a/b/c")
    assert (tmp_path / "a/b/c").stat().st_mode & 0o777 == 0o700


def test_no_directory_is_made_where_a_file_stands(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in ("file", "file/below", "file/far/below"):
        with pytest.raises(NotADirectoryError):
            make_directories(tmp_path / path)


def test_a_file_is_published_over_another(tmp_path: Path) -> None:
    (tmp_path / "new").write_bytes(b"new")
    publish(tmp_path / "new", tmp_path / "a/b/target", replace=True)
    assert (tmp_path / "a/b/target").read_bytes() == b"new"
    assert not (tmp_path / "new").exists()
    (tmp_path / "newer").write_bytes(b"newer")
    publish(tmp_path / "newer", tmp_path / "a/b/target", replace=True)
    assert (tmp_path / "a/b/target").read_bytes() == b"newer"


def test_a_file_is_published_where_there_is_none(tmp_path: Path) -> None:
    (tmp_path / "new").write_bytes(b"new")
    publish(tmp_path / "new", tmp_path / "a/target", replace=False)
    (tmp_path / "newer").write_bytes(b"newer")
    with pytest.raises(FileExistsError):
        publish(tmp_path / "newer", tmp_path / "a/target", replace=False)
    assert (tmp_path / "a/target").read_bytes() == b"new"


def test_a_file_that_has_gone_cannot_be_published(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        publish(tmp_path / "gone", tmp_path / "target", replace=True)


def test_publishing_makes_a_directory_again_that_was_just_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "new").write_bytes(b"new")
    rename, tries = os.rename, count(1)

    def rename_too_late(source: Path, target: Path) -> None:
        if next(tries) < 4:
            shutil.rmtree(tmp_path / "a", ignore_errors=True)  # as a delete in another process does
        rename(source, target)

    monkeypatch.setattr(os, "rename", rename_too_late)
    publish(tmp_path / "new", tmp_path / "a/b/target", replace=True)
    assert (tmp_path / "a/b/target").read_bytes() == b"new"
    assert next(tries) == 5


def test_a_directory_that_somebody_else_made_and_removed_meanwhile_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = Path.mkdir
    collided = False

    def mkdir(self: Path, mode: int = 0o777) -> None:
        nonlocal collided
        if not collided:
            collided = True
            raise FileExistsError
        make(self, mode)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    (tmp_path / "new").write_bytes(b"new")
    publish(tmp_path / "new", tmp_path / "a/target", replace=True)
    assert collided
    assert (tmp_path / "a/target").read_bytes() == b"new"


def test_removing_a_file_removes_the_directories_it_leaves_empty(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for path in ("a/b/c/file", "a/other"):
        make_directories((root / path).parent)
        (root / path).touch()
    remove(root / "a/b/c/file", root=root)
    assert sorted(root.rglob("*")) == [root / "a", root / "a/other"]
    remove(root / "a/other", root=root)
    assert list(root.iterdir()) == []
    with pytest.raises(FileNotFoundError):
        remove(root / "a/other", root=root)


# What nobody holds any more


@pytest.mark.parametrize("make", [make_held_file, make_held_directory])
def test_a_sweep_removes_what_is_not_held(make: Callable[[Path], OpenFile], tmp_path: Path) -> None:
    alive, dead = make(tmp_path), make(tmp_path)
    dead.close()
    assert sweep(tmp_path) == 1
    assert list(tmp_path.iterdir()) == [alive.path]
    alive.close()
    assert sweep(tmp_path) == 1
    assert sweep(tmp_path) == 0


def test_a_sweep_removes_a_directory_with_its_files(tmp_path: Path) -> None:
    with make_held_directory(tmp_path) as directory:
        (directory.path / "file").touch()
    assert sweep(tmp_path) == 1
    assert sweep(tmp_path / "not there") == 0


@pytest.mark.parametrize("make", [make_held_file, make_held_directory])
def test_what_a_sweep_took_before_it_was_held_is_made_again(
    make: Callable[[Path], OpenFile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    swept: list[Path] = []
    flock = fcntl.flock

    def flock_too_late(descriptor: int, operation: int) -> None:
        if not swept:
            swept.extend(tmp_path.iterdir())
            assert sweep(tmp_path) == 1
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock_too_late)
    with make(tmp_path) as held:
        assert swept != [held.path]
        assert held.is_in_place()
