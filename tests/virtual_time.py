"""An event loop whose clock stands while there is work, and jumps when all wait: hours pass at once, to the second."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

from typing_extensions import override

Result = TypeVar("Result")


_A_DAY = 86400.0


class _Selector(selectors.SelectSelector):
    now = 0.0
    end = _A_DAY

    @override
    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is None:
            msg = "all wait for something, and nothing is going to happen"
            raise AssertionError(msg)
        if not ready and timeout:
            self.now += timeout
        if self.now > self.end:
            self.end = float("inf")  # what is still running is cancelled now, and may take its time
            msg = "a day is over, and nothing has come of it"
            raise AssertionError(msg)
        return ready


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    @override
    def time(self) -> float:
        return self._virtual.now


def virtually(work: Coroutine[Any, Any, Result]) -> Result:
    """Run to the end without waiting for anything. What waits for another thread or process cannot be run so."""
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(work)


def now() -> float:
    """Seconds since the loop began."""
    return asyncio.get_running_loop().time()
