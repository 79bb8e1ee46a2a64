"""What the operating system says, in the words of the object store."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from rindle.objectstore.errors import (
    InvalidKeyError,
    ObjectStoreError,
    PermissionDeniedError,
    StoreFullError,
    StoreUnavailableError,
)

STORE = "local"
_TRANSLATIONS: dict[int, type[ObjectStoreError]] = {
    errno.ENOSPC: StoreFullError,
    errno.EDQUOT: StoreFullError,
    errno.EFBIG: StoreFullError,
    errno.EACCES: PermissionDeniedError,
    errno.EPERM: PermissionDeniedError,
    errno.EROFS: PermissionDeniedError,
    errno.ENAMETOOLONG: InvalidKeyError,
}


@contextmanager
def translated(key: str | None = None) -> Iterator[None]:
    """Turn an OSError into the ObjectStoreError that says the same; the store's own errors pass."""
    try:
        yield
    except ObjectStoreError:
        raise
    except OSError as error:
        kind = _TRANSLATIONS.get(error.errno or 0, StoreUnavailableError)
        raise kind(str(error), store=STORE, key=key) from error
