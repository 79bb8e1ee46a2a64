"""`rindle reap`."""

import asyncio
import sys
from collections.abc import Collection
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from rindle.bootstrap import load_metrics, open_components
from rindle.cli.exits import FAILED
from rindle.cli.logs import set_up_logging
from rindle.cli.options import DURATION, settings_from, settings_options
from rindle.cli.output import print_json, print_table, progress
from rindle.observability.observer import NOBODY
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
    "log_format",
)


@click.command()
@click.option("--yes", is_flag=True, help="Do it. Without, only say what there is to do.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option("--only", multiple=True, type=click.Choice([*map(str, Chore)]), help="Only this chore; may come again.")
@click.option("--lasts", type=DURATION, help="Stop after this time; the next run goes on from there.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="Items a second, at most.")
@click.option(
    "--metrics-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Say here when it last ran to its end, for Prometheus (*.prom, node_exporter's textfile collector).",
)
@settings_options(*_FLAGS)
def reap(*, yes: bool, as_json: bool, only: Collection[str], lasts: timedelta | None, **flags: Any) -> None:  # noqa: ANN401
    """Bring to an end what no client will: for cron, beside servers or without them.

    Finishes uploads that were left in the middle, drops those past their time, aborts multiparts that no upload owns,
    removes files and old records. Nothing that is alive is touched, nor anything that is not rindle's. Without --yes it
    only counts.

    Ends with 0 if all was done, with 1 if some items failed: they are tried again later, less and less often.
    """
    rate, metrics_file = flags.pop("rate"), flags.pop("metrics_file")
    if metrics_file is not None and not yes:
        msg = "--metrics-file goes with --yes: what is only counted is no run"
        raise click.UsageError(msg)
    settings = settings_from(flags)
    set_up_logging(settings)
    chores = [Chore(name) for name in only] or [*Chore]
    if yes:
        report = asyncio.run(_reap(settings, chores, lasts=lasts, rate=rate, metrics_file=metrics_file))
    else:
        report = asyncio.run(_survey(settings, chores))
    if as_json:
        print_json(_as_json(report, dry_run=not yes))
    else:
        _print(report, dry_run=not yes)
    if report.failed:
        sys.exit(FAILED)


async def _survey(settings: Settings, chores: Collection[Chore]) -> Report:
    async with open_components(settings, serving=False) as components:
        return await components.reaper.survey(chores)


async def _reap(
    settings: Settings,
    chores: Collection[Chore],
    *,
    lasts: timedelta | None,
    rate: float | None,
    metrics_file: Path | None,
) -> Report:
    metrics = None if metrics_file is None else load_metrics(settings)
    report = Report()
    async with open_components(settings, serving=False, observer=metrics or NOBODY) as components:

        async def tell() -> None:
            if metrics is not None and metrics_file is not None:
                last = await components.repository.find_reaped()
                if last is not None:
                    metrics.reaper_succeeded(last)
                metrics.write_file(metrics_file)

        await tell()  # before anything is done: it may turn out that it cannot be written
        async with progress(lambda: _in_one_line(report)):
            await components.reaper.run(chores, lasts=lasts, rate=rate, report=report)
        await tell()
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
