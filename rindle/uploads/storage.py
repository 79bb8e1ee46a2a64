"""Where bytes and rows go: what every step of an upload works with."""

from dataclasses import dataclass

from rindle.objectstore.base import MultipartStore
from rindle.objectstore.types import NO_ATTRIBUTES, Attributes, MultipartOptions, MultipartRef
from rindle.uploads.budget import MemoryBudget
from rindle.uploads.errors import UploadGoneError, UploadNotFoundError
from rindle.uploads.ids import is_upload_id
from rindle.uploads.keys import new_key, upload_prefix
from rindle.uploads.model import Upload
from rindle.uploads.ports import UploadRepository
from rindle.uploads.tail import Tails

MARKER = "rindle-upload"


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """Store, rows, tails and memory of one engine.

    ``key_root`` is the prefix of all keys; ``parts_in_flight`` counts per append.
    """

    store: MultipartStore
    repository: UploadRepository
    tails: Tails
    budget: MemoryBudget
    key_root: str
    parts_in_flight: int

    def attributes(self, upload_id: str) -> Attributes:
        """The mark by which an object is known as this upload's."""
        if not self.store.capabilities.attributes:
            return NO_ATTRIBUTES
        return Attributes(metadata={MARKER: upload_id})

    async def create_multipart(self, upload: Upload, *, part_size: int | None) -> MultipartRef:
        """A new multipart under a key of its own."""
        options = MultipartOptions(part_size=part_size, attributes=self.attributes(upload.id))
        return await self.store.create_multipart(new_key(self.key_root, upload.id), options)

    def prefix(self, upload: Upload) -> str:
        """What every key of this upload starts with."""
        return upload_prefix(self.key_root, upload.id)

    async def load(self, upload_id: str, owner: str) -> Upload:
        """The row, if this owner may know of it and it is not gone. UploadNotFoundError, UploadGoneError."""
        upload = await self.repository.find(upload_id) if is_upload_id(upload_id) else None
        if upload is None or upload.owner != owner:
            raise UploadNotFoundError(upload_id)
        if upload.gone:
            raise UploadGoneError(upload_id)
        return upload
