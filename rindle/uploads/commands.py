"""What a protocol may ask of the engine."""

from collections.abc import Sequence
from dataclasses import dataclass

from rindle.uploads.checksum import Checksum


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateUpload:
    """``length`` None: declared later. ``body_length`` None: not said (chunked), or no body comes with it.

    ``filename`` and ``content_type`` are what the client says of its file, as it says them.
    """

    owner: str
    length: int | None
    metadata: str = ""
    filename: str | None = None
    content_type: str | None = None
    partial: bool = False
    concat: str | None = None
    body_length: int | None = None
    checksum: Checksum | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConcatenateUploads:
    """Join complete partial uploads of the same owner, in this order; repeats are allowed."""

    owner: str
    sources: Sequence[str]
    concat: str
    metadata: str = ""
    filename: str | None = None
    content_type: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AppendBytes:
    """``body_length`` None: not said (chunked). ``length``: declared by this request for a deferred upload."""

    upload_id: str
    owner: str
    offset: int
    body_length: int | None = None
    length: int | None = None
    checksum: Checksum | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminateUpload:
    """Drop an upload and what was stored of it."""

    upload_id: str
    owner: str
