"""The dashboard and the alerts of ops/ fit what is counted, and every alert has its runbook."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from rindle.observability.metrics import Metrics
from tests.acceptance.process import ROOT
from tests.required import missing

RULES = ROOT / "ops/prometheus/rindle.rules.yaml"
DASHBOARD = ROOT / "ops/grafana/rindle.json"
RUNBOOKS = ROOT / "docs/how-to/runbooks.md"

_SELECTOR = re.compile(r"\b([a-z][a-z0-9_]*_[a-z0-9_]+)(?:\{([^}]*)\})?")
_GROUPED = re.compile(r"\b(?:by|without)\s*\(([^)]*)\)")
_FUNCTIONS = {"histogram_quantile", "predict_linear", "label_values"}
# What Prometheus itself, or the library, adds.
_FOREIGN = {"process_resident_memory_bytes"}
_FOREIGN_LABELS = {"job", "instance", "le"}


def alerts() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def expressions() -> Iterator[str]:
    for alert in alerts():
        yield alert["expr"]
    dashboard = json.loads(DASHBOARD.read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            yield target["expr"]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            assert variable["definition"] == variable["query"]["query"]
            yield variable["definition"]


@pytest.fixture(scope="module")
def known() -> dict[str, set[str]]:
    """The samples that a scrape may have, with their labels."""
    samples = {name: set[str]() for name in _FOREIGN}
    for metric in Metrics(store="s3").descriptions:
        suffixes = ("_bucket", "_sum", "_count") if metric.kind == "histogram" else ("",)
        samples |= {f"{metric.name}{suffix}": set(metric.labels) for suffix in suffixes}
    return samples


def test_what_is_asked_for_is_counted(known: dict[str, set[str]]) -> None:
    used = set()
    for expression in expressions():
        for name, matchers in _SELECTOR.findall(_GROUPED.sub("", expression)):
            if name in _FUNCTIONS:
                continue
            assert name in known, expression
            used.add(name)
            labels = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))
            assert labels <= known[name] | _FOREIGN_LABELS, expression
        labels_of_all = set().union(*known.values()) | _FOREIGN_LABELS
        for grouped in _GROUPED.findall(expression):
            assert set(re.split(r"\s*,\s*", grouped.strip())) <= labels_of_all, expression
    by_metric = {re.sub("_(bucket|sum|count)$", "", name) for name in used}
    counted = {metric.name for metric in Metrics(store="s3").descriptions}
    assert by_metric - _FOREIGN == counted, "something is counted that nobody looks at"


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    sections = re.findall(r"^## (\w+)$", RUNBOOKS.read_text(), re.MULTILINE)
    assert sections == [alert["alert"] for alert in alerts()]
    for alert in alerts():
        assert alert["annotations"]["runbook"] == f"docs/how-to/runbooks.md#{alert['alert'].lower()}"
        assert alert["annotations"]["summary"]
        assert alert["labels"]["severity"] in {"critical", "warning"}
    for section in RUNBOOKS.read_text().split("\n## ")[1:]:
        assert all(f"\n**{part}** " in section for part in ("Means", "Look", "Do")), section


def test_the_dashboard_is_whole() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        covered = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not covered & cells, panel["title"]
        assert max(x for x, _ in covered) < 24
        cells |= covered
        for target in panel.get("targets", ()):
            assert target["datasource"]["uid"] == "${datasource}"
    assert {variable["name"] for variable in dashboard["templating"]["list"]} == {"datasource", "job", "instance"}


# Series of an hour, a sample each minute, in promtool's notation: from + step x times.
_GROWS = "0+60x60"
_WELL = {
    "up{}": "1x60",
    'rindle_http_requests_total{method="PATCH",code="204"}': _GROWS,
    'rindle_http_requests_total{method="PATCH",code="503"}': "0+1x60",
    'rindle_errors_total{code="database_unavailable"}': "0x30 1x30",
    'rindle_errors_total{code="store_full"}': "0x60",
    'rindle_errors_total{code="upload_locked"}': "0+1x60",
    'rindle_part_upload_seconds_count{store="s3",outcome="done"}': _GROWS,
    'rindle_part_upload_seconds_count{store="s3",outcome="failed"}': "0+1x60",
    'rindle_part_upload_seconds_bucket{store="s3",outcome="done",le="10"}': _GROWS,
    'rindle_part_upload_seconds_bucket{store="s3",outcome="done",le="30"}': _GROWS,
    'rindle_part_upload_seconds_bucket{store="s3",outcome="done",le="+Inf"}': _GROWS,
    "rindle_tail_disk_free_bytes{}": "9000000000x60",
    'rindle_tail_missing_total{reason="missing"}': "0x60",
    'rindle_tail_missing_total{reason="elsewhere"}': "0+1x60",
    'rindle_uploads_terminated_total{reason="client"}': _GROWS,
    'rindle_uploads_terminated_total{reason="tus_tail_missing"}': "0x60",
    "rindle_reaper_last_success_timestamp_seconds{}": _GROWS,
    'rindle_reaper_items_total{kind="expired",outcome="failed"}': "0x20 1x40",
    "rindle_orphaned_multipart_uploads{}": "0x60",
}
_BAD = {
    "RindleDown": {"up{}": "1x30 0x30"},
    "RindleServerErrors": {'rindle_http_requests_total{method="PATCH",code="503"}': "0+6x60"},
    "RindleDatabaseUnavailable": {'rindle_errors_total{code="database_unavailable"}': "0x50 1+1x10"},
    "RindleStoreFailing": {'rindle_part_upload_seconds_count{store="s3",outcome="failed"}': "0+20x60"},
    "RindleStoreSlow": {'rindle_part_upload_seconds_bucket{store="s3",outcome="done",le="10"}': "0+50x60"},
    "RindleStoreFull": {'rindle_errors_total{code="store_full"}': "0x55 1x5"},
    "RindleTailDiskFilling": {"rindle_tail_disk_free_bytes{}": "9000000000-50000000x60"},
    "RindleTailLost": {'rindle_tail_missing_total{reason="missing"}': "0x55 1x5"},
    "RindleTailsElsewhere": {'rindle_tail_missing_total{reason="elsewhere"}': "0+6x60"},
    "RindleUploadsFailed": {'rindle_uploads_terminated_total{reason="tus_tail_missing"}': "0x30 1x30"},
    "RindleLocksContended": {'rindle_errors_total{code="upload_locked"}': "0+9x60"},
    "RindleReaperStalled": {"rindle_reaper_last_success_timestamp_seconds{}": "0+60x20 1200x40"},
    "RindleReaperFailing": {'rindle_reaper_items_total{kind="expired",outcome="failed"}': _GROWS},
    "RindleOrphanedMultiparts": {"rindle_orphaned_multipart_uploads{}": "3x200"},
}


def test_alerts_come_when_they_should_and_else_do_not(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        missing("promtool", "there is no promtool (it is in Debian's package prometheus)")
    assert set(_BAD) == {alert["alert"] for alert in alerts()}
    cases = [case("all is well", {})] + [case(name, series, name) for name, series in _BAD.items()]
    cases.append(case("little room", {"rindle_tail_disk_free_bytes{}": "1500000000x60"}, "RindleTailDiskFilling"))
    file = tmp_path / "rules.test.yaml"
    file.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": cases}))
    for command in (("check", "rules", str(RULES)), ("test", "rules", str(file))):
        done = subprocess.run([promtool, *command], check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def case(name: str, series: dict[str, str], *expected: str) -> dict[str, Any]:
    """Whatever else is well, these alerts are there in the end, and no others."""
    at_last = "190m" if "RindleOrphanedMultiparts" in expected else "59m"
    return {
        "name": name,
        "interval": "1m",
        "input_series": [
            {"series": key.replace("{", '{job="rindle",instance="a",').replace(",}", "}"), "values": values}
            for key, values in (_WELL | series).items()
        ],
        "promql_expr_test": [
            {
                "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                "eval_time": at_last,
                "exp_samples": [{"labels": f'{{alertname="{alert}"}}', "value": 1} for alert in expected],
            }
        ],
    }
