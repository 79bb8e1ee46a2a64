"""Where everything lies under the root; nothing else computes a path.

::

    <root>/<key>                                     an object: a plain file
    <root>/.rindle/tmp/<random>                      a file or directory without a name yet, or no longer
    <root>/.rindle/locks/<2 hex>                     lock files that all changes of a key take, striped by its hash
    <root>/.rindle/attributes/<2 hex>/<hash>.<stamp>.json   what is beside an object, if there is anything
    <root>/.rindle/staging/<multipart id>/           an unfinished multipart: meta.json, index, data
"""

import hashlib
import os
import re
from contextlib import AbstractContextManager
from pathlib import Path

from rindle.objectstore.disk import locked, make_directories
from rindle.objectstore.errors import InvalidKeyError
from rindle.objectstore.local.errors import STORE
from rindle.objectstore.refusals import no_multipart
from rindle.objectstore.types import MultipartRef

OWN = ".rindle"
_NAME_MAX = 255
_MULTIPART_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)


class Layout:
    """Paths under one root."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.temporary = root / OWN / "tmp"
        self.staging = root / OWN / "staging"
        self._locks = root / OWN / "locks"
        self._attributes = root / OWN / "attributes"

    def prepare(self) -> None:
        """Make the root and our own directories in it, durably, where they are missing."""
        make_directories(self.root)
        for directory in (self.temporary, self.staging, self._locks, self._attributes):
            make_directories(directory, 0o700)

    def object(self, key: str) -> Path:
        """Where the object lies. InvalidKeyError for a key that cannot be a file's path here."""
        first, *_ = segments = key.split("/")
        if first.casefold() == OWN:  # some file systems do not tell them apart
            msg = f"keys under {OWN}/ are this store's own"
            raise InvalidKeyError(msg, store=STORE, key=key)
        if any(len(os.fsencode(segment)) > _NAME_MAX for segment in segments):
            msg = f"between two '/' this store takes at most {_NAME_MAX} bytes, the length of a file name"
            raise InvalidKeyError(msg, store=STORE, key=key)
        return self.root / key

    def locked(self, key: str) -> AbstractContextManager[None]:
        """The lock that whoever changes the key holds while comparing and replacing."""
        return locked(self._locks / _digest(key)[:2])

    def sidecar(self, key: str, status: os.stat_result) -> Path:
        """Where the attributes and tags of exactly this version of the object lie."""
        digest = _digest(key)
        return self._attributes / digest[:2] / f"{digest}.{status.st_mtime_ns:x}-{status.st_size:x}.json"

    def multipart(self, ref: MultipartRef) -> Path:
        """The directory of an unfinished multipart. MultipartNotFoundError for an id that is none of ours."""
        if not _MULTIPART_ID.fullmatch(ref.multipart_id):
            raise no_multipart(ref, store=STORE)
        return self.staging / ref.multipart_id


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
