"""The part that is being filled: perhaps a tail file first, then chunks in memory."""

from collections.abc import Iterator
from contextlib import contextmanager

from rindle.objectstore.payload import BytesPayload, JoinedPayload, Payload, crc64nvme
from rindle.uploads.budget import MemoryBudget
from rindle.uploads.tail import TailFile, Tails

# A chunk is an object of its own; a body that comes in crumbs would cost many times its size in them.
_SMALL = 16 * 1024
_GATHERED = 64 * 1024
_READ_AHEAD = 1 << 20  # of a file that is sent: what was read and waits for the store, twice


class PartBuffer:
    """Bytes on their way to becoming a part, or a tail.

    They stay in memory while the process's budget lasts and go to the tail file when it does not, so that any number
    of slow uploads needs no more than the budget. ``crc64nvme`` runs over the bytes as they were received.
    """

    def __init__(self, upload_id: str, tails: Tails, budget: MemoryBudget) -> None:
        self.size = 0
        self.crc64nvme = 0
        self.file: TailFile | None = None
        self._upload_id = upload_id
        self._tails = tails
        self._budget = budget
        self._reserved = 0
        self._chunks: list[bytes] = []
        self._crumbs = bytearray()

    def begin_with(self, file: TailFile, crc: int) -> None:
        """Start from a verified tail."""
        self.file = file
        self.size = file.length
        self.crc64nvme = crc

    async def add(self, chunk: bytes) -> None:
        """Take the next bytes. StoreFullError, StoreUnavailableError if they had to go to the disk and could not."""
        self.size += len(chunk)
        self.crc64nvme = crc64nvme(chunk, self.crc64nvme)
        if len(chunk) >= _SMALL:
            self._gather()
            self._chunks.append(chunk)
        else:
            self._crumbs += chunk
            if len(self._crumbs) >= _GATHERED:
                self._gather()
        if self._budget.take(len(chunk)):
            self._reserved += len(chunk)
        else:
            await self.flush()

    async def flush(self) -> TailFile:
        """Bring all bytes into the tail file."""
        if self.file is None:
            self.file = await self._tails.create(self._upload_id)
        self._gather()
        if self._chunks:
            await self.file.append(self._chunks)
            self.release()
        return self.file

    @contextmanager
    def payload(self) -> Iterator[Payload]:
        """All bytes, as a body that a store can check, to be sent while the block runs."""
        self._gather()
        memory = BytesPayload(*self._chunks, crc64nvme=self.crc64nvme)
        if self.file is None:
            yield memory
            return
        with self._budget.holding(_READ_AHEAD):
            yield JoinedPayload([self.file.payload(), memory], crc64nvme=self.crc64nvme)

    def release(self) -> None:
        """Let go of the bytes in memory: they are stored elsewhere, or given up."""
        self._chunks = []
        self._budget.give(self._reserved)
        self._reserved = 0

    def _gather(self) -> None:
        if self._crumbs:
            self._chunks.append(bytes(self._crumbs))
            self._crumbs = bytearray()
