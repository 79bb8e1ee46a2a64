"""Whether the object of a complete upload is what its record says."""

from dataclasses import dataclass, replace
from typing import Literal

from rindle.objectstore.errors import NotFoundError
from rindle.objectstore.payload import crc64nvme
from rindle.objectstore.types import GetOptions
from rindle.uploads.errors import UploadBusyError
from rindle.uploads.model import EventType, Upload, UploadState
from rindle.uploads.storage import MARKER, Storage

Fault = Literal["missing", "size", "marker", "content", "e_tag"]

_WHOLE = GetOptions()
_HEAD = GetOptions(head=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What is wrong with one upload. ``e_tag`` is that of the object that stands under its key, if one does."""

    upload: Upload
    fault: Fault
    detail: str
    e_tag: str | None = None


async def verify(storage: Storage, upload: Upload, *, deep: bool) -> Finding | None:
    """Compare the object of a COMPLETE upload with its record; None if they agree.

    By its size, mark and e_tag; ``deep``: by the checksum of its bytes too, all of which are read for that.
    """
    assert upload.key is not None  # noqa: S101 - a complete upload has an object
    try:
        found = await storage.store.get(upload.key, _WHOLE if deep else _HEAD)
    except NotFoundError:
        return Finding(upload=upload, fault="missing", detail=f"there is no object {upload.key}")
    async with found:
        e_tag = found.meta.e_tag
        if found.meta.size != upload.length:
            detail = f"the object has {found.meta.size} bytes, the upload {upload.length}"
            return Finding(upload=upload, fault="size", detail=detail, e_tag=e_tag)
        if storage.store.capabilities.attributes and found.attributes.metadata.get(MARKER) != upload.id:
            return Finding(upload=upload, fault="marker", detail="the object is not this upload's", e_tag=e_tag)
        if deep and upload.crc64nvme is not None:
            crc = 0
            async for chunk in found:
                crc = crc64nvme(chunk, crc)
            if crc != upload.crc64nvme:
                detail = "the object's bytes are not those that were received"
                return Finding(upload=upload, fault="content", detail=detail, e_tag=e_tag)
    if e_tag != upload.e_tag:
        detail = f"the object's e_tag is {e_tag}, the record's {upload.e_tag}"
        return Finding(upload=upload, fault="e_tag", detail=detail, e_tag=e_tag)
    return None


async def repair(storage: Storage, finding: Finding) -> Upload:
    """Make the record say what is so; the object is never touched. The upload as it is then.

    Where only the e_tag differs, the record takes the object's. Otherwise the object is lost: the upload is FAILED, and
    whoever asks for it is told so (410). UploadBusyError while it is being joined into another; StaleUploadError if it
    has changed since it was looked at.
    """
    upload = finding.upload
    if finding.fault == "e_tag":
        return await storage.repository.commit(upload, replace(upload, e_tag=finding.e_tag))
    if upload.pins:
        raise UploadBusyError(upload.id)
    failed = replace(upload, state=UploadState.FAILED, reason=f"object_{finding.fault}")
    return await storage.repository.commit(upload, failed, events=[EventType.FAILED])
