"""`rindle reap`."""

import asyncio
import sys
from collections.abc import Collection
from datetime import timedelta
from typing import Any

import click

from rindle.bootstrap import open_components
from rindle.cli.exits import FAILED
from rindle.cli.logs import set_up_logging
from rindle.cli.options import DURATION, settings_from, settings_options
from rindle.cli.output import print_json, print_table, progress
from rindle.reaper.report import Chore, Report
from rindle.settings import Settings

_FLAGS = (
    "database",
    "store",
    "store_secret",
    "data",
    "tails",
    "key_prefix",
    "publish_overwrite",
    "spill_after",
    "stray_after",
    "purge_after",
    "log_level",
)


@click.command()
@click.option("--yes", is_flag=True, help="Do it. Without, only say what there is to do.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option("--only", multiple=True, type=click.Choice([*map(str, Chore)]), help="Only this chore; may come again.")
@click.option("--lasts", type=DURATION, help="Stop after this time; the next run goes on from there.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="Items a second, at most.")
@settings_options(*_FLAGS)
def reap(*, yes: bool, as_json: bool, only: Collection[str], lasts: timedelta | None, **flags: Any) -> None:  # noqa: ANN401
    """Bring to an end what no client will: for cron, beside servers or without them.

    Finishes uploads that were left in the middle, drops those past their time, aborts multiparts that no upload owns,
    removes files and old records. Nothing that is alive is touched, nor anything that is not rindle's. Without --yes it
    only counts.

    Ends with 0 if all was done, with 1 if some items failed: they are tried again later, less and less often.
    """
    rate = flags.pop("rate")
    settings = settings_from(flags)
    set_up_logging(settings.log_level)
    chores = [Chore(name) for name in only] or [*Chore]
    report = asyncio.run(_reap(settings, chores, yes=yes, lasts=lasts, rate=rate))
    if as_json:
        print_json(_as_json(report, dry_run=not yes))
    else:
        _print(report, dry_run=not yes)
    if report.failed:
        sys.exit(FAILED)


async def _reap(
    settings: Settings, chores: Collection[Chore], *, yes: bool, lasts: timedelta | None, rate: float | None
) -> Report:
    async with open_components(settings, serving=False) as components:
        if not yes:
            return await components.reaper.survey(chores)
        report = Report()
        async with progress(lambda: _in_one_line(report)):
            await components.reaper.run(chores, lasts=lasts, rate=rate, report=report)
        return report


def _in_one_line(report: Report) -> str:
    return ", ".join(f"{chore} {tally.found}" for chore, tally in report if tally.found) or "looking"


def _as_json(report: Report, *, dry_run: bool) -> dict[str, object]:
    if dry_run:
        return {"dry_run": True, "due": {str(chore): tally.done for chore, tally in report}}
    chores = {
        str(chore): {"done": tally.done, "failed": tally.failed, "skipped": tally.skipped} for chore, tally in report
    }
    return {"dry_run": False, "cut_short": report.cut_short, "chores": chores}


def _print(report: Report, *, dry_run: bool) -> None:
    if dry_run:
        print_table(["chore", "due"], [(str(chore), tally.done) for chore, tally in report])
        click.echo("Nothing was changed. --yes does it.")
        return
    rows = [(str(chore), tally.done, tally.failed, tally.skipped) for chore, tally in report]
    print_table(["chore", "done", "failed", "skipped"], rows)
    if report.cut_short:
        click.echo("The time was up before everything was looked at; the next run goes on.")
    if report.failed:
        click.echo("What failed is tried again later; the log says why.", err=True)
