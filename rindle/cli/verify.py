"""`rindle verify`."""

import asyncio
import sys
from dataclasses import dataclass
from typing import Any

import click

from rindle.bootstrap import Components, open_components
from rindle.cli.exits import FAILED
from rindle.cli.options import as_json, settings_from, settings_options
from rindle.cli.output import confirm, print_line, progress
from rindle.db.admin import Filter
from rindle.errors import RindleError
from rindle.settings import Settings
from rindle.uploads.model import UploadState
from rindle.uploads.verifying import Finding

_FLAGS = ("database", "data", "store", "store_secret", "tails", "key_prefix")


@dataclass(slots=True)
class _Count:
    looked_at: int = 0
    wrong: int = 0
    repaired: int = 0
    failed: int = 0


@click.command()
@click.option("--deep", is_flag=True, help="Read all objects, and compare the checksums of their bytes.")
@click.option("--repair", is_flag=True, help="Make the records say what is so; no object is touched.")
@click.option("--yes", is_flag=True, help="Repair without asking.")
@as_json
@settings_options(*_FLAGS)
def verify(*, deep: bool, repair: bool, yes: bool, as_json: bool, **flags: Any) -> None:  # noqa: ANN401
    """Compare all complete uploads with their objects: is each there, of its size, its own, and unchanged?

    With --repair an upload whose object is lost becomes `failed`, and whoever asks for it is told (410); where only
    the e_tag differs, the record takes the object's. Ends with 1 if anything is wrong and was not repaired.
    """
    settings = settings_from(flags)
    if repair:
        confirm("Change the records of uploads whose objects are lost or differ?", yes=yes)
    count = asyncio.run(_verify(settings, deep=deep, repair=repair, as_json=as_json))
    said = f"{count.looked_at} uploads, {count.wrong} wrong, {count.repaired} repaired, {count.failed} not looked at"
    click.echo(said, err=True)
    if count.failed or count.wrong > count.repaired:
        sys.exit(FAILED)


async def _verify(settings: Settings, *, deep: bool, repair: bool, as_json: bool) -> _Count:
    count = _Count()
    async with open_components(settings, serving=False) as components:
        complete = components.admin.list(Filter(states=[UploadState.COMPLETE]))
        async with progress(lambda: f"{count.looked_at} uploads, {count.wrong} wrong"):
            async for record in complete:
                try:
                    finding = await components.engine.verify(record.upload, deep=deep)
                except RindleError as error:
                    count.failed += 1
                    click.echo(f"error: upload {record.upload.id} could not be looked at: {error}", err=True)
                    continue
                count.looked_at += 1
                if finding is not None:
                    count.wrong += 1
                    repaired = repair and await _repair(components, finding)
                    count.repaired += repaired
                    _tell(finding, repaired=repaired, as_json=as_json)
    return count


async def _repair(components: Components, finding: Finding) -> bool:
    try:
        await components.engine.repair(finding)
    except RindleError as error:
        click.echo(f"error: {error}", err=True)
        return False
    return True


def _tell(finding: Finding, *, repaired: bool, as_json: bool) -> None:
    upload = finding.upload
    if as_json:
        line = {"id": upload.id, "key": upload.key, "fault": finding.fault, "detail": finding.detail}
        print_line(line | {"repaired": repaired})
    else:
        click.echo(f"{upload.id} {finding.fault}: {finding.detail}{' (repaired)' if repaired else ''}")
