"""One bound on the bytes that all uploads of a process hold in memory."""

from collections.abc import Iterator
from contextlib import contextmanager


class MemoryBudget:
    """Counts bytes. Whoever gets none writes to disk instead, so that nobody ever waits for another's memory."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.used = 0

    def take(self, size: int) -> bool:
        """Reserve bytes, or say that there are none left."""
        if self.used + size > self.size:
            return False
        self.used += size
        return True

    def give(self, size: int) -> None:
        """Return reserved bytes."""
        self.used -= size

    @contextmanager
    def holding(self, size: int) -> Iterator[None]:
        """While the block runs, these bytes are or may be in memory, whether there is room or not: others get fewer."""
        self.used += size
        try:
            yield
        finally:
            self.used -= size
