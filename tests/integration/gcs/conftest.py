from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rindle.objectstore.gcs import GCSStore
from tests.gcs import GCSServer
from tests.gcs_front import GCSFront


@pytest.fixture
async def store(gcs: GCSServer) -> AsyncIterator[GCSStore]:
    async with await gcs.new_store() as store:
        yield store


@pytest.fixture
def front(gcs: GCSServer) -> GCSFront:
    """What fails where a test says so, and notes every request."""
    return gcs.front


@pytest.fixture
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No credentials anywhere that Google's library looks."""
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits before trying again."""
    monkeypatch.setattr("rindle.objectstore.retry.pause_after", lambda _: 0)
