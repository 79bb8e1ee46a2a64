"""What a check has found."""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad it is."""

    OK = "OK"
    WARN = "WARN"
    """It works, and something will not one day, or not as well as it could."""
    ERROR = "ERROR"
    """It does not work."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was looked at, what is so, and, unless that is well, what to do."""

    level: Level
    check: str
    summary: str
    mend: str = ""


def ok(check: str, summary: str) -> Finding:
    """All is well."""
    return Finding(Level.OK, check, summary)


def warn(check: str, summary: str, mend: str) -> Finding:
    """It works."""
    return Finding(Level.WARN, check, summary, mend)


def error(check: str, summary: str, mend: str) -> Finding:
    """It does not work."""
    return Finding(Level.ERROR, check, summary, mend)
