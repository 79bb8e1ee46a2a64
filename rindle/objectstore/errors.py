"""What an object store may answer instead of a result.

::

    ObjectStoreError
    ├── NotFoundError (FileNotFoundError)          no such object
    ├── AlreadyExistsError (FileExistsError)       create-only write, and the key is taken
    ├── PreconditionFailedError                    if-match, if-unmodified-since, update of another version
    ├── NotModifiedError                           if-none-match, if-modified-since
    ├── MultipartNotFoundError                     no such multipart: aborted, completed or never made
    ├── InvalidPartError                           a part is absent, not the one that was put, or outside the limits
    ├── InvalidKeyError (ValueError)               a key that no backend would take
    ├── InvalidRangeError (ValueError)             a byte range outside the object
    ├── IntegrityError                             the bytes are not the ones their digest names
    ├── PermissionDeniedError (PermissionError)    known, and not allowed
    ├── UnauthenticatedError (PermissionError)     not known
    ├── StoreFullError (OSError)                   no room: quota or disk
    ├── UnsupportedOperationError                  this store cannot, and said so in its capabilities
    └── TransientStoreError                        may succeed when tried again; the only kind that is retried
        ├── ThrottledError
        ├── StoreTimeoutError (TimeoutError)
        └── StoreUnavailableError
"""

import errno
import logging
from typing import ClassVar

from typing_extensions import override

from rindle.errors import RindleError


class ObjectStoreError(RindleError):
    """An operation on a store failed. ``store`` names the store, ``key`` the object, where there is one."""

    code = "store_error"
    public_message = "The object store refused the operation. Try again later."

    def __init__(self, message: str, *, store: str, key: str | None = None) -> None:
        super().__init__(message if key is None else f"{message}: {key!r}")
        self.store = store
        self.key = key
        self._message = message

    @property
    @override
    def log_message(self) -> str:
        # A store's own words may name the key too; it can be what a client called its file.
        said = self._message.replace(self.key, "...") if self.key else self._message
        return f"{self.store}: {said}"

    @override
    def __str__(self) -> str:
        # OSError subclasses would otherwise format themselves by errno.
        return f"{self.store}: {self.args[0]}"


class NotFoundError(ObjectStoreError, FileNotFoundError):
    """No object has this key (or this version of it)."""

    code = "object_not_found"
    log_level: ClassVar[int] = logging.INFO


class AlreadyExistsError(ObjectStoreError, FileExistsError):
    """A create-only write found the key taken; nothing was changed."""

    code = "object_exists"
    log_level: ClassVar[int] = logging.INFO


class PreconditionFailedError(ObjectStoreError):
    """The object is not in the state that the caller named; nothing was changed."""

    code = "precondition_failed"
    log_level: ClassVar[int] = logging.INFO


class NotModifiedError(ObjectStoreError):
    """The caller already has this version."""

    code = "not_modified"
    log_level: ClassVar[int] = logging.DEBUG


class MultipartNotFoundError(ObjectStoreError):
    """The multipart is gone: completed, aborted, or removed by a lifecycle rule.

    Never to be read as "complete": only the object itself can say that.
    """

    code = "multipart_not_found"


class InvalidPartError(ObjectStoreError):
    """A part is outside the store's part limits; or, on completion, absent or another attempt's."""

    code = "invalid_part"


class InvalidKeyError(ObjectStoreError, ValueError):
    """The key is empty, too long, or has segments that some backend would read as something else."""

    code = "invalid_key"


class InvalidRangeError(ObjectStoreError, ValueError):
    """The range starts at or after the end of the object, or is empty."""

    code = "invalid_range"
    log_level: ClassVar[int] = logging.INFO


class IntegrityError(ObjectStoreError):
    """The bytes that reached the store are not the ones whose digest the caller gave; nothing was kept."""

    code = "integrity_error"


class PermissionDeniedError(ObjectStoreError, PermissionError):
    """The credentials are good, and do not allow this."""

    code = "store_permission_denied"


class UnauthenticatedError(ObjectStoreError, PermissionError):
    """The store does not know these credentials."""

    code = "store_unauthenticated"


class StoreFullError(ObjectStoreError, OSError):
    """No room left; what was being written was removed again."""

    code = "store_full"
    public_message = "The server has no room left for this upload. What it acknowledged is kept; try again later."

    def __init__(self, message: str, *, store: str, key: str | None = None) -> None:
        super().__init__(message, store=store, key=key)
        self.errno = errno.ENOSPC


class UnsupportedOperationError(ObjectStoreError):
    """The store declares in its capabilities that it cannot do this; nothing was sent."""

    code = "unsupported_operation"


class TransientStoreError(ObjectStoreError):
    """The store could not answer now. The outcome of a write is unknown unless the subclass says otherwise."""

    code = "store_unavailable"
    log_level: ClassVar[int] = logging.WARNING
    public_message = "The object store does not answer. What was acknowledged is kept; try again later."


class ThrottledError(TransientStoreError):
    """The store asks for fewer requests; nothing was done."""

    code = "store_throttled"


class StoreTimeoutError(TransientStoreError, TimeoutError):
    """No answer in time; the operation may have been done."""

    code = "store_timeout"


class StoreUnavailableError(TransientStoreError):
    """Connection refused, reset, or a server error; the operation may have been done."""
