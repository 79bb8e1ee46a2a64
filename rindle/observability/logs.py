"""How log records are written by a process that is rindle's own; an app that mounts it has its own ways.

Code all over the package logs under ``rindle``, and says there neither keys nor paths nor tokens. What a record knows
beyond its message (``extra``) becomes members of the JSON.
"""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, Literal

from typing_extensions import override

from rindle.observability.context import current_request

LogFormat = Literal["console", "json"]

_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class RequestFilter(logging.Filter):
    """Gives every record the ``request_id`` and the ``upload_id`` of the request it belongs to, or None.

    For handlers of any app: their formats can then say ``%(request_id)s``.
    """

    @override
    def filter(self, record: logging.LogRecord) -> bool:
        request = current_request()
        record.request_id = None if request is None else request.request_id
        record.upload_id = None if request is None else request.upload_id
        return True


class JsonFormatter(logging.Formatter):
    """One object of JSON per line: time, level, logger, message, ids, and what the record says besides."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": _instant(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: value for name, value in vars(record).items() if name not in _OWN and value is not None}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = record.stack_info
        return json.dumps(line, default=str)


class ConsoleFormatter(logging.Formatter):
    """One line for people, and after it the traceback, if there is one."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        line = f"{_instant(record)} {record.levelname:<7} {record.name}: {_printable(record.getMessage().rstrip())}"
        ids = (f"{name}={value}" for name in ("request_id", "upload_id") if (value := getattr(record, name, None)))
        line = " ".join((line, *ids))
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def set_up(level: str, log_format: LogFormat, *, access: bool) -> None:
    """Write records to standard error: those of rindle from ``level`` on, of everybody else warnings at most.

    ``access``: a line for each request. The only place that touches the root of all loggers; once in a process.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(RequestFilter())
    handler.setFormatter(JsonFormatter() if log_format == "json" else ConsoleFormatter())
    root = logging.getLogger()
    root.addHandler(handler)  # beside what a tool that runs us has put there
    root.setLevel(max(logging.WARNING, logging.getLevelName(level.upper())))
    logging.getLogger("rindle").setLevel(level.upper())
    logging.getLogger("rindle.access").setLevel(logging.NOTSET if access else logging.WARNING)
    logging.captureWarnings(capture=True)


def _instant(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _printable(text: str) -> str:
    # What a foreign library says may hold what a client said: no line of it may pass for one of ours.
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
