"""The servers that are compared, each started as its own documents say, with the same parts, disk and patience."""

import importlib.metadata
import json
import platform
import re
import shutil
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from typing_extensions import override

from benchmarks.endpoints import ROOT, Place
from benchmarks.processes import MissingError, Process, running
from tests.postgres import NOT_INSTALLED, find_binaries, run_postgres

INSTALLED = ROOT / ".bench"

_TUSD = INSTALLED / "tusd"
_NODE = INSTALLED / "node"


@dataclass(frozen=True, slots=True)
class Launch:
    """How a server is started. ``ready`` finds in its log the URL at which uploads are created."""

    command: Sequence[str | Path]
    ready: re.Pattern[str]
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Running:
    """A server that runs. ``database``: the processes that keep its records, if it has any."""

    name: str
    url: str
    process: Process
    log: Path
    database: Process | None = None


class Server(ABC):
    """One of the servers, with one configuration."""

    name: str

    @abstractmethod
    def version(self) -> str:
        """What exactly is compared. MissingError says what has to be installed first."""

    @abstractmethod
    def launch(self, place: Place, folder: Path, *, part_size: int) -> Launch:
        """How it is started. ``folder``: for whatever it keeps besides the objects."""

    @property
    def database(self) -> Process | None:
        """What works for it and is not its child."""
        return None

    @property
    def memory_budget(self) -> int | None:
        """The bound that it keeps on the bytes of bodies in memory, if it has one."""
        return None

    @asynccontextmanager
    async def running(
        self, place: Place, folder: Path, *, part_size: int, cores: frozenset[int]
    ) -> AsyncIterator[Running]:
        """Start it for as long as the block runs."""
        (folder / "tmp").mkdir(parents=True)
        launch = self.launch(place, folder, part_size=part_size)
        log = folder / "log"
        environment = {**launch.environment, "TMPDIR": str(folder / "tmp")}
        async with running(launch.command, log=log, ready=launch.ready, cores=cores, environment=environment) as (
            process,
            url,
        ):
            yield Running(self.name, url, process, log, self.database)


@dataclass(frozen=True, slots=True)
class Postgres:
    """A database with rindle's schema, and the processes that serve it."""

    url: str
    process: Process
    version: str


@contextmanager
def open_postgres() -> Iterator[Postgres]:
    """A PostgreSQL server for as long as the block runs. Like everything else, it waits for no disk."""
    binaries = find_binaries()
    if binaries is None:
        raise MissingError(NOT_INSTALLED)
    said = subprocess.run([binaries / "postgres", "--version"], check=True, capture_output=True, text=True).stdout
    with run_postgres(binaries) as server, server.database(migrated=True) as name:
        yield Postgres(server.url(name), Process(server.pid()), f"PostgreSQL {said.split()[2]}")


class Rindle(Server):
    """``rindle serve``, with its records in SQLite or in PostgreSQL."""

    def __init__(self, *, memory_budget: int, postgres: Postgres | None = None) -> None:
        self.name = "rindle-sqlite" if postgres is None else "rindle-postgres"
        self._postgres = postgres
        self._memory_budget = memory_budget

    @property
    @override
    def database(self) -> Process | None:
        return None if self._postgres is None else self._postgres.process

    @property
    @override
    def memory_budget(self) -> int:
        return self._memory_budget

    @override
    def version(self) -> str:
        packages = ["uvicorn", "uvloop", "httptools", "aiobotocore", "aiohttp", "SQLAlchemy"]
        packages += ["aiosqlite"] if self._postgres is None else ["psycopg"]
        versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
        database = "" if self._postgres is None else f", {self._postgres.version}"
        rindle = importlib.metadata.version("rindle-uploads")
        return f"rindle {rindle}{_commit()}, Python {platform.python_version()}, {versions}{database}"

    @override
    def launch(self, place: Place, folder: Path, *, part_size: int) -> Launch:
        command: list[str | Path] = [
            *(sys.executable, "-m", "rindle", "serve", "--port", "0", "--data", folder / "data"),
            *("--store", _store_url(place), "--part-size", str(part_size)),
            *("--memory-budget", str(self._memory_budget), "--idle-timeout", "5m", "--log-level", "warning"),
        ]
        if self._postgres is not None:
            command += ["--database", self._postgres.url]
        ready = re.compile(r"^rindle takes tus uploads at +(http://\S+)$", re.MULTILINE)
        return Launch(command, ready, {"PYTHONPATH": str(ROOT), **place.environment})


def _store_url(place: Place) -> str:
    if place.folder is not None:
        return place.folder.as_uri()
    # Told what there is, so that nothing is tried at start: what AWS does, but for conditions, which uploads need not.
    return f"s3://{place.bucket}?endpoint={place.url}&region=us-east-1&checksums=crc64nvme&conditions=none"


def _commit() -> str:
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    described = subprocess.run(command, check=False, capture_output=True, text=True)
    return f" ({described.stdout.strip()})" if described.returncode == 0 else ""


class Tusd(Server):
    """tusd, as it is, or without the digests that its S3 client makes of all bytes (``-s3-disable-content-hashes``)."""

    def __init__(self, *, hashes: bool) -> None:
        self.name = "tusd" if hashes else "tusd-unhashed"
        self._hashes = hashes

    @override
    def version(self) -> str:
        if not _TUSD.exists():
            msg = "tusd is not installed: make bench installs it, with Go"
            raise MissingError(msg)
        if shutil.which("go") is None:
            return "tusd"
        built = subprocess.run(["go", "version", "-m", _TUSD], check=True, capture_output=True, text=True).stdout
        compiler = built.split()[1]
        versions = re.findall(r"\s(?:mod|dep)\s+(\S*(?:tusd/v2|service/s3))\s+(v\S+)", built)
        return ", ".join(["tusd", compiler, *(f"{name.rpartition('/')[2]} {version}" for name, version in versions)])

    @override
    def launch(self, place: Place, folder: Path, *, part_size: int) -> Launch:
        command: list[str | Path] = [_TUSD, "-host", "127.0.0.1", "-port", "0", "-verbose=false"]
        command += ["-network-timeout", "5m"]
        if place.folder is not None:
            command += ["-upload-dir", place.folder]
        else:
            command += ["-s3-bucket", place.bucket, "-s3-endpoint", str(place.url), "-s3-part-size", str(part_size)]
            if not self._hashes:
                command.append("-s3-disable-content-hashes")
        ready = re.compile(r"You can now upload files to: (http://\S+)$", re.MULTILINE)
        return Launch(command, ready, place.environment)


class TusNode(Server):
    """@tus/server, on @tus/s3-store or @tus/file-store."""

    name = "tus-node"

    @override
    def version(self) -> str:
        if not (_NODE / "node_modules").exists() or shutil.which("node") is None:
            msg = "@tus/server is not installed: make bench installs it, with npm"
            raise MissingError(msg)
        node = subprocess.run(["node", "--version"], check=True, capture_output=True, text=True).stdout.strip()
        packages = [f"@tus/{name}" for name in ("server", "s3-store", "file-store")] + ["@aws-sdk/client-s3"]
        versions = [
            f"{name} {json.loads((_NODE / 'node_modules' / name / 'package.json').read_text())['version']}"
            for name in packages
        ]
        return ", ".join([f"Node.js {node}", *versions])

    @override
    def launch(self, place: Place, folder: Path, *, part_size: int) -> Launch:
        if place.folder is not None:
            order: dict[str, object] = {"folder": str(place.folder)}
        else:
            order = {"endpoint": place.url, "bucket": place.bucket, "partSize": part_size}
        ready = re.compile(r"^listening on (http://\S+)$", re.MULTILINE)
        return Launch(["node", _NODE / "server.mjs", json.dumps(order)], ready, place.environment)
