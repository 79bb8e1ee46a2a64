"""The root of every error that rindle raises.

::

    RindleError
    ├── ConfigurationError            a setting, file or schema that the operator must mend
    ├── ObjectStoreError              rindle.objectstore.errors
    ├── BucketError                   rindle.buckets.errors
    ├── RecipeError                   rindle.recipes.errors
    ├── SnapshotError                 rindle.snapshots.errors
    ├── UploadError                   rindle.uploads.errors
    ├── RepositoryError               rindle.uploads.errors (raised by rindle.db)
    └── ProtocolError                 rindle.protocols.errors

No error below ``rindle.protocols`` knows an HTTP status. ``str(error)`` may hold keys and paths; what is logged is
``log_message``, which holds none, and only ``public_message`` reaches a client.
"""

import logging
from typing import ClassVar


class RindleError(Exception):
    """Base of all errors of rindle.

    ``code`` is stable across releases: clients and dashboards may match on it.
    """

    code: ClassVar[str] = "internal_error"
    log_level: ClassVar[int] = logging.ERROR
    public_message: str = "The server could not do this. Try again later."

    @property
    def log_message(self) -> str:
        """What is wrong, for operators: with names of settings, nodes and uploads, but no key, path or token."""
        return str(self)


class ConfigurationError(RindleError):
    """What the operator set, or the database it points at, cannot be used; the message says the mend."""

    code = "configuration_error"
