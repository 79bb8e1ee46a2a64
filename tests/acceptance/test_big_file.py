"""One file, one PATCH for each attempt, and everything dies on the way, twice."""

import asyncio
import json
import random
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.acceptance.conftest import MIB, Serve, digest, object_of, settled_offset
from tests.acceptance.pattern import Pattern
from tests.acceptance.process import ROOT, Server, environment, eventually
from tests.http import files_below

_MOST_MEMORY = 400 * MIB

# What a data folder may hold when all is done: the object, what is known of it, and what every server has.
_LEFT = re.compile(
    r"""
      rindle\.db (-wal|-shm)?
    | tails/node\.id
    | tails/processes/[0-9a-f]{16}\.lock
    | objects/\.rindle/locks/[0-9a-f]{2}
    | objects/\.rindle/attributes/[0-9a-f]{2}/[0-9a-f]{64}\.[0-9a-f]+-[0-9a-f]+\.json
    | objects/uploads/[0-9a-v]{32}/[0-9a-f]{16}
    """,
    re.VERBOSE,
)


@asynccontextmanager
async def client(server: Server, **order: object) -> AsyncIterator[asyncio.subprocess.Process]:
    """A client at work, killed in the end if it has not ended itself."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.acceptance.raw_client", json.dumps({"port": server.port, **order})),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env=environment(),
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def line_of(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    return (await process.stdout.readline()).decode().strip()


def is_clean(data: Path) -> bool:
    names = [str(path.relative_to(data)) for path in files_below(data)]
    kinds = [name.split("/")[1] for name in names if name.startswith("objects/")]
    return all(_LEFT.fullmatch(name) for name in names) and kinds.count("uploads") == 1


@pytest.mark.invariant("I1", "I3", "I5", "I11", "I16")
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("size", [64 * MIB, pytest.param(2048 * MIB, marks=pytest.mark.long)], ids=["64MiB", "2GiB"])
async def test_a_file_survives_two_deaths_of_the_client_and_two_of_the_server(
    serve: Serve, size: int, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = random.SystemRandom().getrandbits(32)
    chance = random.Random(seed)
    print(f"seed {seed}")
    server = await serve("--reap-interval", "1s")
    location = await server.client.create(size)
    order = {"location": location, "seed": seed, "size": size}

    deaths = ["client", "client", "server", "server"]
    chance.shuffle(deaths)
    offset = 0
    for number, who in enumerate(deaths):
        share = (size - offset) // (len(deaths) - number + 1)
        report_at = offset + chance.randint(share // 4, share // 2)
        # Sending goes on past the point of death, but never to the end: death strikes in the midst of work.
        async with client(server, **order, report_at=report_at, hold_at=report_at + share // 2) as process:
            assert (await line_of(process)).startswith("sent")
            if who == "client":
                process.kill()
                await process.wait()
            else:
                await server.kill()
                await server.start()
        found = await settled_offset(server, location)
        assert offset <= found < size
        assert found > offset or who == "server", "what arrived before the client died was not kept"
        offset = found

    async with client(server, **order, report_at=size, hold_at=size + 1) as process:
        assert await line_of(process) == f"sent {size}"
        assert await line_of(process) == "complete"
        assert await process.wait() == 0

    server.note_memory()
    with capsys.disabled():
        print(f"\n{size // MIB} MiB, seed {seed}, {' '.join(deaths)}: peak RSS {server.peak_rss / MIB:.0f} MiB", end="")
    assert digest(object_of(server, location)) == Pattern(seed, size).digest()
    assert server.peak_rss < _MOST_MEMORY
    await eventually(lambda: is_clean(server.data), f"{files_below(server.data)} is the object and nothing else")
