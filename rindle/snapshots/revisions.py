"""The names of snapshots: when they were written, so that their order is the order of time.

A revision is an instant in UTC with nine digits of the second, and a suffix if several were written in one nanosecond:
``2026-01-02T03:04:05.000000006Z``, ``…Z_01``. All have one width, so that sorted by text they are sorted by time. Older
ones, whose instants had no zeros at the end and whose suffixes none in front, are known too; by text they would not be.
"""

import re
from collections.abc import Iterable
from datetime import UTC, datetime

SUFFIXES = 100
"""Revisions of one nanosecond: one without a suffix, and ``_01`` to ``_99``."""

_REVISION = re.compile(
    r"(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2})(?:\.(\d{1,9}))?Z(?:_(\d{1,9}))?",
    re.ASCII,
)
_NS = 1_000_000_000


def make_revision(instant_ns: int, number: int = 0) -> str:
    """The name of the ``number``-th snapshot, from 0, of an instant in nanoseconds since the epoch."""
    seconds, fraction = divmod(instant_ns, _NS)
    base = f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{fraction:09}Z"
    return f"{base}_{number:02}" if number else base


def is_revision(name: str) -> bool:
    """Whether it is the name of a snapshot, and not one that somebody has thought of."""
    return _REVISION.fullmatch(name) is not None


def sort_revisions(revisions: Iterable[str]) -> list[str]:
    """By time, then by suffix; what is no revision comes last, by text."""
    return sorted(revisions, key=_key)


def _key(revision: str) -> tuple[bool, str, int, str]:
    found = _REVISION.fullmatch(revision)
    if found is None:
        return True, "", 0, revision
    second, fraction, suffix = found.groups()
    return False, f"{second}.{fraction or '':0<9}", int(suffix or 0), revision
