"""rindle as its operator runs it: processes of its own, spoken to over HTTP and by signals."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from tests.http import Client

ROOT = Path(__file__).parents[2]
RINDLE = (sys.executable, "-m", "rindle")

_ENDPOINT = re.compile(r"rindle takes tus uploads at +http://([0-9.]+):([0-9]+)(/[^\s\"]*)")
_PEAK_RSS = re.compile(r"^VmHWM:\s+(\d+) kB$", re.MULTILINE)
_PATIENCE = 60.0  # a bound for what should take a moment, on a machine that is busy


def environment(**settings: str) -> dict[str, str]:
    """This process's environment without any of rindle's variables, and with these settings."""
    return {name: value for name, value in os.environ.items() if not name.startswith("RINDLE_")} | settings


def run_rindle(
    *arguments: str | Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    before: Sequence[str] = (),
) -> subprocess.CompletedProcess[str]:
    """One command, from start to end. ``before``: a program, with its arguments, that runs it."""
    return subprocess.run(
        [*before, *RINDLE, *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        timeout=_PATIENCE,
        env=environment(**(env or {})),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
    )


def without_rights() -> Sequence[str]:
    """What runs a program so that the rights of a folder count for it, even as root."""
    if os.geteuid() != 0:
        return ()
    unable = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search")
    if subprocess.run([*unable, "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("root cannot give up its rights here")
    return unable


class Server:
    """A ``rindle serve`` that may live several times, on one data folder and, after its first life, one port."""

    def __init__(self, data: Path, *flags: str, variables: Mapping[str, str] | None = None) -> None:
        self.data = data
        self.host = "127.0.0.1"
        self.port = 0
        self.path = "/files"
        self.output = ""
        self.peak_rss = 0
        self._flags = flags
        self._variables = dict(variables or {})
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None

    @property
    def endpoint(self) -> str:
        return f"http://{self.host}:{self.port}{self.path}"

    @property
    def client(self) -> Client:
        return Client(self.host, self.port, self.path)

    async def start(self) -> None:
        """Return when it says where it listens."""
        assert self._process is None
        self._process = await asyncio.create_subprocess_exec(
            *RINDLE,
            "serve",
            *("--port", str(self.port), "--data", str(self.data), *self._flags),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment(**self._variables),
        )
        ready: asyncio.Future[tuple[str, str, str]] = asyncio.get_running_loop().create_future()
        self._reader = asyncio.create_task(self._read(self._process, ready))
        async with asyncio.timeout(_PATIENCE):
            host, port, path = await ready
        self.host, self.port, self.path = host, int(port), path

    async def wait_for_output(self, text: str) -> None:
        """Return when the server has said this, in any of its lives."""
        await eventually(lambda: text in self.output, f"the server says {text!r}")

    def send_signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self.note_memory()
        self._process.send_signal(number)

    async def wait(self) -> int:
        """The exit code, once all output has been read."""
        assert self._process is not None
        assert self._reader is not None
        async with asyncio.timeout(_PATIENCE):
            code = await self._process.wait()
            await self._reader
        self._process = self._reader = None
        return code

    async def terminate(self) -> int:
        """Ask it to stop (SIGTERM); the exit code."""
        self.send_signal(signal.SIGTERM)
        return await self.wait()

    async def kill(self) -> None:
        """End its life as a crash would (SIGKILL)."""
        self.send_signal(signal.SIGKILL)
        await self.wait()

    async def aclose(self) -> None:
        """Kill it if it lives."""
        if self._process is None:
            return
        if self._process.returncode is None:
            self.send_signal(signal.SIGKILL)
        await self.wait()

    def note_memory(self) -> None:
        """Remember the most memory that any of its lives had, in bytes."""
        assert self._process is not None
        try:
            found = _PEAK_RSS.search(Path(f"/proc/{self._process.pid}/status").read_text())
        except FileNotFoundError:
            return
        if found is not None:
            self.peak_rss = max(self.peak_rss, int(found[1]) * 1024)

    async def _read(self, process: asyncio.subprocess.Process, ready: asyncio.Future[tuple[str, str, str]]) -> None:
        assert process.stdout is not None
        life = ""
        async for line in process.stdout:
            life += line.decode()
            self.output += line.decode()
            if not ready.done() and (found := _ENDPOINT.search(life)):
                ready.set_result((found[1], found[2], found[3]))
        if not ready.done():
            ready.set_exception(AssertionError(f"the server ended before it was ready:\n{life}"))


@asynccontextmanager
async def running(*servers: Server) -> AsyncIterator[None]:
    """Start servers, and leave none behind."""
    async with AsyncExitStack() as stack:
        for server in servers:
            stack.push_async_callback(server.aclose)
        await asyncio.gather(*(server.start() for server in servers))
        yield


async def eventually(condition: Callable[[], bool], meaning: str) -> None:
    """Return when a condition holds that nothing announces."""
    try:
        async with asyncio.timeout(_PATIENCE):
            while not condition():  # noqa: ASYNC110 - what another process does sets no event
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"it never came to pass that {meaning}") from None
