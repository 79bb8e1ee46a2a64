"""nginx and HAProxy, each with the very file that ops/ ships, in the foreground and with ports of this machine."""

import asyncio
import os
import re
import shutil
import signal
import socket
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

from typing_extensions import override

from tests.acceptance.process import ROOT, eventually
from tests.http import Client, id_of
from tests.required import missing

_PATIENCE = 30.0


class Balancer(ABC):
    """One load balancer before nodes that listen on these ports."""

    program: str
    shipped: Path

    def __init__(self, folder: Path, nodes: Sequence[int], *, edits: Mapping[str, str] | None = None) -> None:
        """``edits``: further texts of the shipped file, and what stands there instead."""
        self.port = free_port()
        self.folder = folder
        self._nodes = nodes
        self._edits = edits or {}
        self._process: asyncio.subprocess.Process | None = None
        folder.mkdir(exist_ok=True)

    @property
    def client(self) -> Client:
        return Client("127.0.0.1", self.port)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}/files"

    @property
    def log(self) -> str:
        """What it says of requests, and of itself."""
        return (self.folder / "log").read_text()

    def nodes_of(self, location: str) -> list[int]:
        """Where each request for an upload was answered, by its own log: the number of the node, -1 for none."""
        answers = re.findall(rf"/files/{id_of(location)} .* node=(.*)$", self.log, re.MULTILINE)
        return [self._number(answer) for answer in answers]

    async def start(self) -> None:
        """Return when it takes connections."""
        self._write()
        with (self.folder / "log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder
            )
        await eventually(self._listens, f"{self.program} takes connections")

    async def stop(self) -> None:
        """End it at once, as an operator's mistake would."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.terminate()
            async with asyncio.timeout(_PATIENCE):
                await process.wait()

    def send_signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def render(self) -> str:
        """The shipped file, changed where an operator must, and nowhere else."""
        text = self.shipped.read_text()
        changes = {f"10.0.0.{number}:8080": f"127.0.0.1:{port}" for number, port in enumerate(self._nodes, 1)}
        for original, change in {**changes, **self._local_changes(), **self._edits}.items():
            assert original in text, f"{self.shipped} has no {original!r} any more"
            text = text.replace(original, change)
        return text

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.returncode is None, self.log
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    @abstractmethod
    def _local_changes(self) -> Mapping[str, str]: ...

    @abstractmethod
    def _write(self) -> None: ...

    @abstractmethod
    def _command(self) -> list[str]: ...

    @abstractmethod
    def check(self) -> subprocess.CompletedProcess[str]:
        """What the program itself says about the file."""

    @abstractmethod
    def _number(self, answer: str) -> int: ...


class Nginx(Balancer):
    program = "nginx"
    shipped = ROOT / "ops" / "nginx" / "rindle.conf"

    @override
    def check(self) -> subprocess.CompletedProcess[str]:
        self._write()
        return _run(*self._command(), "-t")

    @override
    def _local_changes(self) -> Mapping[str, str]:
        return {
            "listen 80;": f"listen 127.0.0.1:{self.port};",
            "127.0.0.1:8079": f"127.0.0.1:{free_port()}",
            "/var/log/nginx/rindle.log": str(self.folder / "log"),
        }

    @override
    def _write(self) -> None:
        (self.folder / "rindle.conf").write_text(self.render())
        temporary = "".join(
            f"{kind}_temp_path {self.folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        # What the distribution's nginx.conf says around it.
        (self.folder / "nginx.conf").write_text(
            f"{'user root;' if os.geteuid() == 0 else ''}\n"
            "daemon off;\nworker_processes 2;\nerror_log stderr warn;\n"
            f"pid {self.folder}/pid;\nevents {{}}\n"
            f"http {{\n{temporary}include {self.folder}/rindle.conf;\n}}\n"
        )

    @override
    def _command(self) -> list[str]:
        return [find_program(self.program), "-p", str(self.folder), "-c", str(self.folder / "nginx.conf")]

    @override
    def _number(self, answer: str) -> int:
        port = answer.rpartition(":")[2]
        return self._nodes.index(int(port)) if port.isdigit() else -1


class HAProxy(Balancer):
    program = "haproxy"
    shipped = ROOT / "ops" / "haproxy" / "rindle.cfg"

    @override
    def check(self) -> subprocess.CompletedProcess[str]:
        return _run(find_program(self.program), "-c", "-f", str(self.shipped))

    async def reload(self) -> None:
        """As `systemctl reload haproxy` does; return when the old process has ended."""
        # In its first seconds it would hand nothing over: it waits for what an older process might hand to it.
        ready = re.compile(r"^0x.* flags=0x\d*3 ", re.MULTILINE)
        await eventually(lambda: ready.search(self._ask("show peers")) is not None, "its table may be handed over")
        old = self._workers()
        self.send_signal(signal.SIGUSR2)
        await eventually(lambda: bool(self._workers()) and not old & self._workers(), "the old worker has ended")

    def _ask(self, command: str) -> str:
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            with socket.socket(socket.AF_UNIX) as admin:
                admin.connect(f"/proc/self/fd/{folder}/admin.sock")  # the path itself may be too long for a socket
                admin.sendall(f"{command}\n".encode())
                with admin.makefile() as answer:
                    return answer.read()
        finally:
            os.close(folder)

    def _workers(self) -> set[str]:
        assert self._process is not None
        return set(Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split())

    @override
    def _local_changes(self) -> Mapping[str, str]:
        return {
            "bind :80 ": f"bind 127.0.0.1:{self.port} ",
            "127.0.0.1:10000": f"127.0.0.1:{free_port()}",
            "log /dev/log local0": "log stdout format raw local0",
            "/run/haproxy/admin.sock": "unix@admin.sock",
            "maxconn 20000": "maxconn 500",  # it wants twice as many open files
        }

    @override
    def _write(self) -> None:
        (self.folder / "haproxy.cfg").write_text(self.render())

    @override
    def _command(self) -> list[str]:
        return [find_program(self.program), "-W", "-f", str(self.folder / "haproxy.cfg")]

    @override
    def _number(self, answer: str) -> int:
        found = re.match(r"n(\d) ", answer)
        return int(found[1]) - 1 if found else -1


def find_program(name: str) -> str:
    """A load balancer, wherever it is: sbin is not on everybody's PATH."""
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if path is None:
        missing(name, f"{name} is not installed")
    return path


def free_port() -> int:
    """A port that nobody listens on at the moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=_PATIENCE)
