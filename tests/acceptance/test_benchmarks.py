"""The benchmark itself: that it runs, counts what it should, and loses nothing."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import WORKLOADS
from tests.acceptance.process import ROOT, environment

_SMALL = (
    *("--quick", "--size", "40MiB", "--small-count", "40", "--heads", "70"),
    *("--many", "20", "--many-size", "3MiB", "--memory-budget", "32MiB", "--latency", "5ms"),
)


def run_benchmarks(tmp_path: Path, *arguments: str) -> dict[str, dict[str, Any]]:
    command = [sys.executable, "-m", "benchmarks", *_SMALL, "--servers", "rindle-sqlite", *arguments]
    report = tmp_path / "report.json"
    done = subprocess.run(
        [*command, "--scratch", str(tmp_path), "--json", str(report)],
        check=False,
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return {result["workload"]: result for result in json.loads(report.read_text())["results"]}


@pytest.mark.long
@pytest.mark.timeout(600)
def test_every_workload_counts_and_calls_the_store_as_often_as_it_should(tmp_path: Path) -> None:
    results = run_benchmarks(tmp_path)
    assert set(results) == set(WORKLOADS)
    assert not [sample["fault"] for result in results.values() for sample in result["samples"] if sample["fault"]]
    calls = {name: _calls_of(result) for name, result in results.items()}
    parts, parts_of_half = 5, 3
    assert calls == {
        "one-patch": parts + 2,
        "patches": parts + 2,
        "tails": parts_of_half + 2,
        "latency": parts + 2,
        "small": 1,
        "small-post": 1,
        "many": 1,
        "head": 0,
    }


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("endpoint", [["--endpoint", "folder"], ["--tls"]], ids=["folder", "tls"])
def test_it_runs_on_other_endpoints(tmp_path: Path, endpoint: list[str]) -> None:
    results = run_benchmarks(tmp_path, *endpoint, "--workloads", "one-patch,small")
    assert set(results) == {"one-patch", "small"}


def _calls_of(result: dict[str, Any]) -> float:
    (median,) = (figure["median"] for name, figure in result["figures"].items() if name.startswith("store calls/"))
    assert isinstance(median, float)
    return median
