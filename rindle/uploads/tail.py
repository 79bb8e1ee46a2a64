"""Tails: acknowledged bytes too few for a part, on this node's disk.

A file lies at ``<root>/tus/<base64url(upload_id)>.<64 random bits>.tail`` and belongs to one attempt. It is held under
a file lock from before its first byte until after the row that names it is committed, so that whoever finds a file
unlocked and unnamed by any row knows that it is garbage. Bytes are written at explicit positions and synced before the
offset is committed; what lies past the committed length was never acknowledged.
"""

import base64
import contextlib
import errno
import logging
import os
import re
import shutil
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from rindle.clock import utc_now
from rindle.objectstore.disk import DiskExecutor, OpenFile, sync_directory
from rindle.objectstore.errors import StoreFullError, StoreUnavailableError
from rindle.objectstore.payload import FilePayload, crc64nvme
from rindle.uploads.errors import TailMissingError
from rindle.uploads.ids import new_token
from rindle.uploads.model import Tail
from rindle.uploads.node import NodeIdentity
from rindle.uploads.ports import UploadRepository

logger = logging.getLogger("rindle.uploads")

_NAME = re.compile(r"[A-Za-z0-9_-]+\.[0-9a-f]{16}\.tail", re.ASCII)
_BLOCK = 1 << 20
_SWEEP_BATCH = 500

Fault = Literal["missing", "short", "corrupt"]


Use = Literal["named", "open", "litter"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TailInfo:
    """A file in the folder: "named" by a row, "open" in some process, or "litter" that the sweep removes."""

    name: str
    upload_id: str
    size: int
    modified_at: datetime
    use: Use


def new_tail_name(upload_id: str) -> str:
    """A name that no attempt has had before."""
    encoded = base64.urlsafe_b64encode(upload_id.encode()).decode().rstrip("=")
    return f"{encoded}.{new_token()}.tail"


def tail_path(root: Path, name: str) -> Path:
    """Where the tail of this name lies. The only place that knows; ValueError for what is no tail's name."""
    if not _NAME.fullmatch(name):
        msg = f"not the name of a tail: {name!r}"
        raise ValueError(msg)
    return root / "tus" / name


class TailFile:
    """One attempt's file, open and locked. ``length`` counts what is written, acknowledged or not."""

    def __init__(
        self, disk: DiskExecutor, file: OpenFile, length: int, *, fresh: bool, replaces: Path | None = None
    ) -> None:
        """``fresh``: made by this attempt. ``replaces``: the file that a row names, and this is a copy of."""
        self.length = length
        self._kept = length
        self._disk = disk
        self._file = file
        self._fresh = fresh
        self._replaces = replaces
        self._dirty = self._entry_dirty = fresh

    @property
    def name(self) -> str:
        """What the row calls it."""
        return self._file.path.name

    async def append(self, chunks: Sequence[bytes]) -> None:
        """Write after what is there. StoreFullError, StoreUnavailableError: the file is then of no use any more."""
        with _translated():
            self.length += await self._disk.run(self._file.write, chunks, self.length)
        self._dirty = True

    async def sync(self) -> None:
        """Return when the bytes, and the file's entry in its folder, would survive a loss of power."""
        if self._dirty:
            with _translated():
                await self._disk.run(self._sync)
            self._dirty = self._entry_dirty = False

    def payload(self) -> FilePayload:
        """The bytes written so far, as a body."""
        return FilePayload(self._file.path, size=self.length)

    async def settle(self) -> None:
        """Say that the row names this file now: the one it replaces goes, and this one is let go of."""
        if self._replaces is not None:
            await self._disk.run(_unlink, self._replaces)
        self.close()

    async def remove(self) -> None:
        """Remove this file, and the one it replaces, when no row names them any more."""
        await self._disk.run(_unlink, self._file.path)
        await self.settle()

    async def abandon(self) -> None:
        """Remove this file if it is this attempt's own, which no row names; what it replaces is left alone.

        Of a file that was continued, what this attempt has added is cut off: it may be what fills the disk.
        """
        if self._fresh:
            await self._disk.run(_unlink, self._file.path)
        else:
            await self._disk.run(self._cut)
        self.close()

    def close(self) -> None:
        """Let go of the file and its lock; harmless when done twice."""
        self._file.close()

    def _cut(self) -> None:
        with contextlib.suppress(OSError):  # whoever goes on with the file cuts it too
            self._file.truncate(self._kept)

    def _sync(self) -> None:
        self._file.sync_data()
        if self._entry_dirty:
            sync_directory(self._file.path.parent)


class Tails:
    """The tails of one node. ``disk`` belongs to the caller."""

    def __init__(self, node: NodeIdentity, disk: DiskExecutor) -> None:
        self.node = node
        self._disk = disk
        self._folder = node.root / "tus"
        self._folder.mkdir(exist_ok=True, mode=0o700)

    async def create(self, upload_id: str) -> TailFile:
        """A new, empty, locked file."""
        with _translated():
            file = await self._disk.run(self._make, upload_id)
        return TailFile(self._disk, file, 0, fresh=True)

    async def resume(self, upload_id: str, tail: Tail, *, clean: bool) -> TailFile:
        """The tail that a row names, verified by length and checksum, to go on with.

        After a ``clean`` release, and if nobody else holds the file's lock, it is cut to its length and continued in
        place. Otherwise whoever had it last may still write to it: its verified bytes go into a new file.
        TailMissingError, final, when the bytes are not there; StoreUnavailableError when the folder is not.
        """
        with _translated():
            found = await self._disk.run(self._resume, upload_id, tail, clean)
        if isinstance(found, TailFile):
            return found
        raise TailMissingError(upload_id, reason=found, node=tail.node, final=True)

    async def discard(self, name: str) -> None:
        """Remove a tail that no row names any more; harmless when it is gone."""
        await self._disk.run(_unlink, tail_path(self.node.root, name))

    async def measure(self) -> tuple[int, int]:
        """Bytes of all tails here, and bytes that are free on their disk."""
        with _translated():
            return await self._disk.run(_measure, self._folder)

    async def find_idle(self, idle_for: timedelta) -> list[tuple[str, str]]:
        """Upload ids and names of the tails that were last written to so long ago."""
        with _translated():
            return await self._disk.run(_list_idle, self._folder, (utc_now() - idle_for).timestamp())

    async def list(self, repository: UploadRepository) -> Sequence[TailInfo]:
        """The files of this node, by name, and what each is to its upload. StoreUnavailableError if that fails."""
        with _translated():
            found = await self._disk.run(_describe_all, self._folder)
        named: set[str] = set()
        for start in range(0, len(found), _SWEEP_BATCH):
            names = [one.name for one in found[start : start + _SWEEP_BATCH]]
            named |= set(await repository.find_tail_names(self.node.id, names))
        return [replace(one, use="named") if one.name in named else one for one in found]

    async def free(self) -> int:
        """Bytes that are free on the disk. StoreUnavailableError if it cannot be asked."""
        with _translated():
            return (await self._disk.run(shutil.disk_usage, self._folder)).free

    async def sweep(self, repository: UploadRepository, *, dry_run: bool = False) -> int:
        """Remove the files that no living process holds and no row names; how many there were. Or only count them.

        StoreUnavailableError if the folder cannot be read.
        """
        removed = 0
        with _translated():
            names = await self._disk.run(_list_names, self._folder)
        for start in range(0, len(names), _SWEEP_BATCH):
            # Locked first, looked up second: whoever is about to name a file in a row still holds its lock.
            with _translated():
                files = await self._disk.run(self._lock_all, names[start : start + _SWEEP_BATCH])
            named = set(await repository.find_tail_names(self.node.id, list(files))) if files else set()
            unnamed = [file for name, file in files.items() if name not in named]
            removed += len(unnamed) if dry_run else await self._disk.run(_remove_all, unnamed)
            _close_all(files.values())
        return removed

    def _make(self, upload_id: str) -> OpenFile:
        while True:
            path = tail_path(self.node.root, new_tail_name(upload_id))
            file = OpenFile(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            if file.try_lock() and file.is_in_place():  # else a sweep was quicker than the lock
                return file
            file.close()

    def _resume(self, upload_id: str, tail: Tail, clean: bool) -> TailFile | Fault:  # noqa: FBT001 - run by keywordless run()
        path = tail_path(self.node.root, tail.name)
        try:
            file = OpenFile(path, os.O_RDWR | os.O_NOFOLLOW)
        except FileNotFoundError:
            if not self.node.is_in_place():
                raise  # the whole disk is away, and may come back with all tails on it
            return "missing"
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EISDIR):  # a link or a folder: nothing that we made
                return "corrupt"
            raise
        fault = _verify(file, tail)
        if fault is not None:
            file.close()
            return fault
        if clean and file.try_lock():
            file.truncate(tail.length)
            return TailFile(self._disk, file, tail.length, fresh=False)
        with file, self._copying(upload_id) as copy:
            copy.copy_from(file, 0, tail.length, 0)
        return TailFile(self._disk, copy, tail.length, fresh=True, replaces=path)

    @contextlib.contextmanager
    def _copying(self, upload_id: str) -> Iterator[OpenFile]:
        copy = self._make(upload_id)
        try:
            yield copy
        except BaseException:
            _unlink(copy.path)
            copy.close()
            raise

    def _lock_all(self, names: Sequence[str]) -> dict[str, OpenFile]:
        locked: dict[str, OpenFile] = {}
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                file = OpenFile(self._folder / name, os.O_RDONLY | os.O_NOFOLLOW)
                if file.try_lock():
                    locked[name] = file
                else:
                    file.close()
        return locked


def _verify(file: OpenFile, tail: Tail) -> Fault | None:
    status = file.status()
    if not stat.S_ISREG(status.st_mode):
        return "corrupt"
    if status.st_size < tail.length:
        return "short"
    crc = 0
    for position in range(0, tail.length, _BLOCK):
        crc = crc64nvme(file.read(min(_BLOCK, tail.length - position), position), crc)
    return None if crc == tail.crc64nvme else "corrupt"


def _list_names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if _NAME.fullmatch(path.name)]


def _describe_all(folder: Path) -> list[TailInfo]:
    described = []
    for name in sorted(_list_names(folder)):
        with contextlib.suppress(FileNotFoundError), OpenFile(folder / name, os.O_RDONLY | os.O_NOFOLLOW) as file:
            status = file.status()
            described.append(
                TailInfo(
                    name=name,
                    upload_id=_upload_of(name),
                    size=status.st_size,
                    modified_at=datetime.fromtimestamp(status.st_mtime, UTC),
                    use="litter" if file.try_lock() else "open",
                )
            )
    return described


def _measure(folder: Path) -> tuple[int, int]:
    size = 0
    for name in _list_names(folder):
        with contextlib.suppress(FileNotFoundError):
            size += (folder / name).lstat().st_size
    return size, shutil.disk_usage(folder).free


def _list_idle(folder: Path, before: float) -> list[tuple[str, str]]:
    idle = []
    for name in _list_names(folder):
        with contextlib.suppress(FileNotFoundError):
            if (folder / name).lstat().st_mtime <= before:
                idle.append((_upload_of(name), name))
    return idle


def _upload_of(name: str) -> str:
    encoded = name.partition(".")[0]
    return base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()


def _remove_all(files: Sequence[OpenFile]) -> int:
    for file in files:
        _unlink(file.path)
    return len(files)


def _close_all(files: Iterable[OpenFile]) -> None:
    for file in files:
        file.close()


def _unlink(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        # What it held is committed elsewhere, or was never acknowledged; the sweep tries again.
        logger.warning("a tail could not be removed: %s", error.strerror)


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            msg = "no room for tails"
            raise StoreFullError(msg, store="tails") from error
        msg = f"the folder for tails failed: {error.strerror}"
        raise StoreUnavailableError(msg, store="tails") from error
