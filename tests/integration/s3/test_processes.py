from pathlib import Path

import pytest

from rindle.objectstore.ext import read
from tests.racing import run_script
from tests.s3 import S3Server

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]

RACE = Path(__file__).with_name("race.py")
CONDITIONS = {"checksums": "crc64nvme", "conditions": "put,update,complete"}


@pytest.mark.parametrize("server", ["localstack", "versitygw"])
async def test_of_fifty_processes_that_create_one_key_one_wins(server: str, request: pytest.FixtureRequest) -> None:
    service: S3Server = request.getfixturevalue(server)
    async with await service.new_store() as store:
        url = service.url(store.options.bucket, **CONDITIONS)
        winner = await run_script(RACE, url, 50)
        assert await read(store, "key") == f"process {winner}".encode()
        assert [meta.key async for meta in store.list()] == ["key"]
