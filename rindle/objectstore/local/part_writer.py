"""One attempt at one part, from the first byte to the slot that says it is there."""

import os
import secrets
from collections.abc import Sequence
from contextlib import ExitStack

from rindle.objectstore.disk import OpenFile
from rindle.objectstore.errors import StoreUnavailableError
from rindle.objectstore.local.errors import STORE
from rindle.objectstore.local.layout import Layout
from rindle.objectstore.local.staging import LIMITS, Staging
from rindle.objectstore.parts import check_part_fits
from rindle.objectstore.payload import PayloadCheck
from rindle.objectstore.refusals import no_multipart
from rindle.objectstore.types import MultipartRef, PartMeta


class PartWriter:
    """Holds the part's lock from :meth:`begin` on, until it is committed or released. Its methods block."""

    def __init__(self, staging: Staging, layout: Layout, ref: MultipartRef, part_number: int) -> None:
        self._staging = staging
        self._directory = layout.multipart(ref)
        self._ref = ref
        self._part_number = part_number
        self._held = ExitStack()
        self._size = 0
        self._room = 0

    def begin(self, size: int) -> None:
        """Make sure that nobody else writes this part, and that nobody takes it for there."""
        description, self._index, self._data = self._staging.hold(self._ref, self._held, exclusive=False)
        check_part_fits(size, description.part_size, LIMITS, store=STORE, ref=self._ref)
        self._start = (self._part_number - 1) * description.part_size
        self._held.callback(self._lock_part().discard)
        self._index.invalidate(self._part_number)
        self._room = size

    def _lock_part(self) -> OpenFile:
        path = self._directory / f"part-{self._part_number}.lock"
        while True:
            try:
                lock = OpenFile(path, os.O_RDWR | os.O_CREAT, 0o600)
            except FileNotFoundError as error:
                raise no_multipart(self._ref, store=STORE) from error
            if not lock.try_lock():
                lock.close()
                msg = f"part {self._part_number} is being put by somebody else"
                raise StoreUnavailableError(msg, store=STORE, key=self._ref.key)
            if lock.is_in_place():
                return lock
            lock.close()  # its last holder removed it before we had it

    def write(self, check: PayloadCheck, chunks: Sequence[bytes]) -> None:
        """Append chunks to the part; those that the check refuses are not written."""
        check.update(chunks)
        self._size += self._data.write(chunks, self._start + self._size)

    def copy(self, source: OpenFile, offset: int, size: int) -> None:
        """Append bytes of another file to the part."""
        self._data.copy_from(source, offset, size, self._start + self._size)
        self._size += size

    def commit(self) -> PartMeta:
        """The part is there from now on. MultipartNotFoundError if it was put into one that has gone meanwhile."""
        self._data.sync_data()
        part = PartMeta(part_number=self._part_number, size=self._size, e_tag=secrets.token_hex(16))
        self._index.write(part)
        if not self._index.file.is_in_place():
            raise no_multipart(self._ref, store=STORE)
        self._room = 0
        self.release()
        return part

    def release(self) -> None:
        """Let go of everything; harmless when done twice. What was not committed is absent, and takes no room."""
        if self._room:
            self._data.punch(self._start, self._room)
            self._room = 0
        self._held.close()
