"""`rindle state`: the snapshots of one stack."""

import asyncio
import json
from base64 import b64encode
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import click

from rindle.bootstrap import open_snapshots
from rindle.cli.exits import FAILED, NOT_FOUND
from rindle.cli.options import DURATION, as_json, confirmed, mask, settings_options, state_settings_from
from rindle.cli.output import confirm, print_json, print_line, print_table
from rindle.errors import ConfigurationError
from rindle.settings import StateSettings
from rindle.snapshots import Collected, Holder, Snapshot, SnapshotStore, StackLockedError, WrongKeyError
from rindle.snapshots.revisions import sort_revisions

Command = TypeVar("Command", bound=Callable[..., Any])

_NOW = timedelta(0)

_FLAGS = ("store", "store_secret", "prefix", "factory", "stack")
of_a_stack = settings_options(*_FLAGS, model=StateSettings)
waiting = click.option("--wait", type=DURATION, help="Wait so long for the lock, such as 1m.  [default: not at all]")


@click.group()
def state() -> None:
    """List, show, roll back and delete the snapshots of a stack, and lock it.

    The key that opens sealed snapshots is no flag, so that it is not seen in lists of processes: it comes from the
    environment (RINDLE_STATE_KEY) or the settings file (state_key).
    """


@state.command("ls")
@as_json
@of_a_stack
def list_snapshots(*, as_json: bool, **flags: Any) -> None:  # noqa: ANN401
    """List the snapshots, the oldest first."""
    asyncio.run(_list(state_settings_from(flags), as_json=as_json))


async def _list(settings: StateSettings, *, as_json: bool) -> None:
    async with open_snapshots(settings, writing=False) as snapshots:
        revs = await snapshots.list()
        current = await snapshots.find_current_rev()
    for rev in revs if as_json else ():
        print_line({"rev": rev, "current": rev == current})
    if not as_json:
        print_table(("revision", ""), [(rev, "current" if rev == current else "") for rev in revs])
    if not revs:
        where = f"{mask(settings.store or '')}, under {'/'.join(filter(None, (settings.prefix, _name(snapshots))))}"
        click.echo(f"there are no snapshots in {where}", err=True)


@state.command()
@click.argument("rev", required=False)
@as_json
@settings_options(*_FLAGS, "kms_key_id", model=StateSettings)
def show(*, rev: str | None, as_json: bool, **flags: Any) -> None:  # noqa: ANN401
    """Print the state of a snapshot, byte by byte as it was written; without REV of the current one."""
    asyncio.run(_show(state_settings_from(flags), rev, as_json=as_json))


async def _show(settings: StateSettings, rev: str | None, *, as_json: bool) -> None:
    async with open_snapshots(settings, writing=False) as snapshots:
        current = await snapshots.current_rev() if rev is None else await snapshots.find_current_rev()
        try:
            found = await snapshots.get(rev or current or "")
        except WrongKeyError as error:
            msg = f"{error}; give the right key: RINDLE_STATE_KEY or state_key in the settings file, or --kms-key-id"
            raise ConfigurationError(msg) from error
    if as_json:
        print_json({"rev": found.rev, "current": found.rev == current, **_as_json(found)})
    else:
        click.echo(found.data, nl=False)


def _as_json(found: Snapshot) -> dict[str, Any]:
    try:
        return {"state": json.loads(found.data)}
    except ValueError:
        return {"state_base64": b64encode(found.data).decode()}


@state.command()
@of_a_stack
def current(**flags: Any) -> None:  # noqa: ANN401
    """Print the revision of the current snapshot."""
    asyncio.run(_current(state_settings_from(flags)))


async def _current(settings: StateSettings) -> None:
    async with open_snapshots(settings, writing=False) as snapshots:
        click.echo(await snapshots.current_rev())


@state.command()
@click.argument("rev", required=False)
@confirmed
@waiting
@of_a_stack
def rollback(*, rev: str | None, yes: bool, wait: timedelta | None, **flags: Any) -> None:  # noqa: ANN401
    """Make another snapshot the current one; without REV the one before it. None is deleted."""
    asyncio.run(_roll_back(state_settings_from(flags), rev, yes=yes, wait=wait))


async def _roll_back(settings: StateSettings, rev: str | None, *, yes: bool, wait: timedelta | None) -> None:
    async with open_snapshots(settings, writing=True) as snapshots, snapshots.lock.hold(timeout=wait or _NOW):
        current = await snapshots.current_rev() if rev is None else await snapshots.find_current_rev()
        target = rev or await _before(snapshots, current or "")
        instead = "" if current is None else f" instead of {current}"
        if target == current:
            click.echo(f"{current} is the current snapshot already")
            return
        await snapshots.require(target)
        confirm(f"Make {target} the current snapshot of {_name(snapshots)}{instead}?", yes=yes)
        await snapshots.set_current(target, replacing=current)
        click.echo(f"{target} is the current snapshot{instead}")


async def _before(snapshots: SnapshotStore, current: str) -> str:
    revs = sort_revisions({*await snapshots.list(), current})  # it may have been deleted by hand
    position = revs.index(current)
    if position == 0:
        click.echo(f"error: there is no snapshot of {_name(snapshots)} before {current}", err=True)
        raise SystemExit(NOT_FOUND)
    return revs[position - 1]


@state.command()
@click.option("--keep", type=click.IntRange(0), default=10, show_default=True, help="How many of the newest stay.")
@click.option("--dry-run", is_flag=True, help="Only say what would be deleted.")
@as_json
@confirmed
@waiting
@of_a_stack
def gc(*, keep: int, dry_run: bool, as_json: bool, yes: bool, wait: timedelta | None, **flags: Any) -> None:  # noqa: ANN401
    """Delete old snapshots. The current one stays in any case."""
    settings = state_settings_from(flags)
    if dry_run:
        asyncio.run(_plan(settings, keep, as_json=as_json))
    else:
        asyncio.run(_collect(settings, keep, as_json=as_json, yes=yes, wait=wait))


async def _plan(settings: StateSettings, keep: int, *, as_json: bool) -> None:
    async with open_snapshots(settings, writing=False) as snapshots:
        planned = await snapshots.collect(keep, dry_run=True)
    if as_json:
        _print_collected(planned)
        return
    for rev in planned.deleted:
        click.echo(f"{rev} would be deleted")
    click.echo(f"{len(planned.deleted)} would be deleted, {len(planned.kept)} kept")


async def _collect(settings: StateSettings, keep: int, *, as_json: bool, yes: bool, wait: timedelta | None) -> None:
    async with open_snapshots(settings, writing=True) as snapshots, snapshots.lock.hold(timeout=wait or _NOW):
        planned = await snapshots.collect(keep, dry_run=True)
        if planned.deleted:
            oldest, newest = planned.deleted[0], planned.deleted[-1]
            which = f"{len(planned.deleted)} snapshots of {_name(snapshots)}, from {oldest} to {newest}"
            confirm(f"Delete {which}, and keep {len(planned.kept)}?", yes=yes)
        done = await snapshots.collect(keep)
    if as_json:
        _print_collected(done)
    else:
        for rev in done.deleted:
            click.echo(f"{rev} deleted")
        click.echo(f"{len(done.deleted)} deleted, {len(done.kept)} kept")
    for rev, error in done.failed.items():
        click.echo(f"error: {rev} could not be deleted: {error}", err=True)
    if done.failed:
        raise SystemExit(FAILED)


def _print_collected(done: Collected) -> None:
    failed = {rev: str(error) for rev, error in done.failed.items()}
    print_json({"deleted": done.deleted, "kept": done.kept, "failed": failed})


@state.command()
@click.option("--who", metavar="NAME", help="Who holds it, for others to read. Default: user, host and process.")
@as_json
@waiting
@of_a_stack
def lock(*, who: str | None, as_json: bool, wait: timedelta | None, **flags: Any) -> None:  # noqa: ANN401
    """Lock the stack beyond the end of this command, and print the ID that `rindle state unlock` takes."""
    asyncio.run(_lock(state_settings_from(flags), who, as_json=as_json, wait=wait))


async def _lock(settings: StateSettings, who: str | None, *, as_json: bool, wait: timedelta | None) -> None:
    async with open_snapshots(settings, writing=True) as snapshots:
        holder = await _acquire(snapshots, who, wait)
    if as_json:
        print_json(_holder_to_json(holder))
    else:
        click.echo(holder.id)


async def _acquire(snapshots: SnapshotStore, who: str | None, wait: timedelta | None) -> Holder:
    try:
        return await snapshots.lock.acquire(timeout=_NOW, who=who)
    except StackLockedError as error:
        if wait is None:
            raise
        click.echo(f"waiting: {error}", err=True)
    return await snapshots.lock.acquire(timeout=wait, who=who)


def _holder_to_json(holder: Holder) -> dict[str, Any]:
    since = None if holder.since is None else holder.since.isoformat()
    return {"id": holder.id, "who": holder.who, "since": since, "token": holder.token}


@state.command()
@click.argument("lock_id", metavar="ID", required=False)
@click.option("--force", is_flag=True, help="Take the lock away from whoever holds it.")
@confirmed
@of_a_stack
def unlock(*, lock_id: str | None, force: bool, yes: bool, **flags: Any) -> None:  # noqa: ANN401
    """Set the stack free that was locked under ID; or, with --force, whoever holds it.

    Force is for a holder that is gone: one that is still at work goes on without the lock.
    """
    if (lock_id is None) != force:
        raise click.UsageError("give either the ID that `rindle state lock` has printed, or --force")
    asyncio.run(_unlock(state_settings_from(flags), lock_id, yes=yes))


async def _unlock(settings: StateSettings, lock_id: str | None, *, yes: bool) -> None:
    async with open_snapshots(settings, writing=True) as snapshots:
        name = _name(snapshots)
        holder = await snapshots.lock.find_holder()
        if holder is None:
            click.echo(f"error: {name} is not locked", err=True)
            raise SystemExit(NOT_FOUND)
        if lock_id is None:
            confirm(f"Take the lock of {name} away from {holder}?", yes=yes)
        elif lock_id != holder.id:
            raise click.ClickException(f"{name} is locked under another ID, by {holder}; it stays so")
        if await snapshots.lock.force_unlock(holder) is None:
            raise click.ClickException(f"{name} has changed hands meanwhile; it stays as it is")
    click.echo(f"{name} is free; it was locked by {holder}")


def _name(snapshots: SnapshotStore) -> str:
    return f"{snapshots.factory}/{snapshots.stack}"
