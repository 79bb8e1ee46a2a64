"""Processes that do something at once; and scripts that start them, apart from what pytest has in its own process."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path


def race(child: Callable[[int], int], racers: int) -> list[int]:
    """Start that many processes, let them go at once, and give what each returned as its exit code."""
    ready, go = os.pipe()
    children = [_fork(partial(_started, ready, go, child, number)) for number in range(racers)]
    os.close(ready)
    os.close(go)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def _fork(child: Callable[[], int]) -> int:
    process = os.fork()
    if process == 0:
        code = 1
        try:
            code = child()
        finally:
            os._exit(code)
    return process


def _started(ready: int, go: int, child: Callable[[int], int], number: int) -> int:
    os.close(go)
    os.read(ready, 1)  # ends when the last writer has closed: all are there
    return child(number)


async def run_script(script: Path, *args: str | Path | int) -> str:
    """What a script prints; its error output is shown when it fails. Its own processes end with it."""
    async with _process(script, *args, errors=subprocess.PIPE) as process:
        output, errors = await process.communicate()
        assert process.returncode == 0, errors.decode()
        return output.decode()


@asynccontextmanager
async def running_script(
    script: Path, *args: str | Path | int, until: bytes
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A script that has printed this line; it is killed in the end."""
    async with _process(script, *args, errors=None) as process:
        assert process.stdout is not None
        assert await process.stdout.readline() == until
        yield process


@asynccontextmanager
async def _process(
    script: Path, *args: str | Path | int, errors: int | None
) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", str(script), *map(str, args)),
        env=_environment(),
        stdout=subprocess.PIPE,
        stderr=errors,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)  # with all that it has started
            await process.communicate()


def _environment() -> dict[str, str]:
    """What can be imported here can be there; and the keys for test servers."""
    path = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return path | {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
