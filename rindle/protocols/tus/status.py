"""One table: which error is which status in tus, and when to ask again.

The choice is made for what real clients do. tus-js-client starts from byte 0 when HEAD answers anything but 2xx or
423, retries PATCH and POST on 409, 423 and 5xx, and gives up on every other 4xx.
"""

from rindle.errors import ConfigurationError, RindleError
from rindle.objectstore.errors import ObjectStoreError, StoreFullError
from rindle.protocols import errors as protocol
from rindle.uploads import errors as uploads

LOCKED = 423
CHECKSUM_MISMATCH = 460

STATUS: dict[type[RindleError], int] = {
    RindleError: 500,
    ConfigurationError: 500,
    ObjectStoreError: 503,
    StoreFullError: 507,
    protocol.ProtocolError: 400,
    protocol.MalformedHeaderError: 400,
    protocol.MalformedRequestError: 400,
    protocol.HeaderTooLargeError: 431,
    protocol.UnsupportedVersionError: 412,
    protocol.UnsupportedMediaTypeError: 415,
    protocol.MethodNotAllowedError: 405,
    protocol.BodyForbiddenError: 403,
    protocol.NotAuthenticatedError: 401,
    protocol.NotPermittedError: 403,
    uploads.UploadError: 400,
    uploads.UploadNotFoundError: 404,
    uploads.UploadGoneError: 410,
    uploads.UploadCompleteError: 403,
    uploads.UploadFinalizingError: LOCKED,
    uploads.UploadIsFinalError: 403,
    uploads.UploadBusyError: LOCKED,
    uploads.OffsetMismatchError: 409,
    uploads.LengthMismatchError: 400,
    uploads.LengthExceededError: 413,
    uploads.MaxSizeExceededError: 413,
    uploads.ChecksumMismatchError: CHECKSUM_MISMATCH,
    uploads.ConcatenationError: 400,
    uploads.TailMissingError: 503,
    uploads.LeaseLostError: LOCKED,
    uploads.ServerBusyError: 503,
    uploads.DrainingError: 503,
    uploads.BodyError: 400,
    uploads.ClientDisconnectedError: 400,
    uploads.ReadTimeoutError: 503,
    uploads.ReleaseRequestedError: LOCKED,
    uploads.UploadTerminatedError: 410,
    uploads.RepositoryError: 503,
    uploads.StaleUploadError: 503,
    uploads.DuplicateUploadError: 503,
    uploads.DatabaseUnavailableError: 503,
}
RETRY_AFTER = {LOCKED: 1, 503: 5, 507: 30}
"""Seconds after which asking again makes sense."""


def status_of(error: RindleError, *, method: str) -> int:
    """The status that says this error to a client that sent ``method``."""
    status = next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
    if isinstance(error, uploads.TailMissingError) and error.final:
        status = 410
    # On HEAD only 423 keeps the upload: everything else makes clients start anew.
    return LOCKED if method == "HEAD" and status >= 500 else status  # noqa: PLR2004 - the 5xx class
