"""fsspec's own tests of file systems, on stores."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fsspec.tests import abstract

import rindle.sync

pytestmark = pytest.mark.long


class StoreFixtures(abstract.AbstractFixtures):  # type: ignore[misc]  # fsspec has no types
    @pytest.fixture(params=["memory", "local"])
    def fs(self, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
        url = "memory://" if request.param == "memory" else (tmp_path / "store").as_uri()
        with rindle.sync.open_store(url) as store:
            yield store.as_fsspec()

    @pytest.fixture
    def fs_path(self) -> str:
        return "a folder"

    @pytest.fixture
    def fs_join(self) -> Callable[..., str]:
        return lambda *args: "/".join(args)

    @pytest.fixture
    def supports_empty_directories(self) -> bool:
        return False


class TestCopy(abstract.AbstractCopyTests, StoreFixtures):  # type: ignore[misc]
    pass


class TestGet(abstract.AbstractGetTests, StoreFixtures):  # type: ignore[misc]
    pass


class TestPut(abstract.AbstractPutTests, StoreFixtures):  # type: ignore[misc]
    pass


class TestOpen(abstract.AbstractOpenTests, StoreFixtures):  # type: ignore[misc]
    pass


class TestPipe(abstract.AbstractPipeTests, StoreFixtures):  # type: ignore[misc]
    pass
