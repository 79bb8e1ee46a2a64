"""Durable file work: bytes are written at explicit offsets, synced, and only then given the name they are known by.

Everything here but :class:`DiskExecutor` blocks, and is meant to be run by one. It raises OSError as it comes: what
that means is known to whoever keeps the files. POSIX only.
"""

import asyncio
import ctypes
import errno
import fcntl
import os
import secrets
import stat
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import copy_context
from functools import cache
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar, TypeVarTuple

from typing_extensions import Buffer

from rindle.objectstore.tasks import outlast

IOV_MAX = 1024  # buffers that one call takes, on Linux and macOS
_BLOCK = 1 << 20
_MAKE_ATTEMPTS = 100
_PUNCH_HOLE_KEEP_SIZE = 0x02 | 0x01  # linux/falloc.h

Result = TypeVar("Result")
Arguments = TypeVarTuple("Arguments")


class DiskExecutor:
    """Threads for the file work of one owner, who closes them."""

    def __init__(self, name: str, *, threads: int = 8) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=f"rindle-{name}")

    async def run(self, function: Callable[[*Arguments], Result], *args: *Arguments) -> Result:
        """Call a function in a thread. Once handed over it is done to its end, even if the awaiter is cancelled.

        The awaiter hears of the cancellation only then: so nobody closes a file under a thread that writes it, and
        what comes after a cancelled call finds everything at rest. The function sees the awaiter's context variables.
        """
        work = asyncio.get_running_loop().run_in_executor(self._pool, copy_context().run, function, *args)
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError:
            await outlast(work)
            raise
        return work.result()

    async def aclose(self) -> None:
        """Wait for what is being done, and end the threads; harmless when done twice."""
        await asyncio.to_thread(self._pool.shutdown)


class OpenFile:
    """A file descriptor with an owner: closed once, at the latest when nobody holds the object any more.

    So a result of :meth:`DiskExecutor.run` that a cancelled awaiter never got does not leak.
    """

    def __init__(self, path: Path, flags: int, mode: int = 0o666) -> None:
        self.path = path
        self.descriptor = -1
        self.descriptor = os.open(path, flags, mode)

    def status(self) -> os.stat_result:
        """What the file system says of the open file, whatever its name stands for by now."""
        return os.fstat(self.descriptor)

    def is_at(self, path: Path) -> bool:
        """Whether this is the file that has the name now."""
        try:
            return os.path.samestat(self.status(), path.lstat())
        except (FileNotFoundError, NotADirectoryError):
            return False

    def is_in_place(self) -> bool:
        """Whether the name it was opened by is still its own."""
        return self.is_at(self.path)

    def try_lock(self, *, exclusive: bool = True) -> bool:
        """Take the flock that ends with this open file; False if somebody else has it, in this process or another."""
        try:
            fcntl.flock(self.descriptor, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def write(self, buffers: Iterable[Buffer], offset: int) -> int:
        """Write buffers one after another from ``offset`` on; the number of bytes. Unjoined, and all of them."""
        left = deque(view for buffer in buffers if (view := memoryview(buffer).cast("B")))
        position = offset
        while left:
            # Python itself repeats a call that a signal interrupted.
            written = os.pwritev(self.descriptor, list(islice(left, IOV_MAX)), position)
            position += written
            _drop(left, written)
        return position - offset

    def read(self, size: int, offset: int) -> bytes:
        """Up to ``size`` bytes; fewer only at the end of the file."""
        blocks: list[bytes] = []
        left = size
        while left and (block := os.pread(self.descriptor, left, offset + size - left)):
            blocks.append(block)
            left -= len(block)
        return blocks[0] if len(blocks) == 1 else b"".join(blocks)

    def copy_from(self, source: "OpenFile", source_offset: int, size: int, offset: int) -> None:
        """Copy bytes of another file to ``offset``, inside the kernel where it can."""
        done = 0
        while done < size:
            copied = _copy_some(source, source_offset + done, self, offset + done, size - done)
            if copied == 0:
                raise OSError(errno.EIO, f"{source.path} ended {size - done} bytes early")
            done += copied

    def truncate(self, size: int) -> None:
        """Cut the file, or lengthen it by zeros, to ``size``."""
        os.ftruncate(self.descriptor, size)

    def punch(self, offset: int, size: int) -> None:
        """Give the room of these bytes back, where the file system can; they read as zeros then, or stay."""
        if sys.platform == "linux":
            _libc().fallocate(self.descriptor, _PUNCH_HOLE_KEEP_SIZE, ctypes.c_int64(offset), ctypes.c_int64(size))

    def stamp(self, mtime_ns: int) -> None:
        """Set the time of the last modification, finer than the tick that file systems stamp with."""
        os.utime(self.descriptor, ns=(mtime_ns, mtime_ns))

    def sync(self) -> None:
        """Make bytes and attributes, the time of modification among them, survive a power cut."""
        if sys.platform == "darwin":
            fcntl.fcntl(self.descriptor, fcntl.F_FULLFSYNC)  # fsync stops at the drive's cache there
        else:
            os.fsync(self.descriptor)

    def sync_data(self) -> None:
        """Make the bytes, and as much as is needed to read them, survive a power cut."""
        if sys.platform == "linux":
            os.fdatasync(self.descriptor)
        else:
            self.sync()

    def discard(self) -> None:
        """Remove the name it was opened by, if it is still there, and close."""
        self.path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Let go of the file and its lock; harmless when done twice."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)


def _drop(buffers: deque[memoryview], written: int) -> None:
    """Take what was written off the front."""
    while buffers and written >= len(buffers[0]):
        written -= len(buffers.popleft())
    if written:
        buffers[0] = buffers[0][written:]


def _copy_some(source: OpenFile, source_offset: int, target: OpenFile, offset: int, size: int) -> int:
    if sys.platform == "linux":
        with suppress(OSError):  # not between these two, perhaps; the plain way tells what is wrong if anything is
            copied = os.copy_file_range(source.descriptor, target.descriptor, size, source_offset, offset)
            if copied:
                return copied
    return target.write([source.read(min(size, _BLOCK), source_offset)], offset)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the flock of a lock file, waiting for it. Never across an await: its waiters occupy threads."""
    with OpenFile(path, os.O_RDWR | os.O_CREAT, 0o600) as file:
        fcntl.flock(file.descriptor, fcntl.LOCK_EX)
        yield


def sync_directory(path: Path) -> None:
    """Make the names in a directory survive a power cut."""
    with OpenFile(path, os.O_RDONLY | os.O_DIRECTORY) as directory:
        os.fsync(directory.descriptor)


def make_directories(path: Path, mode: int = 0o777) -> None:
    """Make a directory and its parents, durably; NotADirectoryError if one of them is a file.

    FileNotFoundError if somebody removes one meanwhile.
    """
    if path.is_dir():
        return
    make_directories(path.parent, mode)
    try:
        path.mkdir(mode)
    except FileExistsError:
        if not stat.S_ISDIR(path.stat().st_mode):
            raise NotADirectoryError(errno.ENOTDIR, "a file stands where a directory is needed", str(path)) from None
    sync_directory(path.parent)


def publish(source: Path, target: Path, *, replace: bool) -> None:
    """Give a finished and synced file its name: atomically, durably, making the directories on the way.

    With ``replace`` the file moves over whatever had the name; without, FileExistsError if there is anything, and the
    file has both names until its owner removes the first.
    """
    for _ in range(_MAKE_ATTEMPTS):
        try:
            if replace:
                source.rename(target)
            else:
                target.hardlink_to(source)
        except FileNotFoundError:
            # No directory yet, or one that was just removed for being empty; then another turn makes it again.
            with suppress(FileNotFoundError):
                make_directories(target.parent)
        else:
            return sync_directory(target.parent)
    raise FileNotFoundError(errno.ENOENT, "the file to be named has gone", str(source))


def remove(path: Path, *, root: Path) -> None:
    """Remove a file, and the directories up to ``root`` that are empty without it, durably. FileNotFoundError."""
    path.unlink()
    directory = path.parent
    while directory != root and _remove_if_empty(directory):
        directory = directory.parent
    with suppress(FileNotFoundError):  # somebody else removed it, and syncs the one above
        sync_directory(directory)


def _remove_if_empty(directory: Path) -> bool:
    try:
        directory.rmdir()
    except FileNotFoundError:
        return True
    except OSError:  # not empty; or it may not be removed, and then an empty one does no harm
        return False
    return True


def make_held_file(directory: Path) -> OpenFile:
    """A new file under a random name, with its flock held: :func:`sweep` leaves it alone while this process lives."""
    while True:
        path = directory / secrets.token_hex(16)
        file = OpenFile(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        if file.try_lock() and file.is_in_place():  # else a sweep was quicker than the lock
            return file
        file.close()


def make_held_directory(parent: Path) -> OpenFile:
    """As :func:`make_held_file`, a directory."""
    while True:
        path = parent / secrets.token_hex(16)
        path.mkdir(0o700)
        with suppress(FileNotFoundError):
            directory = OpenFile(path, os.O_RDONLY | os.O_DIRECTORY)
            if directory.try_lock() and directory.is_in_place():
                return directory
            directory.close()


def sweep(directory: Path) -> int:
    """Remove the files and flat directories in ``directory`` that no process holds; how many they were."""
    return sum(_sweep_one(path) for path in _entries(directory))


def _sweep_one(path: Path) -> bool:
    try:
        with OpenFile(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK) as file:
            if not (file.try_lock() and file.is_in_place()):
                return False
            if stat.S_ISDIR(file.status().st_mode):
                remove_flat_directory(path)
            else:
                path.unlink(missing_ok=True)
    except FileNotFoundError:
        return False
    return True


def remove_flat_directory(path: Path) -> None:
    """Remove a directory that holds only files; harmless when somebody else does the same."""
    for file in _entries(path):
        file.unlink(missing_ok=True)
    with suppress(FileNotFoundError):
        path.rmdir()


def _entries(directory: Path) -> Sequence[Path]:
    try:
        return list(directory.iterdir())
    except FileNotFoundError:
        return ()
