import pytest


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A write whose answer is lost is repeated at once."""
    monkeypatch.setattr("rindle.objectstore.cas._PAUSES", (0, 0))
