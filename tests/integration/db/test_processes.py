"""Several processes on one database, as in production."""

import asyncio
import sys
from pathlib import Path

import pytest

from rindle.db.engine import Database
from rindle.db.repository import SqlUploadRepository
from rindle.testing.repository import EXPIRES_IN, LEASE_TTL, get, new_upload

_ROOT = Path(__file__).parents[3]
_APPENDS = 15
_PROCESSES = 3

# Claims, commits a part, releases; over and over, against the others.
_WRITER = """
import asyncio, sys
from dataclasses import replace
from rindle.db.engine import Database
from rindle.db.repository import SqlUploadRepository
from rindle.testing.repository import EXPIRES_IN, LEASE_TTL, claim_of, part

async def main(url, upload_id, appends):
    database = Database(url)
    repository = SqlUploadRepository(database, lease_ttl=LEASE_TTL, expires_in=EXPIRES_IN)
    done = 0
    while done < appends:
        row = await repository.claim(claim_of(await repository.find(upload_id)))
        if row is None:
            continue
        number = row.part_count + 1
        row = await repository.commit(row, replace(row, offset=row.offset + 5, part_count=number), parts=[part(number)])
        await repository.commit(row, replace(row, lease=None))
        done += 1
    await database.aclose()

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


@pytest.mark.invariant("I4", "I5")
async def test_processes_that_append_to_one_upload_lose_and_double_no_part(
    database: Database, database_url: str
) -> None:
    repository = SqlUploadRepository(database, lease_ttl=LEASE_TTL, expires_in=EXPIRES_IN)
    upload = await repository.add(new_upload(length=None))

    writers = [
        await asyncio.create_subprocess_exec(
            sys.executable,
            "-W",
            "error",
            "-c",
            _WRITER,
            database_url,
            upload.id,
            str(_APPENDS),
            stderr=asyncio.subprocess.PIPE,
            cwd=_ROOT,
        )
        for _ in range(_PROCESSES)
    ]
    errors = [(await writer.communicate())[1].decode() for writer in writers]

    assert errors == [""] * _PROCESSES
    found = await get(repository, upload)
    appended = _APPENDS * _PROCESSES
    assert (found.offset, found.part_count, found.generation) == (5 * appended, appended, 2 * appended)
    assert [p.part_number for p in await repository.find_parts(upload.id)] == list(range(1, appended + 1))
