"""What can be made of any store with conditional writes: claims, updates, locks and counters; and a cache.

They know the contract of a store (:mod:`rindle.objectstore.base`) and no store in particular.
"""

from rindle.objectstore.marker import Holder
from rindle.recipes.claim import try_claim
from rindle.recipes.counter import Counter
from rindle.recipes.errors import (
    CounterLimitError,
    LockedError,
    LockLostError,
    NotACounterError,
    RecipeError,
    UpdateConflictError,
    UpdateTimeoutError,
)
from rindle.recipes.http_cache import CachedObject, CacheStats, HttpCache
from rindle.recipes.lock import Lock
from rindle.recipes.update import Updated, update_object

__all__ = [
    "CacheStats",
    "CachedObject",
    "Counter",
    "CounterLimitError",
    "Holder",
    "HttpCache",
    "Lock",
    "LockLostError",
    "LockedError",
    "NotACounterError",
    "RecipeError",
    "UpdateConflictError",
    "UpdateTimeoutError",
    "Updated",
    "try_claim",
    "update_object",
]
