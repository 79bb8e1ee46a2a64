"""Exit codes, the same for every command; 2, wrong usage, is click's."""

from rindle.errors import ConfigurationError, RindleError
from rindle.objectstore.errors import TransientStoreError
from rindle.snapshots.errors import NoCurrentError, SnapshotNotFoundError
from rindle.uploads.errors import DatabaseUnavailableError, UploadNotFoundError

DONE = 0
FAILED = 1
"""Something could not be done; of several things some."""
MISCONFIGURED = 3
UNREACHABLE = 4
"""The database or the store does not answer: try again later."""
NOT_FOUND = 5


def exit_code_of(error: RindleError) -> int:
    """The code for a command that ends by this error."""
    match error:
        case ConfigurationError():
            return MISCONFIGURED
        case DatabaseUnavailableError() | TransientStoreError():
            return UNREACHABLE
        case UploadNotFoundError() | NoCurrentError() | SnapshotNotFoundError():
            return NOT_FOUND
        # Of buckets, by their codes: their errors come with an SDK that need not be there.
        case RindleError(code="bucket_not_found" | "access_key_not_found" | "policy_not_found"):
            return NOT_FOUND
        case _:
            return FAILED
