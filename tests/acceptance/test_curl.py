"""curl, by hand."""

import asyncio
import subprocess
from pathlib import Path

import pytest

from tests.acceptance.clients import find_curl
from tests.acceptance.conftest import MIB, MakeFile, Serve, digest, object_of, settled_offset
from tests.acceptance.process import Server

SIZE = 6 * MIB + 7


@pytest.fixture(scope="session")
def curl() -> str:
    return find_curl()


def patch(curl: str, server: Server, location: str, offset: int, *arguments: str | Path) -> list[str]:
    headers = ["Tus-Resumable: 1.0.0", "Content-Type: application/offset+octet-stream", f"Upload-Offset: {offset}"]
    return [
        *(
            curl,
            "--silent",
            "--show-error",
            "--request",
            "PATCH",
            "--url",
            f"http://{server.host}:{server.port}{location}",
        ),
        *(argument for header in headers for argument in ("--header", header)),
        *("--output", "/dev/null", "--write-out", "%{http_code} %{size_upload}"),
        *map(str, arguments),
    ]


async def run(command: list[str], source: Path | None = None) -> str:
    """What the command prints."""
    with (source or Path("/dev/null")).open("rb") as stdin:
        process = await asyncio.create_subprocess_exec(*command, stdin=stdin, stdout=subprocess.PIPE)
        output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode()


async def test_a_file_in_one_request(serve: Serve, curl: str, make_file: MakeFile) -> None:
    server, source = await serve(), make_file(SIZE)
    location = await server.client.create(SIZE)
    assert await run(patch(curl, server, location, 0, "--upload-file", source)) == f"204 {SIZE}"
    assert digest(object_of(server, location)) == digest(source)


async def test_a_file_in_chunks_whose_length_nobody_knows(serve: Serve, curl: str, make_file: MakeFile) -> None:
    server, source = await serve(), make_file(SIZE)
    location = await server.client.create(None)
    await run(patch(curl, server, location, 0, "--upload-file", "-"), source)
    assert (await server.client.head(location)).offset == SIZE
    declared = await server.client.patch(location, SIZE, b"", ("Upload-Length", str(SIZE)))
    assert declared.status == 204
    assert digest(object_of(server, location)) == digest(source)


@pytest.mark.invariant("I13", "I14")
async def test_a_file_that_waits_to_be_asked_for(serve: Serve, curl: str, make_file: MakeFile) -> None:
    server, source = await serve(), make_file(SIZE)
    location = await server.client.create(SIZE)
    waiting = ("--header", "Expect: 100-continue", "--expect100-timeout", "50", "--upload-file", source)
    refused = patch(curl, server, location, 1, *waiting)
    assert await run(refused) == "409 0", "a byte was sent although the offset is wrong"
    assert await run(patch(curl, server, location, 0, *waiting)) == f"204 {SIZE}"
    assert digest(object_of(server, location)) == digest(source)


async def test_a_slow_upload_is_killed_and_goes_on_where_it_stood(serve: Serve, curl: str, make_file: MakeFile) -> None:
    server, source = await serve("--part-size", "64KiB"), make_file(SIZE)
    location = await server.client.create(SIZE)
    slow = patch(curl, server, location, 0, "--limit-rate", "1M", "--upload-file", source)
    process = await asyncio.create_subprocess_exec(*slow, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while (await server.client.head(location)).offset == 0:
        assert process.returncode is None
    process.kill()
    await process.wait()
    offset = await settled_offset(server, location)
    assert 0 < offset < SIZE
    with source.open("rb") as file:
        file.seek(offset)
        rest = source.with_suffix(".rest")
        rest.write_bytes(file.read())
    assert await run(patch(curl, server, location, offset, "--upload-file", rest)) == f"204 {SIZE - offset}"
    assert digest(object_of(server, location)) == digest(source)


async def test_the_command_that_the_server_prints_works(serve: Serve, curl: str, tmp_path: Path) -> None:
    server = await serve()
    await server.wait_for_output("--data-binary hello!")
    command = server.output.partition("try it:\n")[2].partition("\n\n")[0]
    process = await asyncio.create_subprocess_shell(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    answer, _ = await process.communicate()
    head = answer.decode()
    assert head.startswith("HTTP/1.1 201 ")
    (location,) = [line.split()[1] for line in head.splitlines() if line.lower().startswith("location:")]
    assert object_of(server, location).read_bytes() == b"hello!"
