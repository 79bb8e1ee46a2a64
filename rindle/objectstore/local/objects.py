"""Objects as files: written aside, stamped, and given their name together with what lies beside them.

A version of an object is known by its stamp, the time of modification and the size. We set that time ourselves, in
nanoseconds, because file systems stamp with a tick that is coarse enough for two writes. The sidecar bears the stamp in
its name and is there before the object is: whoever opens an object and looks for the sidecar of what he opened finds
the one that belongs to it, whatever is written meanwhile.
"""

import errno
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rindle.clock import wall_time_ns
from rindle.objectstore.disk import OpenFile, make_held_file, publish, remove
from rindle.objectstore.errors import InvalidKeyError
from rindle.objectstore.local.errors import STORE
from rindle.objectstore.local.layout import Layout
from rindle.objectstore.local.sidecar import Sidecar, read_json, to_bytes
from rindle.objectstore.payload import PayloadCheck
from rindle.objectstore.refusals import no_object, not_that_version, taken
from rindle.objectstore.types import ObjectMeta, PutMode, PutResult, UpdateVersion

_EPOCH = datetime.fromtimestamp(0, UTC)
# What opening says of a path that is no regular file: absent, below a file, a symlink, a socket.
_NO_OBJECT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO})


@dataclass(frozen=True, slots=True)
class OpenObject:
    """One version of an object, held open; whoever got it closes the file."""

    file: OpenFile
    meta: ObjectMeta
    sidecar: Sidecar


class Objects:
    """The objects under one root. Every method blocks."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def head(self, key: str) -> ObjectMeta:
        """What a listing would say of it. NotFoundError."""
        status = _find(self._layout.object(key))
        if status is None:
            raise no_object(key, store=STORE)
        return describe(key, status)

    def open(self, key: str) -> OpenObject:
        """The object with what lies beside it, both of one version. NotFoundError."""
        path = self._layout.object(key)
        while True:
            file = _open_object(path, key)
            status = file.status()
            sidecar = self._read_sidecar(key, status)
            if sidecar is not None or file.is_in_place():
                return OpenObject(file, describe(key, status), sidecar or Sidecar())
            file.close()  # replaced while we looked, and the sidecar was perhaps already gone: read the new one

    def _read_sidecar(self, key: str, status: os.stat_result) -> Sidecar | None:
        try:
            return Sidecar.from_json(read_json(self._layout.sidecar(key, status), key=key))
        except FileNotFoundError:
            return None

    def require(self, key: str, mode: PutMode) -> os.stat_result | None:
        """What would be replaced, if the mode allows it, and else the error that says why not."""
        current = _find_replaceable(self._layout.object(key), key)
        if mode == "create" and current is not None:
            raise taken(key, store=STORE)
        if isinstance(mode, UpdateVersion) and (current is None or e_tag(current) != mode.e_tag):
            raise not_that_version(key, store=STORE)
        return current

    def draft(self, key: str, mode: PutMode) -> "Draft":
        """Begin to write an object."""
        self._layout.object(key)
        return Draft(self, self._layout, key, mode)

    def publish(self, draft: "Draft", sidecar: Sidecar) -> PutResult:
        """Make a draft the object, by its mode."""
        file = draft.open()
        seal(file)  # before the lock: this is where the bytes go to the disk
        with self._layout.locked(draft.key):
            current = self.require(draft.key, draft.mode)
            result = self.place(file, draft.key, current, sidecar, replace=draft.mode != "create")
        draft.discard()
        return result

    def place(
        self, file: OpenFile, key: str, current: os.stat_result | None, sidecar: Sidecar, *, replace: bool
    ) -> PutResult:
        """Give a sealed file the key; the caller holds its lock and has asked :meth:`require`.

        Without ``replace`` AlreadyExistsError if somebody who takes no locks was quicker.
        """
        if current is not None and current.st_mtime_ns >= file.status().st_mtime_ns:
            # Sealed before the one that was quicker; or the clock stood, or was set back. An inode's number is soon
            # used again, so it is the stamp that must not be.
            file.stamp(current.st_mtime_ns + 1)
            file.sync()
        status = file.status()
        self._write_sidecar(key, status, sidecar)
        try:
            self._give_name(file, key, replace=replace)
        except BaseException:
            if not file.is_at(self._layout.object(key)):
                self._remove_sidecar(key, status)
            raise
        if current is not None:
            self._remove_sidecar(key, current)
        return PutResult(e_tag=e_tag(status))

    def _give_name(self, file: OpenFile, key: str, *, replace: bool) -> None:
        try:
            publish(file.path, self._layout.object(key), replace=replace)
        except FileExistsError as error:
            raise taken(key, store=STORE) from error
        except IsADirectoryError as error:
            raise _is_directory(key) from error
        except NotADirectoryError as error:
            raise _through_file(key) from error

    def delete(self, key: str) -> None:
        """Remove the object, if there is one, and the directories that are empty without it."""
        path = self._layout.object(key)
        if _find(path) is None:
            return
        self._layout.prepare()
        with self._layout.locked(key):
            current = _find(path)
            if current is not None:
                remove(path, root=self._layout.root)
                self._remove_sidecar(key, current)

    def put_tags(self, key: str, tags: Mapping[str, str]) -> None:
        """Replace the tags; bytes, stamp and attributes stay."""
        self._layout.prepare()
        with self._layout.locked(key):
            found = self.open(key)
            with found.file as file:
                self._write_sidecar(key, file.status(), replace(found.sidecar, tags=tags))

    def _write_sidecar(self, key: str, status: os.stat_result, sidecar: Sidecar) -> None:
        if not sidecar:
            return self._remove_sidecar(key, status)
        file = make_held_file(self._layout.temporary)
        try:
            file.write([to_bytes({"key": key, **sidecar.to_json()})], 0)
            file.sync()
            publish(file.path, self._layout.sidecar(key, status), replace=True)
        finally:
            file.discard()

    def _remove_sidecar(self, key: str, status: os.stat_result) -> None:
        self._layout.sidecar(key, status).unlink(missing_ok=True)


class Draft:
    """An object while it is written: a file without a name, held so that a sweep leaves it alone.

    Whoever made it discards it, unless it was published.
    """

    def __init__(self, objects: Objects, layout: Layout, key: str, mode: PutMode) -> None:
        self.key = key
        self.mode = mode
        self._objects = objects
        self._layout = layout
        self._file: OpenFile | None = None
        self._size = 0

    def open(self) -> OpenFile:
        """The file; made when first asked for, if the mode allows the write by then."""
        if self._file is None:
            self._objects.require(self.key, self.mode)
            self._layout.prepare()
            self._file = make_held_file(self._layout.temporary)
        return self._file

    def write(self, check: PayloadCheck, chunks: Sequence[bytes]) -> None:
        """Append chunks; those that the check refuses are not written."""
        check.update(chunks)
        self._size += self.open().write(chunks, self._size)

    def copy(self, source: OpenFile, offset: int, size: int) -> None:
        """Append bytes of another file."""
        self.open().copy_from(source, offset, size, self._size)
        self._size += size

    def discard(self) -> None:
        """Remove what is still without a name; harmless when done twice."""
        if self._file is not None:
            self._file.discard()


def seal(file: OpenFile) -> None:
    """Stamp a finished file and make it durable, stamp and bytes."""
    file.stamp(wall_time_ns())
    file.sync()


def e_tag(status: os.stat_result) -> str:
    """What tells this version of a file from every other one."""
    return f"{status.st_mtime_ns:x}-{status.st_size:x}-{status.st_ino:x}"


def describe(key: str, status: os.stat_result) -> ObjectMeta:
    """A file as an object."""
    modified = _EPOCH + timedelta(microseconds=status.st_mtime_ns // 1000)
    return ObjectMeta(key=key, size=status.st_size, last_modified=modified, e_tag=e_tag(status))


def _open_object(path: Path, key: str) -> OpenFile:
    try:
        file = OpenFile(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in _NO_OBJECT:
            raise no_object(key, store=STORE) from error
        raise
    if not stat.S_ISREG(file.status().st_mode):
        file.close()
        raise no_object(key, store=STORE)
    return file


def _find(path: Path) -> os.stat_result | None:
    try:
        status = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status if stat.S_ISREG(status.st_mode) else None


def _find_replaceable(path: Path, key: str) -> os.stat_result | None:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    except NotADirectoryError as error:
        raise _through_file(key) from error
    if stat.S_ISDIR(status.st_mode):
        raise _is_directory(key)
    return status


def _is_directory(key: str) -> InvalidKeyError:
    msg = "other keys go on from here with '/', so it is a directory, and no object can stand there"
    return InvalidKeyError(msg, store=STORE, key=key)


def _through_file(key: str) -> InvalidKeyError:
    msg = "the key up to one of its '/' is an object, so no key can go on from there"
    return InvalidKeyError(msg, store=STORE, key=key)
