"""Objects as plain files under a directory of this machine."""

from rindle.objectstore.local.store import LocalStore

__all__ = ["LocalStore"]
