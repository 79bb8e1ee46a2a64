"""One bound on the bytes that all uploads of a process hold in memory."""


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
