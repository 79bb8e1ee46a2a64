"""What a recipe may answer instead of a result, besides the errors of its store.

::

    RecipeError
    ├── UpdateConflictError                others were quicker, at every attempt
    ├── UpdateTimeoutError (TimeoutError)  there was no time for another attempt
    ├── LockedError (TimeoutError)         somebody else holds the lock, and did for as long as one wanted to wait
    ├── LockLostError                      the lock is no longer held by the one who thinks so
    ├── CounterLimitError (ValueError)     the counter would fall below its least value
    └── NotACounterError (ValueError)      the object is something else
"""

import logging
from typing import ClassVar

from rindle.errors import RindleError
from rindle.objectstore.marker import Holder


class RecipeError(RindleError):
    """A recipe could not be followed to its end."""

    code = "recipe_error"


class UpdateConflictError(RecipeError):
    """At every attempt somebody else had changed the object first. Nothing of this update was written."""

    code = "update_conflict"
    log_level: ClassVar[int] = logging.WARNING


class UpdateTimeoutError(RecipeError, TimeoutError):
    """The time for an update is over. The message says whether it may have been written."""

    code = "update_timeout"
    log_level: ClassVar[int] = logging.WARNING


class LockedError(RecipeError, TimeoutError):
    """Somebody else holds the lock: ``holder``."""

    code = "locked"
    log_level: ClassVar[int] = logging.INFO

    def __init__(self, message: str, holder: Holder) -> None:
        super().__init__(message)
        self.holder = holder


class LockLostError(RecipeError):
    """The lock was taken away, or could not be renewed in time; somebody else may hold it by now."""

    code = "lock_lost"


class CounterLimitError(RecipeError, ValueError):
    """The counter would fall below the least value that was asked for; it is as it was."""

    code = "counter_limit"
    log_level: ClassVar[int] = logging.INFO


class NotACounterError(RecipeError, ValueError):
    """The object under the counter's key is something else; it is as it was."""

    code = "not_a_counter"
