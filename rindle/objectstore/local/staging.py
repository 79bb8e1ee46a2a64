"""Multiparts as directories, made so that completing one is a rename.

All parts of a multipart lie in one file ``data``, part n at ``(n - 1) * part_size``: complete, it is the object. The
file ``index`` says which of them are there (:mod:`rindle.objectstore.local.index`).

Whoever puts a part holds the index's flock shared, and the flock of the part's own lock file; whoever completes holds
the index's alone. A multipart is finished when its ``data`` has the object's name: it is then gone, even if a crash
left the directory behind.
"""

import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from rindle.clock import utc_now
from rindle.objectstore.disk import OpenFile, make_held_directory, remove_flat_directory, sync_directory
from rindle.objectstore.errors import MultipartNotFoundError, StoreUnavailableError
from rindle.objectstore.local.errors import STORE
from rindle.objectstore.local.index import Index
from rindle.objectstore.local.layout import Layout
from rindle.objectstore.local.objects import Objects, seal
from rindle.objectstore.local.sidecar import Sidecar, read_json, to_bytes
from rindle.objectstore.parts import check_assembly, check_named
from rindle.objectstore.refusals import no_multipart
from rindle.objectstore.types import (
    CopyMode,
    MultipartMeta,
    MultipartOptions,
    MultipartRef,
    PartLimits,
    PartMeta,
    PutResult,
)

LIMITS = PartLimits(
    min_size=1,
    max_size=1 << 40,
    max_count=1_000_000,
    max_object_size=2**63 - 1,
    uniform=True,
    consecutive=True,
)
_META, _INDEX, _DATA = "meta.json", "index", "data"


@dataclass(frozen=True, slots=True)
class Description:
    """What was said when the multipart was begun."""

    key: str
    part_size: int
    initiated_at: datetime
    sidecar: Sidecar


class Staging:
    """The multiparts under one root. Every method blocks."""

    def __init__(self, layout: Layout, objects: Objects) -> None:
        self._layout = layout
        self._objects = objects

    def create(self, key: str, options: MultipartOptions) -> MultipartRef:
        """Make the directory aside, and give it its name when it is whole."""
        self._objects.require(key, "overwrite")
        self._layout.prepare()
        ref = MultipartRef(key, secrets.token_hex(16))
        with make_held_directory(self._layout.temporary) as directory:
            try:
                _fill(directory.path, key, options)
                directory.path.rename(self._layout.multipart(ref))
            except BaseException:
                remove_flat_directory(directory.path)
                raise
        sync_directory(self._layout.staging)
        return ref

    def describe(self, ref: MultipartRef) -> Description:
        """What was said on create; MultipartNotFoundError when it is finished, aborted or not ours."""
        directory = self._layout.multipart(ref)
        try:
            found = _read_description(directory)
        except FileNotFoundError as error:
            raise no_multipart(ref, store=STORE) from error
        if found.key != ref.key or self._is_finished(directory, found):
            raise no_multipart(ref, store=STORE)
        return found

    def _is_finished(self, directory: Path, description: Description) -> bool:
        try:
            data = (directory / _DATA).lstat()
        except FileNotFoundError:
            return True
        with suppress(FileNotFoundError, NotADirectoryError):
            return os.path.samestat(data, self._layout.object(description.key).lstat())
        return False

    def open_index(self, ref: MultipartRef, flags: int = os.O_RDONLY) -> Index:
        """The index of a multipart that is still there, or was when we looked."""
        try:
            return Index(OpenFile(self._layout.multipart(ref) / _INDEX, flags))
        except FileNotFoundError as error:
            raise no_multipart(ref, store=STORE) from error

    def unfinished(self, prefix: str) -> Iterator[MultipartMeta]:
        """The multiparts that can still be completed, of the keys that start with ``prefix``."""
        for directory in self._directories():
            try:
                found = _read_description(directory)
            except FileNotFoundError:
                continue
            if found.key.startswith(prefix) and not self._is_finished(directory, found):
                ref = MultipartRef(found.key, directory.name)
                yield MultipartMeta(ref=ref, initiated_at=found.initiated_at)

    def _directories(self) -> Sequence[Path]:
        try:
            return list(self._layout.staging.iterdir())
        except FileNotFoundError:
            return ()

    def complete(self, ref: MultipartRef, parts: Sequence[PartMeta], *, mode: CopyMode) -> PutResult:
        """Give the data the object's name; what is left of the multipart is removed."""
        with ExitStack() as held:
            description, index, data = self.hold(ref, held, exclusive=True)
            size = _check_parts(ref, parts, index, description)
            with self._layout.locked(ref.key):
                if not data.is_in_place():
                    raise no_multipart(ref, store=STORE)
                current = self._objects.require(ref.key, mode)
                index.drop_after(parts[-1].part_number)
                data.truncate(size)
                seal(data)
                result = self._objects.place(data, ref.key, current, description.sidecar, replace=mode == "overwrite")
            self._remove(self._layout.multipart(ref))
        return result

    def hold(self, ref: MultipartRef, held: ExitStack, *, exclusive: bool) -> tuple[Description, Index, OpenFile]:
        """Lock a multipart, to put a part (with others) or to complete it (alone), until ``held`` is closed.

        Never waits: StoreUnavailableError when somebody holds it the other way. MultipartNotFoundError.
        """
        index = self.open_index(ref, os.O_RDWR)
        held.enter_context(index.file)
        if not index.file.try_lock(exclusive=exclusive):
            msg = "a part of this multipart is being put, or it is being completed"
            raise StoreUnavailableError(msg, store=STORE, key=ref.key)
        description = self.describe(ref)
        if not index.file.is_in_place():
            raise no_multipart(ref, store=STORE)
        try:
            data = OpenFile(self._layout.multipart(ref) / _DATA, os.O_RDWR)
        except FileNotFoundError as error:
            raise no_multipart(ref, store=STORE) from error
        return description, index, held.enter_context(data)

    def abort(self, ref: MultipartRef) -> None:
        """Remove a multipart, if there is one. Not while it is being completed: then it waits, and finds none."""
        try:
            directory = self._layout.multipart(ref)
            if _read_description(directory).key != ref.key:
                return
        except (FileNotFoundError, MultipartNotFoundError):
            return
        with self._layout.locked(ref.key):
            self._remove(directory)

    def _remove(self, directory: Path) -> None:
        aside = self._layout.temporary / secrets.token_hex(16)
        try:
            directory.rename(aside)
        except FileNotFoundError:
            return
        sync_directory(self._layout.staging)
        remove_flat_directory(aside)

    def sweep(self) -> int:
        """Remove what crashes left of finished multiparts; how many they were."""
        return sum(self._sweep_one(directory) for directory in self._directories())

    def _sweep_one(self, directory: Path) -> bool:
        try:
            finished = self._is_finished(directory, _read_description(directory))
            with OpenFile(directory / _INDEX, os.O_RDONLY) as index:
                if not finished or not index.try_lock():
                    return False
                self._remove(directory)
        except FileNotFoundError:
            return False
        return True


def _fill(directory: Path, key: str, options: MultipartOptions) -> None:
    sidecar = Sidecar(options.attributes, options.tags)
    meta = {"key": key, "part_size": options.part_size, "initiated_at": utc_now().isoformat()}
    _make_file(directory / _META, to_bytes(meta | sidecar.to_json()), 0o600)
    _make_file(directory / _INDEX, b"", 0o600)
    _make_file(directory / _DATA, b"", 0o666)
    sync_directory(directory)


def _make_file(path: Path, content: bytes, mode: int) -> None:
    with OpenFile(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode) as file:
        file.write([content], 0)
        file.sync()


def _read_description(directory: Path) -> Description:
    meta = read_json(directory / _META)
    initiated_at = datetime.fromisoformat(meta["initiated_at"])
    return Description(meta["key"], meta["part_size"], initiated_at, Sidecar.from_json(meta))


def _check_parts(ref: MultipartRef, parts: Sequence[PartMeta], index: Index, description: Description) -> int:
    found = [check_named(index.find(part.part_number), part, store=STORE, ref=ref) for part in parts]
    check_assembly(found, description.part_size, LIMITS, store=STORE, ref=ref)
    return sum(part.size for part in found)
