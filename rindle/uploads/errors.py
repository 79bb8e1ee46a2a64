"""What may go wrong with an upload, whatever the protocol.

::

    UploadError(upload_id)
    ├── UploadNotFoundError          unknown, or another owner's: one shape for both
    ├── UploadGoneError              terminated, expired or failed; it will not come back
    ├── UploadCompleteError          complete, and the request would change it
    ├── UploadFinalizingError        all bytes are in; the object is being made
    ├── UploadIsFinalError           a concatenation takes no bytes
    ├── UploadBusyError              another request is appending right now
    ├── OffsetMismatchError          (expected, given)
    ├── LengthMismatchError          a length against the one that is fixed, or below the offset
    ├── LengthExceededError          more bytes than the upload's length
    ├── MaxSizeExceededError         more bytes than this server takes
    ├── ChecksumMismatchError        the bytes of this request are not the ones that were meant
    ├── ConcatenationError           the partial uploads cannot be joined
    ├── TailMissingError             acknowledged bytes are not to be had (here, or any more)
    ├── LeaseLostError               another request took over while this one was appending
    ├── ServerBusyError              this server takes no more bodies at the same time
    ├── DrainingError                this server is shutting down
    └── BodyError                    why a body ended early; remembered by the body, see rindle.uploads.body
        ├── ClientDisconnectedError
        ├── ReadTimeoutError
        ├── ReleaseRequestedError
        └── UploadTerminatedError
    RepositoryError
    ├── StaleUploadError             compare-and-set found another predecessor: nothing was changed
    ├── DuplicateUploadError
    └── DatabaseUnavailableError     no answer; a write may or may not have been done
"""

import logging
from typing import ClassVar, Literal

from rindle.errors import RindleError


class UploadError(RindleError):
    """Something about one upload. ``public_message`` names no key, path or node."""

    code = "upload_error"
    log_level: ClassVar[int] = logging.INFO

    def __init__(self, upload_id: str | None, public_message: str | None = None, *, detail: str = "") -> None:
        if public_message is not None:
            self.public_message = public_message
        super().__init__(" ".join(filter(None, (upload_id and f"upload {upload_id}:", self.public_message, detail))))
        self.upload_id = upload_id


class UploadNotFoundError(UploadError):
    code = "upload_not_found"
    public_message = "There is no such upload. Create a new one."


class UploadGoneError(UploadError):
    code = "upload_gone"
    public_message = "This upload was terminated, expired or failed. Create a new one."


class UploadCompleteError(UploadError):
    code = "upload_complete"
    public_message = "This upload is complete and cannot be changed."


class UploadFinalizingError(UploadError):
    code = "upload_finalizing"
    public_message = "All bytes have arrived; the object is being assembled. Ask again shortly."


class UploadIsFinalError(UploadError):
    code = "upload_is_final"
    public_message = "This upload is the concatenation of others and takes no bytes of its own."


class UploadBusyError(UploadError):
    code = "upload_locked"
    public_message = "Another request is appending to this upload. Ask for the offset shortly, then go on from there."


class OffsetMismatchError(UploadError):
    code = "offset_mismatch"
    public_message = "The upload is at another offset. Continue from there, or ask with HEAD."

    def __init__(self, upload_id: str, *, expected: int, given: int) -> None:
        super().__init__(
            upload_id, f"The upload is at offset {expected}, not {given}. Continue from there, or ask with HEAD."
        )
        self.expected = expected
        self.given = given


class LengthMismatchError(UploadError):
    code = "length_mismatch"
    public_message = "Upload-Length is not the upload's, or is below its offset."


class LengthExceededError(UploadError):
    code = "length_exceeded"
    public_message = "The body goes past the upload's length. Send no more than that."

    def __init__(self, upload_id: str | None, *, length: int) -> None:
        super().__init__(upload_id, f"The body goes past the upload's length of {length} bytes. Send no more.")
        self.length = length


class MaxSizeExceededError(UploadError):
    code = "max_size_exceeded"
    public_message = "This server takes no uploads of that size."

    def __init__(self, upload_id: str | None, *, max_size: int) -> None:
        super().__init__(upload_id, f"This server takes uploads of at most {max_size} bytes.")
        self.max_size = max_size


class ChecksumMismatchError(UploadError):
    code = "checksum_mismatch"
    public_message = "The bytes do not match Upload-Checksum. They were discarded; send them again."


class ConcatenationError(UploadError):
    code = "invalid_concatenation"
    public_message = "These uploads cannot be joined."


_MENDS = {
    "elsewhere": "Operator: send an upload's requests to one node; a node that is stopped leaves its tails to all.",
    "missing": "Operator: see whether somebody removed files from the owner's folder for tails.",
    "short": "Operator: see whether the owner's disk lost writes, or its folder for tails was restored from a backup.",
    "corrupt": "Operator: see whether the owner's disk is damaged.",
}


class TailMissingError(UploadError):
    """Acknowledged bytes that should be on a node's disk are not.

    ``reason``: ``elsewhere`` (another node holds them), ``missing``, ``short`` or ``corrupt``. ``final``: they will
    not come back, so that the upload can only be made anew.
    """

    code = "tus_tail_missing"
    public_message = "The last acknowledged bytes of this upload are on another node (try again), or lost (410)."
    log_level: ClassVar[int] = logging.WARNING

    def __init__(
        self,
        upload_id: str,
        *,
        reason: Literal["elsewhere", "missing", "short", "corrupt"],
        node: str,
        final: bool,
    ) -> None:
        message = (
            "The last acknowledged bytes of this upload are lost. Create a new upload."
            if final
            else "The last acknowledged bytes of this upload are on another node. Try again shortly."
        )
        super().__init__(upload_id, message, detail=f"[tail {reason}, owner {node}] {_MENDS[reason]}")
        self.reason = reason
        self.node = node
        self.final = final


class LeaseLostError(UploadError):
    code = "lease_lost"
    public_message = "Another request took this upload over. Ask for the offset, then go on from there."


class ServerBusyError(UploadError):
    code = "server_busy"
    log_level: ClassVar[int] = logging.WARNING
    public_message = "This server takes as many uploads as it can. Try again in a moment."


class DrainingError(UploadError):
    code = "server_draining"
    public_message = "This server is shutting down. What arrived was kept; go on in a moment."


class BodyError(UploadError):
    """Why a body ended before its end. What arrived is kept first; then this becomes the answer."""

    code = "body_interrupted"

    def __init__(self, upload_id: str | None = None) -> None:
        super().__init__(upload_id)


class ClientDisconnectedError(BodyError):
    code = "client_disconnected"
    public_message = "The connection ended before the body did. What arrived was kept."


class ReadTimeoutError(BodyError):
    code = "read_timeout"
    public_message = "The body came too slowly or not at all. What arrived was kept; ask for the offset and go on."


class ReleaseRequestedError(BodyError):
    code = "upload_interrupted"
    public_message = "Another request for this upload took over. What arrived was kept; ask for the offset and go on."


class UploadTerminatedError(BodyError):
    code = "upload_terminated"
    public_message = "This upload was terminated while its body arrived."


class RepositoryError(RindleError):
    code = "repository_error"
    public_message = "The server cannot reach its records. What was acknowledged is kept; try again later."


class StaleUploadError(RepositoryError):
    """The row is not in the state that was compared; nothing was changed."""

    code = "stale_upload"
    log_level: ClassVar[int] = logging.INFO


class DuplicateUploadError(RepositoryError):
    code = "duplicate_upload"


class DatabaseUnavailableError(RepositoryError):
    """The database did not answer. Of a write, it is not known whether it was done."""

    code = "database_unavailable"
    log_level: ClassVar[int] = logging.WARNING
