import json
import logging
import subprocess
import sys
from typing import Any

import pytest

from rindle.observability.context import RequestContext, serving
from rindle.observability.logs import ConsoleFormatter, JsonFormatter, RequestFilter
from tests.acceptance.process import environment

HOSTILE = "a\nERROR all is lost\r\x1b[31m\x00\x85\u2028\u202e\ud800"


def record(message: str, *args: Any, extra: dict[str, Any] | None = None) -> logging.LogRecord:
    made = logging.makeLogRecord(
        {"name": "rindle.x", "levelname": "WARNING", "msg": message, "args": args, "created": 1.5} | (extra or {})
    )
    RequestFilter().filter(made)
    return made


def record_of_failure() -> logging.LogRecord:
    made = record("x")
    nothing: dict[str, str] = {}
    try:
        nothing["it"]
    except KeyError:
        made.exc_info = sys.exc_info()
    return made


def as_json(made: logging.LogRecord) -> dict[str, Any]:
    text = JsonFormatter().format(made)
    assert text.isprintable()
    assert text.isascii()
    found: dict[str, Any] = json.loads(text)
    return found


def test_a_line_of_json() -> None:
    assert as_json(record("it was %s", "so", extra={"code": "c", "seconds": 1.5, "nothing": None})) == {
        "time": "1970-01-01T00:00:01.500Z",
        "level": "warning",
        "logger": "rindle.x",
        "message": "it was so",
        "code": "c",
        "seconds": 1.5,
    }


def test_a_line_for_people() -> None:
    assert (
        ConsoleFormatter().format(record("it was %s", "so")) == "1970-01-01T00:00:01.500Z WARNING rindle.x: it was so"
    )


def test_a_line_of_a_request_says_which() -> None:
    with serving(RequestContext(request_id="r1", protocol="tus")):
        found = as_json(record("x"))
        assert (found["request_id"], "upload_id" in found) == ("r1", False)
    with serving(RequestContext(request_id="r1", protocol="tus", upload_id="u1")):
        found = as_json(record("x"))
        assert (found["request_id"], found["upload_id"]) == ("r1", "u1")
        assert ConsoleFormatter().format(record("x")).endswith("rindle.x: x request_id=r1 upload_id=u1")


def test_no_line_can_be_forged() -> None:
    assert as_json(record("%s", HOSTILE, extra={"code": HOSTILE}))["message"] == HOSTILE
    assert ConsoleFormatter().format(record("%s", HOSTILE)).isprintable()


def test_what_json_does_not_know_is_spelled() -> None:
    assert as_json(record("x", extra={"what": {1}}))["what"] == "{1}"


def test_a_traceback() -> None:
    found = as_json(record_of_failure())
    assert found["exception"].startswith("Traceback")
    assert found["exception"].endswith("KeyError: 'it'")
    first, second, *_, last = ConsoleFormatter().format(record_of_failure()).splitlines()
    assert first.endswith("rindle.x: x")
    assert second.startswith("Traceback")
    assert last == "KeyError: 'it'"


def test_a_foreign_handler_can_say_the_ids() -> None:
    with serving(RequestContext(request_id="r1", protocol="tus")):
        assert logging.Formatter("%(request_id)s %(upload_id)s").format(record("x")) == "r1 None"


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment(), timeout=60
    )


def test_who_uses_the_package_is_left_alone_by_it() -> None:
    code = """
import logging, rindle, rindle.bootstrap
rindle.create_app(rindle.Settings(log_level="debug", log_format="json"))
assert logging.getLogger().handlers == []
found = [name for name in logging.root.manager.loggerDict if name.startswith("rindle")]
assert all(logging.getLogger(name).level == 0 and not logging.getLogger(name).handlers for name in found), found
"""
    python(code)


@pytest.mark.parametrize(
    ("level", "access", "said"),
    [
        ("debug", True, ["rindle.x debug", "rindle.access info", "rindle.x error", "other warning", "other error"]),
        ("info", True, ["rindle.access info", "rindle.x error", "other warning", "other error"]),
        ("info", False, ["rindle.x error", "other warning", "other error"]),
        ("error", True, ["rindle.x error", "other error"]),
    ],
)
def test_levels(level: str, access: bool, said: list[str]) -> None:  # noqa: FBT001
    code = f"""
import json, logging, warnings
from rindle.observability.logs import set_up
logging.getLogger().addHandler(logging.NullHandler())  # somebody else's
set_up({level!r}, "json", access={access})
logging.getLogger("rindle.x").debug("x")
logging.getLogger("rindle.access").info("x")
logging.getLogger("rindle.x").error("x")
for level in ("debug", "info", "warning", "error"):
    getattr(logging.getLogger("other"), level)("x")
warnings.warn("\\nforged")
"""
    ended = python(code)
    assert ended.stdout == ""
    lines = [json.loads(line) for line in ended.stderr.splitlines()]
    found = [f"{line['logger']} {line['level']}" for line in lines if line["logger"] != "py.warnings"]
    assert found == said
    assert len(lines) - len(found) == (level != "error")
