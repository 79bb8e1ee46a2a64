"""The clients of others, run as their users run them."""

import asyncio
import fcntl
import json
import shutil
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.acceptance.process import ROOT, environment
from tests.required import missing

CLIENTS = ROOT / "tests" / "clients"

Event = Mapping[str, Any]


class TusJsRun:
    """One upload of tus-js-client; see tests/clients/upload.mjs for what it says."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.events: list[Event] = []
        self._process = process

    async def wait_for(self, kind: str) -> Event:
        """The next event of this kind."""
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            self.events.append(json.loads(line))
            if self.events[-1]["event"] == kind:
                return self.events[-1]
        raise AssertionError(f"tus-js-client ended before {kind!r}: {self.events}")

    @property
    def requests(self) -> list[str]:
        """The methods of the requests that were answered, in order."""
        return [event["method"] for event in self.events if event["event"] == "response"]


class TusJs:
    """tus-js-client on Node.js."""

    def __init__(self, node: str) -> None:
        self._node = node

    @asynccontextmanager
    async def running(self, endpoint: str, source: Path, **order: object) -> AsyncIterator[TusJsRun]:
        """An upload at work, killed in the end if it has not ended itself."""
        order = {"endpoint": endpoint, "source": str(source), **order}
        process = await asyncio.create_subprocess_exec(
            *(self._node, str(CLIENTS / "upload.mjs"), json.dumps(order)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env=environment(),
        )
        try:
            yield TusJsRun(process)
        finally:
            if process.returncode is None:
                process.kill()
            assert process.stdout is not None
            await process.stdout.read()
            await process.wait()

    async def upload(self, endpoint: str, source: Path, *, until: str = "success", **order: object) -> TusJsRun:
        """An upload from its start to this event."""
        async with self.running(endpoint, source, **order) as run:
            await run.wait_for(until)
        return run


def install_tus_js() -> TusJs:
    """Node.js with the packages of tests/clients, from the registry where they are not there yet."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        missing("node", "node and npm are not installed: tus-js-client stays untried")
    locked, installed = CLIENTS / "package-lock.json", CLIENTS / "node_modules" / ".package-lock.json"
    with locked.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the workers of pytest-xdist start together
        if not installed.exists() or installed.stat().st_mtime < locked.stat().st_mtime:
            npm_ci = subprocess.run([npm, "ci"], check=False, cwd=CLIENTS, capture_output=True, text=True, timeout=100)
            if npm_ci.returncode != 0:
                missing("node", f"npm ci failed in {CLIENTS}: {' '.join(npm_ci.stderr.splitlines()[:3])}")
    return TusJs(node)


def find_curl() -> str:
    """curl, wherever it is."""
    curl = shutil.which("curl")
    if curl is None:
        missing("curl", "curl is not installed")
    return curl
