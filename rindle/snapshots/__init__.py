"""Versioned states in any object store: snapshots, a pointer to the current one, and a lock.

They know the contract of a store (:mod:`rindle.objectstore.base`) and no store in particular.
"""

from rindle.objectstore.marker import Holder
from rindle.snapshots.encrypters import Encrypter, NoEncryption, Sealed
from rindle.snapshots.errors import (
    CurrentMovedError,
    CurrentSnapshotError,
    DamagedSnapshotError,
    KeyServiceError,
    NoCurrentError,
    RevisionsExhaustedError,
    SnapshotError,
    SnapshotNotFoundError,
    StackLockedError,
    StackLockLostError,
    WrongKeyError,
)
from rindle.snapshots.store import Collected, Snapshot, SnapshotStore

__all__ = [
    "Collected",
    "CurrentMovedError",
    "CurrentSnapshotError",
    "DamagedSnapshotError",
    "Encrypter",
    "Holder",
    "KeyServiceError",
    "NoCurrentError",
    "NoEncryption",
    "RevisionsExhaustedError",
    "Sealed",
    "Snapshot",
    "SnapshotError",
    "SnapshotNotFoundError",
    "SnapshotStore",
    "StackLockLostError",
    "StackLockedError",
    "WrongKeyError",
]
