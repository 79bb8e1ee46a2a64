"""Which parts of a multipart are there.

A slot is valid only while exactly its bytes are on the disk: it is invalidated before they are touched, and written
after they are synced. So a part that a crash cut short is absent, never wrong, and an ``e_tag`` found here proves that
the bytes are that attempt's.
"""

import struct
from collections.abc import Iterator
from hashlib import sha256

from rindle.objectstore.disk import OpenFile
from rindle.objectstore.types import PartMeta


class Index:
    """The slots of a multipart's parts, each of 64 bytes: number, size and e_tag, and a digest of these."""

    _FIELDS = struct.Struct("<QQ16s")
    _SLOT_SIZE = 64
    _SLOTS_PER_READ = 1024

    def __init__(self, file: OpenFile) -> None:
        self.file = file

    def write(self, part: PartMeta) -> None:
        """Say durably that a part is there."""
        fields = self._FIELDS.pack(part.part_number, part.size, bytes.fromhex(part.e_tag))
        self.file.write([fields + sha256(fields).digest()], self._offset(part.part_number))
        self.file.sync_data()

    def invalidate(self, part_number: int) -> None:
        """Say durably that a part is not there, if it was."""
        if self.find(part_number) is not None:
            self.file.write([bytes(self._SLOT_SIZE)], self._offset(part_number))
            self.file.sync_data()

    def drop_after(self, part_number: int) -> None:
        """Say durably that no later part is there."""
        end = self._offset(part_number + 1)
        if self.file.status().st_size > end:
            self.file.truncate(end)
            self.file.sync_data()

    def find(self, part_number: int) -> PartMeta | None:
        """The part, if it is there."""
        return self._parse(part_number, self.file.read(self._SLOT_SIZE, self._offset(part_number)))

    def parts(self) -> Iterator[PartMeta]:
        """All parts that are there, by number."""
        first = 1
        while block := self.file.read(self._SLOT_SIZE * self._SLOTS_PER_READ, self._offset(first)):
            for number, start in enumerate(range(0, len(block), self._SLOT_SIZE), first):
                part = self._parse(number, block[start : start + self._SLOT_SIZE])
                if part is not None:
                    yield part
            first += self._SLOTS_PER_READ

    def _parse(self, part_number: int, slot: bytes) -> PartMeta | None:
        fields = slot[: self._FIELDS.size]
        if len(slot) < self._SLOT_SIZE or sha256(fields).digest() != slot[self._FIELDS.size :]:
            return None
        number, size, tag = self._FIELDS.unpack(fields)
        return PartMeta(part_number=number, size=size, e_tag=tag.hex()) if number == part_number else None

    def _offset(self, part_number: int) -> int:
        return (part_number - 1) * self._SLOT_SIZE
