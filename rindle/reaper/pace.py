"""How fast, and how long."""

import asyncio
from datetime import timedelta


class Pace:
    """Lets through at most ``rate`` items a second, and none any more when the time is up. None: no such bound."""

    def __init__(self, *, rate: float | None = None, lasts: timedelta | None = None) -> None:
        """It begins now; there must be a running loop."""
        self._clock = asyncio.get_running_loop().time
        self._pause = 0.0 if rate is None else 1 / rate
        self._next = self._clock()
        self._end = float("inf") if lasts is None else self._next + lasts.total_seconds()

    @property
    def over(self) -> bool:
        """Whether the time is up."""
        return self._clock() >= self._end

    async def step(self) -> bool:
        """Wait for the next item's turn; False if its turn does not come any more."""
        now = self._clock()
        turn = max(now, self._next)
        if turn >= self._end:
            return False
        self._next = turn + self._pause
        await asyncio.sleep(turn - now)
        return True
