"""Where bytes and rows go: what every step of an upload works with."""

import contextlib
from dataclasses import dataclass

from rindle.objectstore.base import MultipartStore
from rindle.objectstore.errors import NotFoundError, ObjectStoreError
from rindle.objectstore.types import (
    Attributes,
    GetOptions,
    MultipartOptions,
    MultipartRef,
    ObjectMeta,
    PutOptions,
)
from rindle.observability.observer import Observer
from rindle.uploads.budget import MemoryBudget
from rindle.uploads.buffer import PartBuffer
from rindle.uploads.errors import UploadGoneError, UploadNotFoundError
from rindle.uploads.ids import is_upload_id
from rindle.uploads.keys import new_key, tail_prefix, upload_prefix
from rindle.uploads.model import IN_STORE, Tail, Upload
from rindle.uploads.ports import UploadRepository
from rindle.uploads.tail import Tails

MARKER = "rindle-upload"

_HEAD = GetOptions(head=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """Store, rows, tails and memory of one engine.

    ``key_root`` is the prefix of all keys; ``parts_in_flight`` counts per append; ``tails_in_store``: no tail is
    acknowledged that lies on this node's disk only; ``overwrite``: publishing an object may replace another. The
    ``observer`` is told what goes on.
    """

    store: MultipartStore
    repository: UploadRepository
    tails: Tails
    budget: MemoryBudget
    key_root: str
    parts_in_flight: int
    tails_in_store: bool
    overwrite: bool
    observer: Observer

    def put_options(self, upload: Upload) -> PutOptions:
        """How an object of this upload is stored."""
        return PutOptions(attributes=self._attributes(upload))

    def _attributes(self, upload: Upload) -> Attributes:
        """Its type, and the mark by which it is known as this upload's."""
        if not self.store.capabilities.attributes:
            return Attributes()
        return Attributes(content_type=upload.content_type, metadata={MARKER: upload.id})

    async def find_object(self, upload: Upload, key: str) -> ObjectMeta | None:
        """What stands under this key, if it has the length of this upload and, where marks are kept, its mark."""
        try:
            found = await self.store.get(key, _HEAD)
        except NotFoundError:
            return None
        async with found:
            marked = not self.store.capabilities.attributes or found.attributes.metadata.get(MARKER) == upload.id
            return found.meta if marked and found.meta.size == upload.length else None

    async def create_multipart(self, upload: Upload, *, part_size: int | None) -> MultipartRef:
        """A new multipart under a key of its own."""
        options = MultipartOptions(part_size=part_size, attributes=self._attributes(upload))
        return await self.store.create_multipart(self.new_key(upload), options)

    async def put_tail(self, upload: Upload, buffer: PartBuffer) -> Tail:
        """Bring a tail into the store, under a key of its own. The caller's commit names it, or it goes again."""
        key = new_key(self.tail_prefix(upload))
        with buffer.payload() as payload:
            await self.store.put(key, payload, self.put_options(upload))
        return Tail(name=key, node=IN_STORE, length=buffer.size, crc64nvme=buffer.crc64nvme)

    async def drop_tail(self, tail: Tail) -> None:
        """Remove a tail from the store that no row names. If that fails, it goes when the upload ends."""
        with contextlib.suppress(ObjectStoreError):
            await self.store.delete(tail.name)

    def new_key(self, upload: Upload) -> str:
        """Where the object of this upload may stand; another one for each attempt."""
        return new_key(self.object_prefix(upload))

    def object_prefix(self, upload: Upload) -> str:
        """What the key of every object and multipart of this upload starts with."""
        return upload_prefix(self.key_root, upload.id)

    def tail_prefix(self, upload: Upload) -> str:
        """What the key of every tail of this upload that was spilled starts with."""
        return tail_prefix(self.key_root, upload.id)

    async def load(self, upload_id: str, owner: str) -> Upload:
        """The row, if this owner may know of it and it is not gone. UploadNotFoundError, UploadGoneError."""
        upload = await self.repository.find(upload_id) if is_upload_id(upload_id) else None
        if upload is None or upload.owner != owner:
            raise UploadNotFoundError(upload_id)
        if upload.gone:
            raise UploadGoneError(upload_id)
        return upload
