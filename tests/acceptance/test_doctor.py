"""`rindle doctor` without a proxy: what is well, and what is told of what is not."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.acceptance.process import run_rindle, without_rights

pytestmark = pytest.mark.long

LEVELS = ["OK", "WARN", "ERROR"]


def findings(*flags: str | Path, code: int, before: Sequence[str] = ()) -> dict[str, dict[str, str]]:
    """What is said of each thing that was looked at; the worst of it."""
    finished = run_rindle("doctor", "--json", *flags, before=before)
    assert finished.returncode == code, finished.stdout + finished.stderr
    assert "Traceback" not in finished.stderr
    lines = [json.loads(line) for line in finished.stdout.splitlines()]
    assert all(list(line) == ["level", "check", "summary", "mend"] for line in lines)
    assert all((line["mend"] is None) == (line["level"] == "OK") for line in lines)
    return {
        line["check"]: line for line in sorted(lines, key=lambda line: ["OK", "WARN", "ERROR"].index(line["level"]))
    }


def test_a_fresh_machine_is_well_but_for_what_has_not_been_done_yet(tmp_path: Path) -> None:
    found = findings("--data", tmp_path, code=0)
    assert {check: line["level"] for check, line in found.items()} == {
        "settings": "OK",
        "tails": "WARN",
        "database": "OK",
        "clock": "OK",
        "store": "OK",
        "multiparts": "OK",
        "conditions": "OK",
        "lifecycle": "OK",
        "reaper": "WARN",
    }
    assert run_rindle("reap", "--yes", "--data", tmp_path).returncode == 0
    (tmp_path / "tails").mkdir()
    found = findings("--data", tmp_path, code=0)
    assert {found[check]["level"] for check in ("tails", "room", "reaper")} == {"OK"}
    assert not [path for path in (tmp_path / "tails").iterdir() if path.name.startswith(".doctor")]
    assert not list((tmp_path / "objects").glob("uploads*"))


def test_people_are_told_in_lines(tmp_path: Path) -> None:
    finished = run_rindle("doctor", "--data", tmp_path)
    assert "OK     store       local: an object put, read and deleted in " in finished.stdout
    assert "\n                   → run `rindle serve`, or `rindle reap --yes` from cron" in finished.stdout


def test_a_database_that_is_down_is_an_error_and_the_rest_is_looked_at(tmp_path: Path) -> None:
    found = findings("--data", tmp_path, "--database", "postgresql://u:s3cret@127.0.0.1:1/x", code=1)
    assert found["open"]["level"] == "ERROR"
    assert "the database gave no answer" in found["open"]["summary"]
    assert "s3cret" not in str(found)
    assert found["tails"]["level"] == "WARN"


def test_a_schema_that_is_missing_is_an_error(tmp_path: Path, empty_postgres_url: str) -> None:
    found = findings("--data", tmp_path, "--database", empty_postgres_url, code=1)
    assert "rindle db upgrade" in found["open"]["summary"]


def test_commits_that_a_crash_forgets_are_an_error(tmp_path: Path, postgres_url: str) -> None:
    url = postgres_url + ("&" if "?" in postgres_url else "?") + "options=-c%20synchronous_commit%3Doff"
    found = findings("--data", tmp_path, "--database", url, code=1)
    assert found["commits"]["level"] == "ERROR"
    assert "synchronous_commit" in found["commits"]["mend"]
    assert findings("--data", tmp_path, "--database", postgres_url, code=0)["commits"]["level"] == "OK"


def test_a_folder_for_tails_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "tails").mkdir(mode=0o555)
    assert findings("--data", tmp_path, code=1, before=without_rights())["tails"]["level"] == "ERROR"


def test_settings_that_contradict_each_other_are_told(tmp_path: Path) -> None:
    flags = ["--store", "memory://", "--expires-in", "30s", "--location", "absolute"]
    finished = run_rindle("doctor", "--json", "--data", tmp_path, *flags)
    said = [json.loads(line) for line in finished.stdout.splitlines()]
    told = [line["summary"] for line in said if line["check"] == "settings"]
    assert any("in memory" in text for text in told)
    assert any("expire before their tails are spilled" in text for text in told)
    assert any("as this server sees it" in text for text in told)


@pytest.mark.parametrize("header", ["Authorization", ": x"])
def test_a_header_that_is_none_is_wrong_usage(tmp_path: Path, header: str) -> None:
    finished = run_rindle("doctor", "--data", tmp_path, "--url", "http://127.0.0.1:1/", "--header", header)
    assert finished.returncode == 2
    assert "NAME: VALUE" in finished.stderr


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/files", "ftp://x/files", "not a url"])
def test_a_url_that_does_not_answer_is_an_error(tmp_path: Path, url: str) -> None:
    found = findings("--data", tmp_path, "--url", url, code=1)
    assert found["proxy"]["level"] == "ERROR"
