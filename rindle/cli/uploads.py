"""`rindle uploads`."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import timedelta
from typing import Any

import click

from rindle.bootstrap import Components, open_components, open_records
from rindle.cli.exits import FAILED
from rindle.cli.options import DURATION, SIZE, as_json, confirmed, settings_from, settings_options
from rindle.cli.output import confirm, print_json, print_line, print_table, spell_size
from rindle.cli.records import HEAD, event_to_json, name_of, part_to_json, to_json, to_row
from rindle.db.admin import Filter, Record, UploadAdmin
from rindle.errors import RindleError
from rindle.settings import Settings
from rindle.uploads.commands import TerminateUpload
from rindle.uploads.errors import UploadBusyError, UploadNotFoundError
from rindle.uploads.model import Upload, UploadState

_RECORDS = ("database", "data")
_ALL = (*_RECORDS, "store", "tails", "key_prefix", "publish_overwrite")
_EVERY_S = 1.0
_SOME = 100

_ids = click.argument("ids", nargs=-1, required=True, metavar="ID...")


@click.group()
def uploads() -> None:
    """List, show and end uploads."""


@uploads.command("ls")
@click.option("--state", "states", multiple=True, type=click.Choice([*map(str, UploadState)]), help="May come again.")
@click.option("--owner", help="Whose they are.")
@click.option("--usecase", help="What they are for.")
@click.option("--key", "key_prefix", metavar="PREFIX", help="What their keys start with.")
@click.option("--node", "tail_node", metavar="NODE", help="The id of the node that holds their tails.")
@click.option("--older-than", type=DURATION, help="Made longer ago than that, such as 7d.")
@click.option("--younger-than", type=DURATION, help="Made not so long ago.")
@click.option("--larger-than", type=SIZE, help="At least so many bytes, such as 5GiB.")
@click.option("--smaller-than", type=SIZE, help="At most so many bytes.")
@click.option("--limit", type=click.IntRange(min=1), help=f"At most so many; of a table {_SOME} unless told.")
@as_json
@settings_options(*_RECORDS)
def list_uploads(*, states: Collection[str], limit: int | None, as_json: bool, **flags: Any) -> None:  # noqa: ANN401
    """List uploads, the oldest first."""
    names = ("owner", "usecase", "key_prefix", "tail_node", "older_than", "younger_than", "larger_than", "smaller_than")
    wanted = Filter(states=[UploadState(state) for state in states], **{name: flags.pop(name) for name in names})
    asyncio.run(_list(settings_from(flags), wanted, limit=limit, as_json=as_json))


async def _list(settings: Settings, wanted: Filter, *, limit: int | None, as_json: bool) -> None:
    async with open_records(settings) as admin:
        if as_json:
            async for record in admin.list(wanted, limit=limit):
                print_line(to_json(record))
            return
        most = limit or _SOME
        rows = [to_row(record) async for record in admin.list(wanted, limit=most + 1)]
        print_table(HEAD, rows[:most])
        if len(rows) > most:
            click.echo(f"There are more than {most}; --limit shows more, --json all.", err=True)


@uploads.command()
@as_json
@settings_options(*_RECORDS)
def count(*, as_json: bool, **flags: Any) -> None:  # noqa: ANN401
    """Count uploads by state."""
    asyncio.run(_count(settings_from(flags), as_json=as_json))


async def _count(settings: Settings, *, as_json: bool) -> None:
    async with open_records(settings) as admin:
        counted = await admin.count(Filter())
    if as_json:
        print_json({str(state): {"uploads": number, "bytes": size} for state, (number, size) in counted.items()})
        return
    rows = [(str(state), *counted[state]) for state in UploadState if state in counted]
    print_table(("state", "uploads", "bytes"), [(state, number, spell_size(size)) for state, number, size in rows])


@uploads.command()
@click.argument("upload_id", metavar="ID")
@as_json
@settings_options(*_RECORDS)
def show(*, upload_id: str, as_json: bool, **flags: Any) -> None:  # noqa: ANN401
    """Show all that is recorded of an upload: state, parts, tail, lease, events."""
    asyncio.run(_show(settings_from(flags), upload_id, as_json=as_json))


async def _show(settings: Settings, upload_id: str, *, as_json: bool) -> None:
    async with open_records(settings) as admin:
        record = await _get(admin, upload_id)
        parts = await admin.parts_of(upload_id)
        events = await admin.events_of(upload_id)
    shown = to_json(record)
    listed = {"parts": [part_to_json(part) for part in parts], "events": [event_to_json(event) for event in events]}
    if as_json:
        print_json(shown | listed)
        return
    print_table(("", ""), [(name, value) for name, value in shown.items() if value not in (None, "")])
    if parts:
        click.echo()
        print_table(("part", "size", "e_tag"), [(part.part_number, part.size, part.e_tag) for part in parts])
    if events:
        click.echo()
        print_table(("event", "at"), [(event.payload["type"], event.created_at) for event in events])


@uploads.command()
@_ids
@confirmed
@settings_options(*_ALL)
def abort(*, ids: Sequence[str], yes: bool, **flags: Any) -> None:  # noqa: ANN401
    """Drop uploads that are not complete, and what was stored of them; as a client does by DELETE."""
    _change(settings_from(flags), ids, _terminate, "Drop", "dropped", yes=yes)


@uploads.command()
@_ids
@confirmed
@settings_options(*_ALL)
def expire(*, ids: Sequence[str], yes: bool, **flags: Any) -> None:  # noqa: ANN401
    """Drop uploads as if their time were over."""
    _change(settings_from(flags), ids, _drop, "Expire", "expired", yes=yes, states=(UploadState.ACTIVE,))


@uploads.command()
@_ids
@confirmed
@settings_options(*_ALL)
def rm(*, ids: Sequence[str], yes: bool, **flags: Any) -> None:  # noqa: ANN401
    """Remove uploads, complete ones with their objects. Nobody can have them any more."""
    settings = settings_from(flags).model_copy(update={"terminate_complete": True})
    _change(settings, ids, _terminate, "Remove for good", "removed", yes=yes)


@uploads.command()
@_ids
@click.option("--for", "lives", type=DURATION, required=True, help="How long from now, such as 7d.")
@settings_options(*_RECORDS)
def extend(*, ids: Sequence[str], lives: timedelta, **flags: Any) -> None:  # noqa: ANN401
    """Let uploads that are not complete live longer."""
    asyncio.run(_extend(settings_from(flags), ids, lives))


async def _extend(settings: Settings, ids: Sequence[str], lives: timedelta) -> None:
    async with open_records(settings) as admin:
        for upload_id in ids:
            record = await _get(admin, upload_id)
            until = await admin.extend(upload_id, lives)
            if until is None:
                raise click.ClickException(f"upload {upload_id} is {record.upload.state} and does not expire")
            click.echo(f"{upload_id} lives until {until.isoformat(timespec='seconds')}")


@uploads.command()
@_ids
@click.option("--deep", is_flag=True, help="Read the objects, and compare the checksums of their bytes.")
@as_json
@settings_options(*_ALL)
def verify(*, ids: Sequence[str], deep: bool, as_json: bool, **flags: Any) -> None:  # noqa: ANN401
    """Compare the objects of complete uploads with their records. `rindle verify` does it for all."""
    if not asyncio.run(_verify(settings_from(flags), ids, deep=deep, as_json=as_json)):
        sys.exit(FAILED)


async def _verify(settings: Settings, ids: Sequence[str], *, deep: bool, as_json: bool) -> bool:
    well = True
    async with open_components(settings, serving=False) as components:
        for upload_id in ids:
            upload = (await _get(components.admin, upload_id)).upload
            if upload.state is not UploadState.COMPLETE:
                raise click.ClickException(f"upload {upload_id} is {upload.state}; only a complete one has an object")
            finding = await components.engine.verify(upload, deep=deep)
            well = well and finding is None
            if as_json:
                fault, detail = (finding.fault, finding.detail) if finding else (None, None)
                print_line({"id": upload_id, "fault": fault, "detail": detail})
            else:
                click.echo(f"{upload_id} {f'{finding.fault}: {finding.detail}' if finding else 'well'}")
    return well


@uploads.command()
@click.option("--since", type=click.IntRange(min=0), metavar="EVENT", help="Begin after this event, not now.")
@as_json
@settings_options(*_RECORDS)
def watch(*, since: int | None, as_json: bool, **flags: Any) -> None:  # noqa: ANN401
    """Follow what happens to uploads, until interrupted."""
    try:
        asyncio.run(_watch(settings_from(flags), since, as_json=as_json))
    except KeyboardInterrupt:
        click.echo(err=True)


async def _watch(settings: Settings, since: int | None, *, as_json: bool) -> None:
    async with open_records(settings) as admin:
        last = await admin.last_event() if since is None else since
        while True:
            for event in await admin.events(after=last):
                last = event.id
                if as_json:
                    print_line(event_to_json(event))
                else:
                    about = event.payload
                    size = spell_size(about["offset"])
                    click.echo(f"{event.created_at:%H:%M:%S} {about['type']:<10} {about['upload_id']} {size}")
            await asyncio.sleep(_EVERY_S)


async def _terminate(components: Components, upload: Upload) -> None:
    await components.engine.terminate(TerminateUpload(upload_id=upload.id, owner=upload.owner))


async def _drop(components: Components, upload: Upload) -> None:
    if not await components.engine.expire(upload):
        raise UploadBusyError(upload.id)


async def _get(admin: UploadAdmin, upload_id: str) -> Record:
    record = await admin.find(upload_id)
    if record is None:
        raise UploadNotFoundError(upload_id)
    return record


def _change(
    settings: Settings,
    ids: Sequence[str],
    work: Callable[[Components, Upload], Awaitable[None]],
    question: str,
    done: str,
    *,
    yes: bool,
    states: Collection[UploadState] = (),
) -> None:
    """Do this to each of the uploads, all of which must be there. One that fails does not stop the others."""
    if not asyncio.run(_change_each(settings, ids, work, question, done, yes=yes, states=states)):
        sys.exit(FAILED)


async def _change_each(
    settings: Settings,
    ids: Sequence[str],
    work: Callable[[Components, Upload], Awaitable[None]],
    question: str,
    done: str,
    *,
    yes: bool,
    states: Collection[UploadState],
) -> bool:
    well = True
    async with open_components(settings, serving=False) as components:
        found = [(await _get(components.admin, upload_id)).upload for upload_id in dict.fromkeys(ids)]
        for upload in found:
            if states and upload.state not in states:
                raise click.ClickException(f"upload {upload.id} is {upload.state}, not {' or '.join(states)}")
        confirm(f"{question} {', '.join(map(name_of, found))}?", yes=yes)
        for upload in found:
            try:
                await work(components, upload)
                click.echo(f"{upload.id} {done}")
            except RindleError as error:
                well = False
                click.echo(f"error: {error}", err=True)
    return well
