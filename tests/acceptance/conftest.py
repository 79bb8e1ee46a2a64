"""Servers as processes of their own, with the files that they are sent."""

import hashlib
import random
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from tests.acceptance.clients import TusJs, install_tus_js
from tests.acceptance.process import Server
from tests.http import id_of

MIB = 1 << 20

Serve = Callable[..., Awaitable[Server]]
MakeFile = Callable[[int], Path]


@pytest.fixture
async def serve(tmp_path: Path, sqlite_template: Path) -> AsyncIterator[Serve]:
    """Starts servers; flags as arguments. None may end with a traceback in what it said."""
    servers: list[Server] = []

    async def start(*flags: str, data: Path = tmp_path / "data") -> Server:
        if not data.exists():
            data.mkdir()
            shutil.copy(sqlite_template, data / "rindle.db")  # spares every test the migrations
        servers.append(Server(data, *flags))
        await servers[-1].start()
        return servers[-1]

    yield start
    for server in servers:
        await server.aclose()
    for server in servers:
        assert "Traceback" not in server.output, server.output


@pytest.fixture
def make_file(tmp_path: Path) -> MakeFile:
    """Files of random bytes, by their size."""

    def make(size: int) -> Path:
        path = tmp_path / f"source-{size}"
        path.write_bytes(random.Random(size).randbytes(size))
        return path

    return make


@pytest.fixture(scope="session")
def tus_js() -> TusJs:
    """tus-js-client on Node.js."""
    return install_tus_js()


def object_of(server: Server, location: str) -> Path:
    """The file that the upload of this URL or path became."""
    (path,) = (server.data / "objects" / "uploads" / id_of(location)).iterdir()
    return path


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


async def settled_offset(server: Server, location: str) -> int:
    """The offset once the server has kept what came before a cut: it answers an append of nothing only then."""
    while True:
        found = await server.client.head(location)
        assert found.status == 200
        nothing = await server.client.patch(location, found.offset, b"")
        if nothing.status == 204:
            return found.offset
        assert nothing.status in (409, 423), nothing
