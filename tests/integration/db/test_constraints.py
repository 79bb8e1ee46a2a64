"""What the schema itself keeps from ever being stored."""

import pytest
from sqlalchemy import text

from rindle.db.engine import Database
from rindle.db.repository import SqlUploadRepository
from rindle.testing.repository import EXPIRES_IN, LEASE_TTL, new_upload, part
from rindle.uploads.errors import RepositoryError


@pytest.mark.parametrize(
    "values",
    [
        "upload_offset = -1",
        "upload_offset = 11",
        "upload_length = -1",
        "state = 'lost'",
        "part_size = 0",
        "part_count = -1",
        "pins = -1",
        "multipart_id = 'm'",
        "tail_name = 'a'",
        "tail_node = 'n', tail_length = 1, tail_crc64nvme = '0', upload_offset = 5",
        "tail_name = 'a', tail_node = 'n', tail_crc64nvme = '0', upload_offset = 5",
        "tail_name = 'a', tail_node = 'n', tail_length = 0, tail_crc64nvme = '0', upload_offset = 5",
        "tail_name = 'a', tail_node = 'n', tail_length = 6, tail_crc64nvme = '0', upload_offset = 5",
        "lease_token = 't', lease_holder = 'h'",
        "lease_token = 't', lease_until = created_at",
        "lease_until = created_at",
        "owner = NULL",
    ],
)
async def test_an_upload_that_cannot_be_is_refused(database: Database, values: str) -> None:
    repository = SqlUploadRepository(database, lease_ttl=LEASE_TTL, expires_in=EXPIRES_IN)
    upload = await repository.add(new_upload())

    with pytest.raises(RepositoryError, match="refused"):
        await database.write(text(f"UPDATE rindle_uploads SET {values}"))

    assert await repository.find(upload.id) == upload


async def test_a_part_has_an_upload_and_goes_with_it(database: Database) -> None:
    repository = SqlUploadRepository(database, lease_ttl=LEASE_TTL, expires_in=EXPIRES_IN)
    upload = await repository.add(new_upload())
    await repository.commit(upload, upload, parts=[part(1)])
    with pytest.raises(RepositoryError):
        await database.write(text("INSERT INTO rindle_parts VALUES ('nobody', 1, 1, 'e', '0')"))

    await database.write(text("DELETE FROM rindle_uploads"))

    assert list(await repository.find_parts(upload.id)) == []


async def test_the_id_of_an_event_is_never_used_again(database: Database) -> None:
    insert = text(
        "INSERT INTO rindle_outbox (upload_id, owner, type, payload, created_at, attempts)"
        " VALUES ('u', 'o', 't', '{}', '2026-01-01T00:00:00.000Z', 0) RETURNING id"
    )
    (first,) = await database.write(insert)
    await database.write(text("DELETE FROM rindle_outbox"))

    (second,) = await database.write(insert)

    assert second.id > first.id
