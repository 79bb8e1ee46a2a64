import asyncio
import subprocess
import sys
import urllib.request
from contextlib import AbstractContextManager, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

import rindle.bootstrap
from rindle.errors import ConfigurationError, RindleError
from rindle.observability.context import RequestContext, serving
from rindle.observability.metrics import Metrics
from rindle.observability.observer import Observer
from rindle.settings import Settings
from tests.acceptance.process import environment

# What dashboards and alerts elsewhere rely on: a name or a label that changes breaks them.
PUBLISHED = {
    "rindle_http_requests_total{method,code}",
    "rindle_errors_total{code}",
    "rindle_bytes_received_total{protocol}",
    "rindle_uploads_created_total{protocol,store}",
    "rindle_uploads_finished_total{store}",
    "rindle_uploads_terminated_total{reason}",
    "rindle_uploads_expired_total",
    "rindle_patch_duration_seconds",
    "rindle_part_upload_seconds{store,outcome}",
    "rindle_store_operation_seconds{store,operation}",
    "rindle_store_errors_total{store,operation,error}",
    "rindle_active_patches",
    "rindle_buffered_bytes",
    "rindle_tail_bytes",
    "rindle_tail_disk_free_bytes",
    "rindle_lock_wait_seconds",
    "rindle_fence_rejections_total",
    "rindle_tail_missing_total{reason}",
    "rindle_tails_spilled_total",
    "rindle_rewinds_total",
    "rindle_reaper_last_success_timestamp_seconds",
    "rindle_reaper_items_total{kind,outcome}",
    "rindle_orphaned_multipart_uploads",
    "rindle_build_info{version}",
}


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(store="s3")


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"rindle_{name}", labels)


def test_names_and_labels(metrics: Metrics) -> None:
    said = {f"{one.name}{{{','.join(one.labels)}}}".replace("{}", "") for one in metrics.descriptions}
    assert said == PUBLISHED
    assert all(one.text.endswith(".") for one in metrics.descriptions)
    scraped = generate_latest(metrics.registry).decode()
    for one in metrics.descriptions:
        assert f"# HELP {one.name} {one.text}\n# TYPE {one.name} {one.kind}\n" in scraped


def test_everything_that_can_be_told_is_counted() -> None:
    told = {name for name in vars(Observer) if not name.startswith("_")}
    assert told <= set(vars(Metrics))


def test_methods_and_codes_come_from_closed_sets(metrics: Metrics) -> None:
    for method in ("PATCH", "PROPFIND", "patch", "x" * 1000):
        metrics.request_answered(method, 204)
    metrics.request_answered("PATCH", None)
    assert value(metrics, "http_requests_total", method="PATCH", code="204") == 1
    assert value(metrics, "http_requests_total", method="other", code="204") == 3
    assert value(metrics, "http_requests_total", method="PATCH", code="none") == 1
    for code in ("offset_mismatch", "store_full", "internal_error", "user-4711", ""):
        metrics.error_answered(code)
    assert value(metrics, "errors_total", code="offset_mismatch") == 1
    assert value(metrics, "errors_total", code="store_full") == 1
    assert value(metrics, "errors_total", code="internal_error") == 1
    assert value(metrics, "errors_total", code="other") == 2


def test_bytes_and_creations_are_those_of_the_requests_protocol(metrics: Metrics) -> None:
    with serving(RequestContext(request_id="a", protocol="tus")):
        metrics.bytes_received(5)
        metrics.upload_created()
    metrics.bytes_received(7)
    metrics.upload_created()
    assert value(metrics, "bytes_received_total", protocol="tus") == 5
    assert value(metrics, "bytes_received_total", protocol="none") == 7
    assert value(metrics, "uploads_created_total", protocol="tus", store="s3") == 1
    assert value(metrics, "uploads_created_total", protocol="none", store="s3") == 1


@pytest.mark.parametrize(
    ("error", "outcome"),
    [(None, "done"), (RindleError(), "failed"), (OSError(), "failed"), (asyncio.CancelledError(), "cancelled")],
)
def test_how_storing_a_part_ended(metrics: Metrics, error: BaseException | None, outcome: str) -> None:
    leave(metrics.storing_part(), error)
    assert value(metrics, "part_upload_seconds_count", store="s3", outcome=outcome) == 1


def test_calls_of_the_store(metrics: Metrics) -> None:
    for error in (None, "NotFoundError", "CancelledError", "OfTheHost-4711"):
        metrics.store_called("put", seconds=0.5, error=error)
    assert value(metrics, "store_operation_seconds_count", store="s3", operation="put") == 4
    assert value(metrics, "store_operation_seconds_sum", store="s3", operation="put") == 2
    for error in ("NotFoundError", "CancelledError", "other"):
        assert value(metrics, "store_errors_total", store="s3", operation="put", error=error) == 1


@pytest.mark.parametrize("error", [None, RindleError(), asyncio.CancelledError()])
def test_what_is_under_way_ends_however_it_ends(metrics: Metrics, error: BaseException | None) -> None:
    with metrics.appending():
        assert value(metrics, "active_patches") == 1
        leave(metrics.appending(), error)
        leave(metrics.waiting_for_lock(), error)
        assert value(metrics, "active_patches") == 1
        assert value(metrics, "patch_duration_seconds_count") == 1
        assert value(metrics, "lock_wait_seconds_count") == 1
    assert value(metrics, "active_patches") == 0


def leave(block: AbstractContextManager[None], error: BaseException | None) -> None:
    with suppress(BaseException), block:
        if error is not None:
            raise error


def test_counters_that_alerts_watch_are_there_before_anything_happens(metrics: Metrics) -> None:
    for reason in ("elsewhere", "missing", "short", "corrupt"):
        assert value(metrics, "tail_missing_total", reason=reason) == 0
    for code in ("database_unavailable", "store_full", "upload_locked", "lease_lost", "internal_error"):
        assert value(metrics, "errors_total", code=code) == 0


def test_a_host_can_have_them_in_its_own_registry() -> None:
    registry = CollectorRegistry()
    Metrics(store="s3", registry=registry).upload_expired()
    assert registry.get_sample_value("rindle_uploads_expired_total") == 1
    assert registry.get_sample_value("process_open_fds") is None  # the host's own business


class TestFile:
    def test_says_what_is_to_be_known_of_a_reaper_and_nothing_else(self, metrics: Metrics, tmp_path: Path) -> None:
        path = tmp_path / "rindle.prom"
        path.write_text("old")
        metrics.reaper_succeeded(datetime.fromtimestamp(1.7e9, UTC))
        metrics.stray_multiparts(3)
        metrics.reaped("expired", "done", 5)
        metrics.write_file(path)
        samples = {line for line in path.read_text().splitlines() if not line.startswith("#")}
        assert samples == {
            "rindle_reaper_last_success_timestamp_seconds 1.7e+09",
            "rindle_orphaned_multipart_uploads 3.0",
        }
        assert list(tmp_path.iterdir()) == [path]

    def test_does_not_say_that_there_are_no_orphans_when_nobody_looked(self, metrics: Metrics, tmp_path: Path) -> None:
        metrics.write_file(tmp_path / "rindle.prom")
        assert "rindle_orphaned_multipart_uploads NaN" in (tmp_path / "rindle.prom").read_text()

    def test_that_cannot_be_written(self, metrics: Metrics, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match=r"nowhere.* cannot be written: No such file .*--metrics-file"):
            metrics.write_file(tmp_path / "nowhere" / "rindle.prom")
        assert list(tmp_path.iterdir()) == []


class TestPort:
    async def test_of_its_own(self, metrics: Metrics) -> None:
        metrics.upload_expired()
        async with metrics.serving("127.0.0.1", 0) as port:
            scraped = await asyncio.to_thread(get, port)
        assert "rindle_uploads_expired_total 1.0" in scraped
        with pytest.raises(OSError, match="refused"):
            await asyncio.to_thread(get, port)

    async def test_that_is_taken(self, metrics: Metrics) -> None:
        async with metrics.serving("127.0.0.1", 0) as port:
            with pytest.raises(ConfigurationError, match=f"127.0.0.1 port {port}: it is in use; .* --metrics-port"):
                async with metrics.serving("127.0.0.1", port):
                    pass

    @pytest.mark.parametrize(("host", "port"), [("192.0.2.1", 0), ("host.invalid", 0), ("127.0.0.1", 99999)])
    async def test_that_cannot_be_had(self, metrics: Metrics, host: str, port: int) -> None:
        with pytest.raises(ConfigurationError, match="cannot serve metrics on"):
            async with metrics.serving(host, port):
                pass


def get(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as response:
        body: bytes = response.read()
        return body.decode()


def test_what_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "rindle.observability.metrics")
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(ConfigurationError, match=r"prometheus_client.*pip install 'rindle-uploads\[prometheus\]'"):
        rindle.bootstrap.make_metrics(Settings(metrics=True))
    assert rindle.bootstrap.make_metrics(Settings()) is None


def python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    variables = environment(PROMETHEUS_MULTIPROC_DIR=str(folder))
    return subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, env=variables, timeout=60
    )


class TestSharing:
    CODE = """
import os
from prometheus_client import generate_latest
from rindle.observability.metrics import Metrics
metrics = Metrics(store="s3")
metrics.upload_expired()
metrics.memory_used(100)
metrics.tails_measured(7, 1000)
appending = metrics.appending()
appending.__enter__()
print(generate_latest(metrics._exposed).decode())
if END:
    os._exit(0)  # as kill -9: it does not say that it is gone
"""

    def run(self, folder: Path, *, dies: bool = False) -> set[str]:
        ended = python(f"END = {dies}\n{self.CODE}", folder)
        assert ended.returncode == 0, ended.stderr
        return set(ended.stdout.splitlines())

    def test_whoever_is_asked_answers_for_all(self, tmp_path: Path) -> None:
        first = self.run(tmp_path, dies=True)
        assert {"rindle_uploads_expired_total 1.0", "rindle_active_patches 1.0"} <= first
        both = self.run(tmp_path)
        assert {
            "rindle_uploads_expired_total 2.0",
            "rindle_active_patches 2.0",
            "rindle_buffered_bytes 200.0",
        } <= both
        assert {"rindle_tail_bytes 7.0", 'rindle_build_info{version="0.1.0"} 1.0'} <= both

    def test_who_has_ended_counts_on_and_is_not_active(self, tmp_path: Path) -> None:
        self.run(tmp_path)
        both = self.run(tmp_path)
        assert {
            "rindle_uploads_expired_total 2.0",
            "rindle_active_patches 1.0",
            "rindle_buffered_bytes 100.0",
        } <= both

    def test_a_folder_that_is_not_there_is_said(self, tmp_path: Path) -> None:
        code = f"END = False\n{self.CODE}".replace("metrics = Metrics", "Metrics").replace(
            "Metrics(store", "Metrics(store"
        )
        ended = python(code, tmp_path / "nowhere")
        assert "ConfigurationError" in ended.stderr
        assert "PROMETHEUS_MULTIPROC_DIR is not set or not a directory; make the folder" in ended.stderr
