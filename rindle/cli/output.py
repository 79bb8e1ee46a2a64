"""What commands print: tables for people, JSON for programs on stdout; how far they are on stderr."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

import click

_GAP = "  "
_EVERY_S = 0.5
_STEP = 1024


def print_json(value: object) -> None:
    """One JSON value, readable."""
    click.echo(json.dumps(value, indent=2, default=str))


def print_line(value: object) -> None:
    """One line of NDJSON."""
    click.echo(json.dumps(value, default=str))


def print_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Columns as wide as what stands in them; numbers stand right. What a terminal might obey is written out."""
    lines = list(rows)
    cells = [[_harmless(cell) for cell in row] for row in (head, *lines)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    right = [all(isinstance(row[column], int) for row in lines) for column in range(len(head))]
    for row in cells:
        padded = (
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        )
        click.echo(_GAP.join(padded).rstrip())


def _harmless(cell: object) -> str:
    text = "" if cell is None else str(cell)
    return text if text.isprintable() else ascii(text)[1:-1]


def spell_size(size: int) -> str:
    """Bytes, for people."""
    value, unit = float(size), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < _STEP:
            break
        value, unit = value / _STEP, larger
    return f"{size} B" if unit == "B" else f"{value:.1f} {unit}"


def spell_age(age: timedelta) -> str:
    """A length of time in its largest unit, for people."""
    seconds = int(age.total_seconds())
    for unit, letter in ((86400, "d"), (3600, "h"), (60, "m")):
        if abs(seconds) >= unit:
            return f"{seconds // unit}{letter}"
    return f"{seconds}s"


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something is destroyed. Where nobody can answer, say that --yes does; that is wrong usage."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError(f"{question} Say --yes.")
    click.confirm(question, abort=True)


@asynccontextmanager
async def progress(say: Callable[[], str]) -> AsyncIterator[None]:
    """Show on stderr how far the block is, in one line that changes; only if somebody is watching."""
    if not sys.stderr.isatty():
        yield
        return
    showing = asyncio.create_task(_show(say))
    try:
        yield
    finally:
        showing.cancel()
        await asyncio.gather(showing, return_exceptions=True)
        click.echo("\r\x1b[K", nl=False, err=True)


async def _show(say: Callable[[], str]) -> None:
    while True:
        click.echo(f"\r\x1b[K{say()}", nl=False, err=True)
        await asyncio.sleep(_EVERY_S)
