"""What a process says of itself, in its log and to Prometheus."""

import asyncio
import json
import math
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.acceptance.conftest import Serve
from tests.acceptance.process import ROOT, environment, eventually, run_rindle
from tests.http import Client, id_of

PLANTED = "planted-secret"


def scrape(url: str) -> dict[str, float]:
    """All samples, by name and values of labels."""
    with urllib.request.urlopen(url) as response:
        text = response.read().decode()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {" ".join([sample.name, *sample.labels.values()]): sample.value for sample in samples}


def lines(output: str) -> list[dict[str, Any]]:
    """Every line that was written, which must be JSON."""
    return [json.loads(line) for line in output.splitlines()]


async def test_a_process_that_speaks_json(serve: Serve, tmp_path: Path) -> None:
    flags = ("--log-format", "json", "--log-level", "debug", "--metrics", "--metrics-port", "0")
    server = await serve(*flags, "--tails", str(tmp_path / PLANTED))
    (ready,) = lines(server.output)
    assert ready["url"] == server.endpoint
    secret = (("Authorization", f"Bearer {PLANTED}"), ("Upload-Metadata", "filename cGxhbnRlZC1zZWNyZXQ="))
    upload = await server.client.create(10, *secret, ("X-Request-ID", "from-the-proxy"))
    assert (await server.client.patch(upload, 0, b"hello", *secret)).status == 204
    (tail,) = (tmp_path / PLANTED / "tus").iterdir()
    tail.unlink()
    assert (await server.client.patch(upload, 5, b"world", *secret)).status == 410
    assert (await server.client.request("GET", f"/files?token={PLANTED}")).status == 405
    assert (await server.client.request("GET", "/metrics")).status == 404
    samples = scrape(ready["metrics_url"])
    assert samples["rindle_tail_missing_total missing"] == 1
    assert samples["process_resident_memory_bytes"] > 0
    assert await server.terminate() == 0

    said = lines(server.output)
    assert said[-1]["message"] == "stopping: uploads keep what has arrived"
    access = [line for line in said if line["logger"] == "rindle.access"]
    assert [(line["method"], line["status"]) for line in access] == [
        ("POST", 201),
        ("PATCH", 204),
        ("PATCH", 410),
        ("GET", 405),
        ("GET", 404),
    ]
    assert access[0]["request_id"] == "from-the-proxy"
    assert {line.get("upload_id") for line in access[:3]} == {id_of(upload)}
    of_requests = [line for line in said if line["logger"] not in {"rindle.serve", "rindle.reaper"}]
    assert all("request_id" in line for line in of_requests)
    assert PLANTED not in server.output
    assert tail.name not in server.output


async def test_a_process_for_people(serve: Serve) -> None:
    server = await serve("--metrics")
    metrics_url = f"http://{server.host}:{server.port}/metrics"
    assert f"metrics are at                {metrics_url}\n" in server.output
    assert scrape(metrics_url)["rindle_build_info 0.1.0"] == 1
    upload = await server.client.create(5, ("X-Request-ID", "mine"))
    assert await server.terminate() == 0
    assert "INFO    rindle.access: POST 201 in 0." in server.output
    assert f" s, 0 bytes received request_id=mine upload_id={id_of(upload)}\n" in server.output
    assert "GET" not in server.output  # who looks after it is no news


async def test_no_line_for_each_request(serve: Serve) -> None:
    server = await serve("--no-access-log")
    await server.client.create(5)
    assert (await server.client.head("/files/nowhere")).status == 404
    assert await server.terminate() == 0
    assert "rindle.access" not in server.output
    assert "upload_not_found" in server.output


def test_a_port_for_metrics_that_is_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        flags = ("--port", "0", "--data", tmp_path / "data", "--metrics", "--metrics-port", port)
        refused = run_rindle("serve", *flags)
    assert refused.returncode == 3
    assert refused.stderr.count("\n") == 1
    assert f"127.0.0.1 port {port}: it is in use; choose another with --metrics-port" in refused.stderr


class TestReap:
    """A process that nobody can scrape."""

    def reap(self, data: Path, file: Path, *flags: str) -> subprocess.CompletedProcess[str]:
        return run_rindle("reap", "--data", data, "--metrics-file", file, *flags)

    def test_says_when_a_run_last_came_to_its_end(self, tmp_path: Path) -> None:
        file = tmp_path / "rindle.prom"
        before = time.time()
        assert self.reap(tmp_path / "data", file, "--yes").returncode == 0
        last, strays = read(file)
        assert before - 1 <= last <= time.time() + 1
        assert strays == 0
        assert self.reap(tmp_path / "data", file, "--yes", "--only", "files").returncode == 0
        again, strays = read(file)  # of a run that was none over everything, the end does not count
        assert again == last
        assert math.isnan(strays)

    def test_does_nothing_if_it_cannot_say_so(self, tmp_path: Path) -> None:
        refused = self.reap(tmp_path / "data", tmp_path / "nowhere" / "rindle.prom", "--yes", "--json")
        assert (refused.returncode, refused.stdout) == (3, "")
        assert "nowhere/rindle.prom cannot be written: No such file or directory" in refused.stderr

    def test_says_nothing_of_what_it_only_counted(self, tmp_path: Path) -> None:
        refused = self.reap(tmp_path / "data", tmp_path / "rindle.prom")
        assert refused.returncode == 2
        assert "--metrics-file goes with --yes" in refused.stderr
        assert list(tmp_path.iterdir()) == []


def read(file: Path) -> tuple[float, float]:
    """When a run last ended, and how many multiparts it left."""
    values = dict(line.split(" ") for line in file.read_text().splitlines() if not line.startswith("#"))
    assert set(values) == {"rindle_reaper_last_success_timestamp_seconds", "rindle_orphaned_multipart_uploads"}
    last, strays = values["rindle_reaper_last_success_timestamp_seconds"], values["rindle_orphaned_multipart_uploads"]
    return float(last), float(strays)


def test_without_metrics_and_spans_what_they_need_is_not_loaded() -> None:
    code = "import sys, rindle.bootstrap, rindle.cli.serve; assert 'prometheus_client' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, env=environment(), timeout=60)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url):
            return True
    except urllib.error.URLError:
        return False


@pytest.mark.long
async def test_workers_that_share_a_folder_answer_for_each_other(tmp_path: Path) -> None:
    """As docs/how-to/observe.md says: uvicorn with workers, each of which may be the one that is scraped."""
    shared = tmp_path / "metrics"
    shared.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "uvicorn", "--factory", "rindle:create_app", "--workers", "2", "--port", port),
        env=environment(RINDLE_METRICS="true", RINDLE_DATA=str(tmp_path), PROMETHEUS_MULTIPROC_DIR=str(shared)),
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        await eventually(lambda: len(list(shared.glob("counter_*.db"))) == 2, "two workers count")
        await eventually(lambda: answers(f"http://127.0.0.1:{port}/livez"), "they serve")
        client = Client("127.0.0.1", int(port))
        for _ in range(40):
            await client.create(5, body=b"hello")
        for _ in range(10):
            samples = scrape(f"http://127.0.0.1:{port}/metrics")
            assert samples["rindle_uploads_finished_total file"] == 40
            assert samples["rindle_active_patches"] == 0
            assert samples["rindle_build_info 0.1.0"] == 1
    finally:
        process.terminate()
        await process.wait()
