"""The one place that reads the process's clocks.

Wall time is for what people read (a file's modification time, a log line). It decides nothing:
leases and expiry use the database's clock, timeouts the event loop's.
"""

import time
from datetime import UTC, datetime


def utc_now() -> datetime:
    """The current instant, aware, in UTC."""
    return datetime.now(UTC)  # noqa: TID251 - here it is


def wall_time_ns() -> int:
    """Nanoseconds since the epoch, finer than the tick that file systems stamp files with."""
    return time.time_ns()
