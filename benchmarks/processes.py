"""Processes of the benchmark: on the cores meant for them, watched through ``/proc``, ended one by one."""

import asyncio
import os
import re
import shutil
import signal
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PATIENCE = 60.0
_RESET_PEAK = "5"  # what /proc/<pid>/clear_refs takes for "the peak is what there is now"


class MissingError(Exception):
    """Something that is needed is not installed; the message says how it would be."""


class ServerFailedError(Exception):
    """A process did not do what it is there for; the message has the end of what it said."""


@dataclass(frozen=True, slots=True)
class Cores:
    """One core for the server that is measured, the others for all that it talks to; none where there is but one."""

    server: frozenset[int]
    others: frozenset[int]


def share_cores() -> Cores:
    """Move this process, and what it starts from now on, away from the core of the servers."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) == 1 or shutil.which("taskset") is None:
        return Cores(frozenset(), frozenset())
    shared = Cores(frozenset(cores[:1]), frozenset(cores[1:]))
    os.sched_setaffinity(0, shared.others)
    return shared


class Process:
    """A running program, with whatever it has started."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def cpu_seconds(self) -> float:
        """User and system time of the whole tree, in steps of a hundredth of a second."""
        return sum(stat.ticks for stat in self._tree()) / _TICKS

    def memory(self) -> int:
        """Bytes that are resident now."""
        return sum(_memory(stat.pid, "VmRSS") for stat in self._tree())

    def peak_memory(self) -> int:
        """The most that was resident since :meth:`reset_peak`. Peaks of several processes are added up."""
        return sum(_memory(stat.pid, "VmHWM") for stat in self._tree())

    def reset_peak(self) -> None:
        """Forget the peak."""
        for stat in self._tree():
            Path(f"/proc/{stat.pid}/clear_refs").write_text(_RESET_PEAK)

    def _tree(self) -> list["_Stat"]:
        stats = {stat.pid: stat for stat in _all_stats()}
        tree = [stats[self.pid]] if self.pid in stats else []
        for stat in tree:
            tree += [child for child in stats.values() if child.parent == stat.pid]
        return tree


@asynccontextmanager
async def running(
    command: Sequence[str | Path],
    *,
    log: Path,
    ready: re.Pattern[str],
    cores: frozenset[int] = frozenset(),
    environment: Mapping[str, str] | None = None,
) -> AsyncIterator[tuple[Process, str]]:
    """A program, and what the first group of ``ready`` finds in its log; ended with the block.

    It gets none of this process's settings for rindle or AWS, but those in ``environment``. ServerFailedError if it
    does not become ready.
    """
    hidden = ("RINDLE_", "AWS_")
    variables = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}  # noqa: TID251 - passed on
    words = [str(word) for word in command]
    if cores:
        words = ["taskset", "--cpu-list", ",".join(map(str, sorted(cores))), *words]
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *words,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
            env=variables | dict(environment or {}),
        )
    try:
        yield Process(process.pid), await _wait_until_ready(process, log, ready)
    finally:
        await _end(process)


async def _wait_until_ready(process: asyncio.subprocess.Process, log: Path, ready: re.Pattern[str]) -> str:
    end = asyncio.get_running_loop().time() + _PATIENCE
    while asyncio.get_running_loop().time() < end and process.returncode is None:
        if found := ready.search(log.read_text(errors="replace")):
            return found[1]
        await asyncio.sleep(0.02)
    raise ServerFailedError(f"it did not start: {last_words(log)}")


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(_PATIENCE):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def free_port() -> int:
    """A port for a program that cannot be told to take any."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def last_words(log: Path) -> str:
    """The end of what a process said."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-15:])


@dataclass(frozen=True, slots=True)
class _Stat:
    pid: int
    parent: int
    ticks: int


def _all_stats() -> list[_Stat]:
    stats = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                text = (folder / "stat").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue
            fields = text.rpartition(")")[2].split()  # the name before may hold anything
            stats.append(_Stat(pid=int(folder.name), parent=int(fields[1]), ticks=sum(map(int, fields[11:15]))))
    return stats


def _memory(pid: int, field: str) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    found = re.search(rf"^{field}:\s+(\d+) kB$", status, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0
