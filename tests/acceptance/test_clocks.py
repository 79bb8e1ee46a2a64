"""Nodes whose wall clocks are wrong, or jump: only the database's counts."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from tests.acceptance.process import Server, running
from tests.http import id_of
from tests.required import missing

PART = 1 << 16
PIECE = 3 * PART


class WrongClock:
    """A process's wall clock: as far from the true one as is said, at any time. The monotonic one is left alone."""

    def __init__(self, file: Path) -> None:
        libraries = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
        if not libraries:
            missing("faketime", "there is no libfaketime (Debian's package faketime)")
        self._file = file
        self.jump(timedelta(0))
        self.variables: Mapping[str, str] = {
            "LD_PRELOAD": str(libraries[0]),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def jump(self, off: timedelta) -> None:
        self._file.write_text(f"{off.total_seconds():+.0f}\n")


@pytest.mark.invariant("I3", "I11")
async def test_clocks_that_jump(tmp_path: Path, postgres_url: str) -> None:
    clock = WrongClock(tmp_path / "clock")
    store = tmp_path / "store"
    flags = ["--database", postgres_url, "--store", store.as_uri(), "--part-size", "64KiB"]
    flags += ["--tail-durability", "object", "--expires-in", "30m", "--reap-interval", "1s"]
    wrong = Server(tmp_path / "wrong", *flags, variables=clock.variables)
    right = Server(tmp_path / "right", *flags)
    content = bytes(range(256)) * (4 * PIECE // 256) + b"end"

    async with running(wrong, right):
        location = await wrong.client.create(len(content))
        offset = 0
        for hours, node in ((1, wrong), (1, right), (-1, wrong), (-1, right)):
            clock.jump(timedelta(hours=hours))
            while abs(await error_of(wrong, location) - timedelta(hours=hours)) > timedelta(minutes=5):
                pass
            async with wrong.client.connect() as stalled:  # whoever holds the lease is asked for it
                await stalled.begin_patch(location, offset, length=PIECE)
                await stalled.send(content[offset : offset + PART])
                await eventually_at(right, location, offset + PART)
                offset += PART
                answer = await node.client.patch(location, offset, content[offset : offset + PIECE - PART])
                assert answer.status == 204, answer
                offset = answer.offset
                assert (await stalled.read_response()).code == "upload_interrupted"
            for each in (wrong, right):
                found = await each.client.head(location)
                assert found.offset == offset
                left = parsedate_to_datetime(found.headers["upload-expires"]) - datetime.now(UTC)
                assert timedelta(minutes=25) < left < timedelta(minutes=35)
        assert (await wrong.client.patch(location, offset, content[offset:])).status == 204
    (stored,) = (store / "uploads" / id_of(location)).iterdir()
    assert stored.read_bytes() == content


async def error_of(server: Server, location: str) -> timedelta:
    """How wrong its clock is; it looks at that each second."""
    return parsedate_to_datetime((await server.client.head(location)).headers["date"]) - datetime.now(UTC)


async def eventually_at(server: Server, location: str, offset: int) -> None:
    while (await server.client.head(location)).offset < offset:
        pass
