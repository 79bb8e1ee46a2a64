"""Stores that a test can have without waiting: in memory, on disk, in a bucket; in the long run, in more buckets."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rindle.objectstore.base import MultipartStore
from rindle.objectstore.errors import StoreTimeoutError, TransientStoreError
from rindle.objectstore.local import LocalStore
from rindle.objectstore.memory import MemoryStore
from rindle.testing.faults import FaultyStore
from tests.s3 import S3Server


@pytest.fixture(
    params=[
        *("memory", "local", "moto"),
        *(pytest.param(server, marks=pytest.mark.long) for server in ("versitygw", "localstack")),
    ]
)
async def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[MultipartStore]:
    match request.param:
        case "memory":
            store: MultipartStore = MemoryStore()
        case "local":
            store = LocalStore(tmp_path / "store")
        case server:
            s3: S3Server = request.getfixturevalue(server)
            store = await s3.new_store("some/prefix")
    async with store:
        yield store


@pytest.fixture
def faulty(any_store: MultipartStore) -> FaultyStore:
    return FaultyStore(any_store)


def lose_answers(store: FaultyStore, *, times: int = 1, kind: type[TransientStoreError] = StoreTimeoutError) -> None:
    """Let the next puts be done, and their answers get lost."""
    left = times

    async def lose(operation: str, key: str) -> None:
        nonlocal left
        if operation == "put" and left:
            left -= 1
            msg = "no answer"
            raise kind(msg, store=store.name, key=key)

    store.after = lose
