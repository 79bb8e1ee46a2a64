import subprocess
import sys
from pathlib import Path

import pytest

from rindle.testing.objectstore import MultipartStoreContract
from tests.matrix import FAILED, FEATURES, NOT_RUN, PROVED, REFUSED, Feature, Run, always, cell, declares

ROOT = Path(__file__).parents[2]
TAGS = Feature("tags", declares("tags"), ("test_a", "test_b"))
HAS, HAS_NOT = {"tags": True}, {"tags": False}


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        ([Run("test_a", "passed", HAS), Run("test_b", "passed", HAS)], PROVED),
        ([Run("test_a", "passed", HAS), Run("test_b", "failed", HAS)], FAILED),
        ([Run("test_a", "passed", HAS_NOT), Run("test_b", "failed", HAS_NOT)], FAILED),
        ([Run("test_a", "passed", HAS_NOT), Run("test_b", "passed", HAS_NOT)], REFUSED),
        ([Run("test_a", "passed", HAS), Run("test_b", "skipped", None)], f"{PROVED} but for 1 of 2"),
        ([Run("test_a", "skipped", None)], NOT_RUN),
        ([Run("test_other", "passed", HAS)], NOT_RUN),
        ([], NOT_RUN),
    ],
)
def test_a_cell_says_what_was_shown(runs: list[Run], expected: str) -> None:
    assert cell(TAGS, runs) == expected


def test_features_are_proved_by_tests_that_there_are_and_each_by_one_row() -> None:
    named = [test for feature in FEATURES for test in feature.tests]
    assert len(named) == len(set(named))
    assert [test for test in named if not hasattr(MultipartStoreContract, test)] == []
    assert all(feature.is_declared is not always or feature.tests for feature in FEATURES)


BROKEN = """
import pytest
from rindle.objectstore.memory import MemoryStore
from rindle.objectstore.types import Capabilities
from rindle.testing.objectstore import ObjectStoreContract

class Broken(MemoryStore):
    async def _copy(self, source, target, *, mode):
        return await super()._copy(source, target, mode="overwrite")

class TestIt(ObjectStoreContract):
    column = "store {store}"

    @pytest.fixture(params=["good", "broken", "poor", "absent"])
    async def store(self, request):
        if request.param == "absent":
            pytest.skip("there is none")
        store = Broken() if request.param == "broken" else MemoryStore()
        if request.param == "poor":
            store.capabilities = Capabilities()
        return store

class TestNot(ObjectStoreContract):
    column = ""

    @pytest.fixture
    def store(self):
        raise AssertionError

def test_something_else():
    raise AssertionError
"""


def test_a_run_writes_what_it_has_shown(tmp_path: Path) -> None:
    """Of four stores, in two processes."""
    folder = tmp_path / "tests"
    folder.mkdir()
    (folder / "test_stores.py").write_text(BROKEN)
    (folder / "conftest.py").write_text('pytest_plugins = ["tests.matrix"]')
    document = tmp_path / "stores.md"
    document.write_text("before\n<!-- measured: stores -->\nold\n<!-- end -->\nafter\n")
    run = run_suites(folder, document)
    assert run.returncode == pytest.ExitCode.TESTS_FAILED, run.stdout + run.stderr
    text = document.read_text()
    assert text.startswith(
        "before\n<!-- measured: stores -->\n|  | store absent | store broken | store good | store poor"
    )
    assert "| copy, rename: if not exists | not run | **failed** | ✓ | refused |\n" in text
    assert "| copy, rename | not run | ✓ | ✓ | ✓ |\n" in text
    assert text.endswith("<!-- end -->\nafter\n")
    assert "| copy, rename: if not exists | not run | **failed**" in run.stdout
    document.write_text("no place")
    assert "has no place for the table" in run_suites(folder, document).stderr


def run_suites(folder: Path, document: Path) -> subprocess.CompletedProcess[str]:
    options = ["-k", "copy or something", "-n", "2", "-o", "addopts=", "-p", "no:cacheprovider"]
    settings = ["-c", str(ROOT / "pyproject.toml"), f"--store-matrix={document}"]
    command = [sys.executable, "-m", "pytest", *options, *settings, str(folder)]
    return subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)
