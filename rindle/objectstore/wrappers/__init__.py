"""Stores around stores: each changes one thing, and passes the contract of the store inside.

They can be put around each other: ``metered(retrying(limited(store, 32)), stats)``.
"""

from rindle.objectstore.wrappers.limit import limited
from rindle.objectstore.wrappers.meter import Meter, OperationStats, StoreCall, StoreStats, metered
from rindle.objectstore.wrappers.prefix import prefixed
from rindle.objectstore.wrappers.read_only import read_only
from rindle.objectstore.wrappers.retry import RetryBudget, retrying

__all__ = [
    "Meter",
    "OperationStats",
    "RetryBudget",
    "StoreCall",
    "StoreStats",
    "limited",
    "metered",
    "prefixed",
    "read_only",
    "retrying",
]
