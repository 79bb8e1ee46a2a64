"""What is large takes time, and not memory."""

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.racing import run_script
from tests.s3 import S3Server

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(400),
    pytest.mark.skipif(sys.platform != "linux", reason="how much memory a program has had at most, Linux says"),
]

MIB, GIB = 1 << 20, 1 << 30
SCRIPT = Path(__file__).with_name("scale.py")
ROOM = 64 * MIB  # four parts of 8 MiB, and their copies on the way


async def run(what: str, url: str, amount: int, folder: Path) -> dict[str, Any]:
    folder.mkdir()
    report: dict[str, Any] = json.loads(await run_script(SCRIPT, what, url, amount, folder))
    sys.stdout.write(f"{what}: {report}\n")
    return report


@pytest.fixture
def many_files() -> Iterator[Path]:
    """A hundred thousand of them, in memory where there is a place: they only have names."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as name:
        root = Path(name)
        for number in range(100):
            folder = root / f"{number:03}"
            folder.mkdir()
            for file in range(1000):
                (folder / f"{file:04}").touch()
        yield root


async def test_a_hundred_thousand_keys_are_listed_in_order(many_files: Path, tmp_path: Path) -> None:
    report = await run("list", many_files.as_uri(), 0, tmp_path / "scratch")
    assert report["count"] == 100_000
    assert report["grown"] < ROOM


@pytest.mark.parametrize(("what", "size"), [("stream", 5 * GIB), ("file", GIB)])
async def test_gigabytes_go_to_disk_and_come_back(what: str, size: int, tmp_path: Path) -> None:
    report = await run(what, (tmp_path / "store").as_uri(), size, tmp_path / "scratch")
    assert (report["equal"], report["size"]) == (True, size)
    assert report["grown"] < ROOM


@pytest.mark.parametrize("what", ["stream", "file"])
async def test_a_gigabyte_goes_to_s3_and_comes_back(what: str, versitygw: S3Server, tmp_path: Path) -> None:
    async with await versitygw.new_store() as store:
        bucket = store.options.bucket
    url = versitygw.url(bucket, checksums="crc64nvme", conditions="put,update,complete")
    report = await run(what, url, GIB, tmp_path / "scratch")
    assert (report["equal"], report["size"]) == (True, GIB)
    assert report["grown"] < ROOM
