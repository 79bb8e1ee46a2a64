"""`rindle nodes`."""

import asyncio
from typing import Any

import click

from rindle.bootstrap import open_records
from rindle.cli.exits import NOT_FOUND
from rindle.cli.options import as_json, confirmed, settings_from, settings_options
from rindle.cli.output import confirm, print_line, print_table, spell_age, spell_size
from rindle.db.admin import NodeRecord
from rindle.settings import Settings

_RECORDS = ("database", "data")
_HEAD = ("id", "name", "heard of", "retired", "tails", "bytes")


@click.group()
def nodes() -> None:
    """List nodes; declare one gone."""


@nodes.command("ls")
@as_json
@settings_options(*_RECORDS)
def list_nodes(*, as_json: bool, **flags: Any) -> None:  # noqa: ANN401
    """List nodes: when each was heard of, and what lies on it alone."""
    asyncio.run(_list(settings_from(flags), as_json=as_json))


async def _list(settings: Settings, *, as_json: bool) -> None:
    async with open_records(settings) as admin:
        listed = await admin.nodes()
    if as_json:
        for one in listed:
            print_line(_to_json(one))
    else:
        print_table(_HEAD, [_to_row(one) for one in listed])


def _to_row(one: NodeRecord) -> tuple[object, ...]:
    node = one.node
    retired = "" if node.retired_at is None else node.retired_at.isoformat(timespec="seconds")
    return (node.id, node.name, f"{spell_age(one.age)} ago", retired, one.tails, spell_size(one.tail_bytes))


def _to_json(one: NodeRecord) -> dict[str, object]:
    node = one.node
    return {
        "id": node.id,
        "name": node.name,
        "seen_at": node.seen_at.isoformat(),
        "retired_at": None if node.retired_at is None else node.retired_at.isoformat(),
        "tails": one.tails,
        "tail_bytes": one.tail_bytes,
    }


@nodes.command()
@click.argument("node_id", metavar="ID")
@confirmed
@settings_options(*_RECORDS)
def retire(*, node_id: str, yes: bool, **flags: Any) -> None:  # noqa: ANN401
    """Declare a node gone for good, with the tails on its disk.

    Uploads that rest on them end at their clients' next request (410), or go back to their last part where
    allow_rewind is set. All other uploads go on anywhere.
    """
    asyncio.run(_retire(settings_from(flags), node_id, yes=yes))


async def _retire(settings: Settings, node_id: str, *, yes: bool) -> None:
    async with open_records(settings) as admin:
        found = [one for one in await admin.nodes() if one.node.id == node_id]
        if not found:
            click.echo(f"error: there is no node {node_id}; `rindle nodes ls` lists them", err=True)
            raise SystemExit(NOT_FOUND)
        (one,) = found
        lost = f"{one.tails} tails with {spell_size(one.tail_bytes)} on it are lost then"
        confirm(f"Retire {one.node.name}, heard of {spell_age(one.age)} ago? {lost}.", yes=yes)
        await admin.retire(node_id)
        click.echo(f"{node_id} retired")
