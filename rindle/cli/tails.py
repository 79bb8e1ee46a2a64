"""`rindle tails`: the files in this node's tail folder."""

import asyncio
from collections.abc import Sequence
from typing import Any

import click

from rindle.bootstrap import Components, open_components
from rindle.cli.exits import NOT_FOUND
from rindle.cli.options import as_json, confirmed, settings_from, settings_options
from rindle.cli.output import confirm, print_line, print_table, spell_age, spell_size
from rindle.clock import utc_now
from rindle.errors import ConfigurationError
from rindle.settings import Settings
from rindle.uploads.tail import TailInfo

_FLAGS = ("database", "data", "tails", "store", "store_secret")
_HEAD = ("name", "upload", "bytes", "age", "use")


@click.group()
def tails() -> None:
    """List and remove tails on this node's disk."""


@tails.command("ls")
@as_json
@settings_options(*_FLAGS)
def list_tails(*, as_json: bool, **flags: Any) -> None:  # noqa: ANN401
    """List the tail files of this node.

    A file is "named" by the record of its upload, "open" in a process, or "litter", which the reaper removes.
    """
    asyncio.run(_list(settings_from(flags), as_json=as_json))


async def _list(settings: Settings, *, as_json: bool) -> None:
    async with open_components(_of_this_node(settings), serving=False) as components:
        found = await components.tails.list(components.repository)
    now = utc_now()
    for one in found if as_json else ():
        line = {"name": one.name, "upload_id": one.upload_id, "bytes": one.size, "use": one.use}
        print_line(line | {"modified_at": one.modified_at.isoformat()})
    if not as_json:
        rows = [
            (one.name, one.upload_id, spell_size(one.size), spell_age(now - one.modified_at), one.use) for one in found
        ]
        print_table(_HEAD, rows)


@tails.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@confirmed
@settings_options(*_FLAGS)
def rm(*, names: Sequence[str], yes: bool, **flags: Any) -> None:  # noqa: ANN401
    """Remove tail files that are litter. What an upload rests on goes with the upload: `rindle uploads abort`."""
    asyncio.run(_remove(settings_from(flags), names, yes=yes))


async def _remove(settings: Settings, names: Sequence[str], *, yes: bool) -> None:
    async with open_components(_of_this_node(settings), serving=False) as components:
        chosen = [await _get(components, name) for name in dict.fromkeys(names)]
        for one in chosen:
            if one.use != "litter":
                raise click.ClickException(f"{one.name} is {one.use}: upload {one.upload_id} rests on it")
        confirm(f"Remove {len(chosen)} tails with {spell_size(sum(one.size for one in chosen))}?", yes=yes)
        for one in chosen:
            await components.tails.discard(one.name)
            click.echo(f"{one.name} removed")


async def _get(components: Components, name: str) -> TailInfo:
    for one in await components.tails.list(components.repository):
        if one.name == name:
            return one
    click.echo(f"error: there is no tail {name} on this node; `rindle tails ls` lists them", err=True)
    raise SystemExit(NOT_FOUND)


def _of_this_node(settings: Settings) -> Settings:
    if not settings.tails_folder.is_dir():
        msg = f"there is no folder {settings.tails_folder}; say where this node's tails are with --tails"
        raise ConfigurationError(msg)
    return settings
