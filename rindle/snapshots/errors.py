"""What a snapshot store may answer instead of a result, besides the errors of the object store below it.

::

    SnapshotError
    ├── NoCurrentError (LookupError)           the stack has no current snapshot
    ├── SnapshotNotFoundError (LookupError)    no snapshot has this revision
    ├── CurrentSnapshotError                   what is current is not deleted
    ├── CurrentMovedError                      somebody else has made another snapshot the current one
    ├── RevisionsExhaustedError                too many snapshots in one nanosecond
    ├── StackLockedError (TimeoutError)        somebody else holds the stack's lock
    ├── StackLockLostError                     the stack's lock was taken away
    ├── DamagedSnapshotError                   what is stored is not what was written
    ├── WrongKeyError                          the snapshot was sealed in another way, or with another key
    └── KeyServiceError                        the service that keeps the key does not answer, or refuses
"""

import logging
from typing import ClassVar

from rindle.errors import RindleError
from rindle.objectstore.marker import Holder


class SnapshotError(RindleError):
    """A snapshot store could not do what it was asked to."""

    code = "snapshot_error"


class NoCurrentError(SnapshotError, LookupError):
    """No snapshot of the stack has been made the current one yet."""

    code = "no_current_snapshot"
    log_level: ClassVar[int] = logging.INFO


class SnapshotNotFoundError(SnapshotError, LookupError):
    """No snapshot of the stack has this revision."""

    code = "snapshot_not_found"
    log_level: ClassVar[int] = logging.INFO


class CurrentSnapshotError(SnapshotError):
    """The current snapshot is not deleted; another one must be made current first."""

    code = "snapshot_is_current"
    log_level: ClassVar[int] = logging.INFO


class CurrentMovedError(SnapshotError):
    """Another snapshot is current than the one that was to be replaced: ``current``, None if none is."""

    code = "current_moved"
    log_level: ClassVar[int] = logging.WARNING

    def __init__(self, message: str, current: str | None) -> None:
        super().__init__(message)
        self.current = current


class RevisionsExhaustedError(SnapshotError):
    """All revisions of this nanosecond are taken; nothing was written."""

    code = "revisions_exhausted"


class StackLockedError(SnapshotError, TimeoutError):
    """Somebody else holds the lock of the stack: ``holder``."""

    code = "stack_locked"
    log_level: ClassVar[int] = logging.INFO

    def __init__(self, message: str, holder: Holder) -> None:
        super().__init__(message)
        self.holder = holder


class StackLockLostError(SnapshotError):
    """The lock was taken away by force; somebody else may have held it meanwhile."""

    code = "stack_lock_lost"


class DamagedSnapshotError(SnapshotError):
    """The object was changed since it was written, or comes from another stack or revision; or it is no snapshot."""

    code = "snapshot_damaged"


class WrongKeyError(SnapshotError):
    """The snapshot was sealed in another way than this store opens them, or with another key."""

    code = "snapshot_wrong_key"


class KeyServiceError(SnapshotError):
    """The service that keeps the key does not answer, or refuses its use."""

    code = "key_service_error"
