"""`rindle doctor`."""

import asyncio
import sys
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from typing import Any

import click

from rindle.bootstrap import open_components
from rindle.cli.checks.database import check_database, check_reaper
from rindle.cli.checks.disk import check_disk
from rindle.cli.checks.finding import Finding, Level, error
from rindle.cli.checks.proxy import check_proxy
from rindle.cli.checks.settings import check_settings
from rindle.cli.checks.store import check_store
from rindle.cli.exits import FAILED
from rindle.cli.options import as_json, settings_from, settings_options
from rindle.cli.output import print_line
from rindle.errors import RindleError
from rindle.settings import Settings

_COLOURS = {Level.OK: "green", Level.WARN: "yellow", Level.ERROR: "red"}
_WIDTH = 12


@click.command()
@click.option("--url", help="Where clients find the uploads; tried through whatever stands before this server.")
@click.option("--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="Sent to --url; may come again.")
@as_json
@settings_options()
def doctor(*, url: str | None, headers: Sequence[str], as_json: bool, **flags: Any) -> None:  # noqa: ANN401
    """Try everything that the settings name, and say what to do about what is not well.

    Database, store, disk, reaper; with --url also the proxy, by an upload that is cut off and removed again. Ends with
    1 if anything is an ERROR.
    """
    settings = settings_from(flags)
    worst = asyncio.run(_examine(settings, url, _parse(headers), as_json=as_json))
    if worst is Level.ERROR:
        sys.exit(FAILED)


def _parse(headers: Iterable[str]) -> dict[str, str]:
    parsed = {}
    for header in headers:
        name, colon, value = header.partition(":")
        if not colon or not name.strip():
            raise click.BadParameter("give a header as 'NAME: VALUE'", param_hint="--header")
        parsed[name.strip()] = value.strip()
    return parsed


async def _examine(settings: Settings, url: str | None, headers: dict[str, str], *, as_json: bool) -> Level:
    worst = Level.OK
    async with aclosing(_findings(settings, url, headers)) as findings:
        async for finding in findings:
            if as_json:
                found = {"level": str(finding.level), "check": finding.check, "summary": finding.summary}
                print_line(found | {"mend": finding.mend or None})
            else:
                _print(finding)
            worst = max(worst, finding.level, key=[*Level].index)
    return worst


async def _findings(settings: Settings, url: str | None, headers: dict[str, str]) -> AsyncGenerator[Finding, None]:
    for finding in (*check_settings(settings), *await asyncio.to_thread(lambda: [*check_disk(settings)])):
        yield finding
    try:
        async with open_components(settings, serving=False) as components:
            for check in (check_database, check_store, check_reaper):
                async for finding in check(components):
                    yield finding
    except RindleError as fault:
        yield error("open", str(fault), "mend that, and run doctor again for the rest")
    if url is not None:
        for finding in await asyncio.to_thread(lambda: [*check_proxy(url, headers)]):
            yield finding


def _print(finding: Finding) -> None:
    level = click.style(f"{finding.level:<5}", fg=_COLOURS[finding.level])
    click.echo(f"{level}  {finding.check:<{_WIDTH}}{finding.summary}")
    if finding.mend:
        click.echo(f"{'':<7}{'':<{_WIDTH}}→ {finding.mend}")
