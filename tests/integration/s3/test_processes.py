import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rindle.objectstore.ext import read
from tests.s3 import S3Server

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]

RACE = Path(__file__).with_name("race.py")
CONDITIONS = {"checksums": "crc64nvme", "conditions": "put,update,complete"}


@pytest.mark.parametrize("server", ["localstack", "versitygw"])
async def test_of_fifty_processes_that_create_one_key_one_wins(server: str, request: pytest.FixtureRequest) -> None:
    service: S3Server = request.getfixturevalue(server)
    async with await service.new_store() as store:
        url = service.url(store.options.bucket, **CONDITIONS)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "error", str(RACE), url, "50"),
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        output, errors = await process.communicate()
        assert process.returncode == 0, errors.decode()
        assert await read(store, "key") == f"process {int(output)}".encode()
        assert [meta.key async for meta in store.list()] == ["key"]
