"""Where all servers put what they take: a sink, a real S3 server, or folders on this machine."""

import json
import re
import shutil
import subprocess
import sys
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from typing_extensions import override

from benchmarks.client import connect
from benchmarks.pattern import MIB, Digest
from benchmarks.processes import MissingError, free_port, running
from rindle.objectstore.payload import crc64nvme

ROOT = Path(__file__).parents[1]
KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}

EndpointName = Literal["sink", "versitygw", "folder"]

_VERSITYGW = ROOT / ".versitygw" / "versitygw"
_LISTENING = re.compile(r"^listening on (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Place:
    """Where one server has to put its objects: a bucket of an endpoint, or a folder.

    ``environment``: what makes the SDKs of all languages believe in the endpoint.
    """

    bucket: str
    url: str | None = None
    folder: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Taken:
    """What came to one place. ``calls`` is None where they cannot be counted."""

    written: Counter[Digest]
    calls: Counter[str] | None = None


class Endpoint(ABC):
    """One place for each server, so that nobody's calls are taken for another's."""

    latency = False
    """Whether calls can be made slower."""

    @abstractmethod
    def place(self, server: str) -> Place:
        """Where this server puts its objects."""

    @abstractmethod
    async def take(self, server: str) -> Taken:
        """What came since the last time; what was written before that may be among it once more."""

    @abstractmethod
    async def forget(self, server: str) -> None:
        """Remove what came."""

    async def set_latency(self, seconds: float) -> None:
        """Answer every call so much later."""
        raise NotImplementedError


class Sink(Endpoint):
    """See :mod:`benchmarks.sink`."""

    latency = True

    def __init__(self, url: str, environment: Mapping[str, str]) -> None:
        self._url = url
        self._environment = environment

    @override
    def place(self, server: str) -> Place:
        return Place(server, url=self._url, environment=self._environment)

    @override
    async def take(self, server: str) -> Taken:
        report = await self._control(f"take?bucket={server}")
        written = Counter((size, crc) for size, crc in report["written"])
        return Taken(written, Counter(report["calls"]))

    @override
    async def forget(self, server: str) -> None:
        await self._control(f"forget?bucket={server}")

    @override
    async def set_latency(self, seconds: float) -> None:
        await self._control(f"latency?ms={seconds * 1000}")

    async def _control(self, action: str) -> Any:  # noqa: ANN401 - JSON
        async with connect(self._url, trust=self._environment.get("SSL_CERT_FILE")) as connection:
            connection.begin("POST", f"/-/{action}", {"Content-Length": "0"})
            answer = await connection.answer(200)
            return json.loads(answer.body or "null")


class Folders(Endpoint):
    """A folder for each server, which writes files into it."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @override
    def place(self, server: str) -> Place:
        folder = self._root / server
        folder.mkdir(parents=True, exist_ok=True)
        return Place(server, folder=folder)

    @override
    async def take(self, server: str) -> Taken:
        return Taken(Counter(_digest(path) for path in self._files(server)))

    @override
    async def forget(self, server: str) -> None:
        for path in self._files(server):
            path.unlink()

    def _files(self, server: str) -> Iterator[Path]:
        """But for those in hidden folders, where servers keep what is no object."""
        root = self._root / server
        for path in sorted(root.rglob("*")):
            hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
            if path.is_file() and not hidden:
                yield path


class Versitygw(Folders):
    """A real S3 server, which checks signatures and writes files into a folder for each bucket."""

    _CALL = re.compile(r" s3_(\w+) \S+ /([^/ ?]+)\S* (\d+) (\S+) ")

    def __init__(self, url: str, root: Path, log: Path) -> None:
        super().__init__(root)
        self._url = url
        self._log = log
        self._read_up_to: Counter[str] = Counter()

    @override
    def place(self, server: str) -> Place:
        super().place(server)
        return Place(server, url=self._url, environment=KEYS)

    @override
    async def take(self, server: str) -> Taken:
        taken = await super().take(server)
        lines = self._log.read_text().splitlines()
        calls: Counter[str] = Counter()
        for line in lines[self._read_up_to[server] :]:
            if (found := self._CALL.search(line)) and found[2] == server:
                calls[found[1] if int(found[3]) < 400 else f"{found[1]} {found[4]}"] += 1  # noqa: PLR2004 - HTTP
        self._read_up_to[server] = len(lines)
        return Taken(taken.written, calls)


@asynccontextmanager
async def open_endpoint(name: EndpointName, scratch: Path, *, tls: bool = False) -> AsyncIterator[Endpoint]:
    """Start an endpoint for as long as the block runs. MissingError says what is not there."""
    folder = scratch / "endpoint"
    folder.mkdir()
    match name:
        case "sink":
            async with _open_sink(folder, tls=tls) as sink:
                yield sink
        case "versitygw":
            async with _open_versitygw(folder) as versitygw:
                yield versitygw
        case "folder":
            yield Folders(folder)


@asynccontextmanager
async def _open_sink(folder: Path, *, tls: bool) -> AsyncIterator[Sink]:
    command = [sys.executable, "-m", "benchmarks.sink"]
    environment = dict(KEYS)
    if tls:
        certificate = _make_certificate(folder)
        command += ["--certificate", str(certificate)]
        environment |= dict.fromkeys(("AWS_CA_BUNDLE", "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS"), str(certificate))
    path = {"PYTHONPATH": str(ROOT)}
    async with running(command, log=folder / "sink.log", ready=_LISTENING, environment=path) as (_, url):
        yield Sink(url, environment)


def _make_certificate(folder: Path) -> Path:
    if shutil.which("openssl") is None:
        msg = "TLS needs openssl, to make a certificate"
        raise MissingError(msg)
    path = folder / "certificate.pem"
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    subprocess.run(
        [*command, *subject, "-keyout", path, "-out", folder / "public.pem"], check=True, capture_output=True
    )
    with path.open("a") as file:
        file.write((folder / "public.pem").read_text())
    return path


@asynccontextmanager
async def _open_versitygw(folder: Path) -> AsyncIterator[Versitygw]:
    if not _VERSITYGW.exists():
        msg = "there is no versitygw: make versitygw (with Go)"
        raise MissingError(msg)
    data, calls = folder / "data", folder / "calls.log"
    data.mkdir()
    keys = {"ROOT_ACCESS_KEY": KEYS["AWS_ACCESS_KEY_ID"], "ROOT_SECRET_KEY": KEYS["AWS_SECRET_ACCESS_KEY"]}
    address = f"127.0.0.1:{free_port()}"
    command: list[str | Path] = [_VERSITYGW, "--port", address, "--access-log", calls, "posix", data]
    ready = re.compile(r"(http://[0-9.]+:\d+)")
    async with running(command, log=folder / "versitygw.log", ready=ready, environment=keys) as (_, url):
        yield Versitygw(url, data, calls)


def _digest(path: Path) -> Digest:
    size = crc = 0
    with path.open("rb") as file:
        while chunk := file.read(MIB):
            size += len(chunk)
            crc = crc64nvme(chunk, crc)
    return size, crc
