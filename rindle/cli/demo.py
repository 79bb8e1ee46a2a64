"""`rindle demo`: the promise, seen with one's own eyes."""

import asyncio
import hashlib
import os
import tempfile
import time
from collections.abc import AsyncIterator, Container, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import click

from rindle.bootstrap import Components, open_components, serve_components
from rindle.cli.options import settings_from, settings_options
from rindle.cli.server import bind, run, serving, url_of
from rindle.errors import RindleError
from rindle.settings import Settings

_MIB = 1 << 20
_BLOCK = _MIB
_CUT_AT = 0.4
_NO_CONTENT = 204
_ASK_AGAIN = (409, 423)


@click.command()
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False, readable=True, path_type=Path))
@click.option("--size", type=click.IntRange(1), default=50, show_default=True, help="MiB of random bytes without FILE.")
@settings_options("part_size")
def demo(file: Path | None, size: int, **flags: Any) -> None:  # noqa: ANN401 - one for each setting
    """Serve, upload FILE, cut the connection at 40 %, resume, and compare.

    Everything is kept in a temporary folder and removed in the end.
    """
    with tempfile.TemporaryDirectory(prefix="rindle-demo-") as folder:
        settings = _settings_for(Path(folder) / "data", settings_from(flags).part_size)
        source = file or _make_file(Path(folder) / "random", size * _MIB)
        if source.stat().st_size == 0:
            msg = f"{source} is empty: there is nothing to cut"
            raise click.BadParameter(msg)
        run(_demonstrate(settings, source, source.stat().st_size))


def _settings_for(data: Path, part_size: int) -> Settings:
    """The defaults, whatever else is set for this machine's real server: its records and objects are left alone."""
    defaults = {name: field.get_default() for name, field in Settings.model_fields.items()}
    return Settings(**{**defaults, "data": data, "port": 0, "part_size": part_size})


async def _demonstrate(settings: Settings, file: Path, size: int) -> None:
    began = time.perf_counter()
    listener = bind(settings.host, settings.port)
    grace = settings.shutdown_grace.total_seconds()
    async with open_components(settings) as components:
        app = serve_components(components)
        async with app.lifespan(), serving(app, listener, grace=grace):
            equal = await _upload_and_compare(components, url_of(listener) + settings.path, file, size)
    click.echo(f"{'compare':<8}sha256 of the object and of the file are {'equal' if equal else 'DIFFERENT'}")
    if not equal:
        msg = "the object is not the file"
        raise RindleError(msg)
    click.echo(f"{'done':<8}in {time.perf_counter() - began:.2f} s")


async def _upload_and_compare(components: Components, endpoint: str, file: Path, size: int) -> bool:
    click.echo(f"{'serve':<8}{endpoint}")
    click.echo(f"{'file':<8}{file.name}, {size / _MIB:.1f} MiB")
    location = await _upload_with_a_cut(endpoint, file, size)
    return await _digest_object(components, location.rsplit("/", 1)[-1]) == _digest(_read(file, 0, size))


async def _upload_with_a_cut(endpoint: str, file: Path, size: int) -> str:
    client = _Client(endpoint)
    status, headers = await client.request("POST", client.path, {"Upload-Length": str(size)})
    location = headers["location"]
    click.echo(f"{'POST':<8}{status}, the upload is at {location}")
    cut = int(size * _CUT_AT)
    await client.send_and_cut(location, _read(file, 0, cut), size)
    click.echo(f"{'PATCH':<8}cut off after {cut} of {size} bytes")
    offset = await client.find_offset(location)
    click.echo(f"{'HEAD':<8}200, the server kept {offset} bytes")
    began = time.perf_counter()
    status, headers = await client.append(location, offset, _read(file, offset, size - offset), size - offset)
    took = time.perf_counter() - began
    rate = (size - offset) / _MIB / took
    click.echo(f"{'PATCH':<8}{status}, resumed at {offset}, {size - offset} bytes in {took:.2f} s ({rate:.0f} MiB/s)")
    return location


class _Client:
    """As much of a tus client as the demonstration needs, one connection for each request."""

    def __init__(self, endpoint: str) -> None:
        authority, _, path = endpoint.removeprefix("http://").partition("/")
        self._host, _, port = authority.rpartition(":")
        self._port = int(port)
        self.path = f"/{path}"

    async def request(
        self, method: str, path: str, headers: dict[str, str], *, tolerate: Container[int] = ()
    ) -> tuple[int, dict[str, str]]:
        async with self._send_head(method, path, {**headers, "Content-Length": "0"}) as (reader, _):
            return await _read_head(reader, tolerate)

    async def append(self, path: str, offset: int, body: Iterator[bytes], size: int) -> tuple[int, dict[str, str]]:
        async with self._send_head("PATCH", path, _append_headers(offset, size)) as (reader, writer):
            for block in body:
                writer.write(block)
                await writer.drain()
            return await _read_head(reader)

    async def send_and_cut(self, path: str, body: Iterator[bytes], announced: int) -> None:
        async with self._send_head("PATCH", path, _append_headers(0, announced)) as (_, writer):
            for block in body:
                writer.write(block)
                await writer.drain()

    async def find_offset(self, path: str) -> int:
        # Right after a cut the server may still be keeping what came. An append of nothing waits for that.
        while True:
            _, headers = await self.request("HEAD", path, {})
            offset = int(headers["upload-offset"])
            status, _ = await self.request("PATCH", path, _append_headers(offset, 0), tolerate=_ASK_AGAIN)
            if status == _NO_CONTENT:
                return offset

    @asynccontextmanager
    async def _send_head(
        self, method: str, path: str, headers: dict[str, str]
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        reader, writer = await asyncio.open_connection(self._host.strip("[]"), self._port)
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self._host}:{self._port}", "Tus-Resumable: 1.0.0"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        try:
            yield reader, writer
        finally:
            writer.close()
            await writer.wait_closed()


def _append_headers(offset: int, size: int) -> dict[str, str]:
    return {
        "Content-Type": "application/offset+octet-stream",
        "Content-Length": str(size),
        "Upload-Offset": str(offset),
    }


async def _read_head(reader: asyncio.StreamReader, tolerate: Container[int] = ()) -> tuple[int, dict[str, str]]:
    status_line, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines if line)
    status = int(status_line.split()[1])
    if status >= 400 and status not in tolerate:  # noqa: PLR2004 - an error of ours
        msg = f"the server answered {status_line}"
        raise RindleError(msg)
    return status, {name.lower(): value.strip() for name, _, value in pairs}


async def _digest_object(components: Components, upload_id: str) -> str:
    upload = await components.repository.find(upload_id)
    if upload is None or upload.key is None:
        msg = "the upload has no object"
        raise RindleError(msg)
    digest = hashlib.sha256()
    async with await components.store.get(upload.key) as found:
        async for chunk in found:
            digest.update(chunk)
    return digest.hexdigest()


def _digest(blocks: Iterator[bytes]) -> str:
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(block)
    return digest.hexdigest()


def _read(file: Path, offset: int, size: int) -> Iterator[bytes]:
    with file.open("rb") as source:
        source.seek(offset)
        while size > 0 and (block := source.read(min(_BLOCK, size))):
            size -= len(block)
            yield block


def _make_file(path: Path, size: int) -> Path:
    with path.open("wb") as file:
        for _ in range(0, size, _MIB):
            file.write(os.urandom(_MIB))
    return path
