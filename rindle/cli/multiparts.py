"""`rindle multiparts`: what the store has begun and not finished, under our prefix."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import click

from rindle.bootstrap import Components, open_components
from rindle.cli.exits import NOT_FOUND
from rindle.cli.options import DURATION, as_json, confirmed, settings_from, settings_options
from rindle.cli.output import confirm, print_line, print_table, spell_age
from rindle.clock import utc_now
from rindle.objectstore.types import MultipartMeta
from rindle.settings import Settings
from rindle.uploads.keys import upload_of
from rindle.uploads.model import UploadState

_FLAGS = ("database", "data", "store", "store_secret", "tails", "key_prefix")
_HEAD = ("key", "multipart id", "age", "upload")
_PAGE = 1000


@click.group()
def multiparts() -> None:
    """List and abort unfinished multiparts."""


@multiparts.command("ls")
@click.option("--older-than", type=DURATION, default=None, help="Begun longer ago than that, such as 1d.")
@as_json
@settings_options(*_FLAGS)
def list_multiparts(*, older_than: timedelta | None, as_json: bool, **flags: Any) -> None:  # noqa: ANN401
    """List unfinished multiparts under the key prefix, each with the state of its upload.

    "unknown": no upload of that id is recorded; "foreign": the key is none that rindle makes.
    """
    asyncio.run(_list(settings_from(flags), older_than, as_json=as_json))


async def _list(settings: Settings, older_than: timedelta | None, *, as_json: bool) -> None:
    async with open_components(settings, serving=False) as components:
        found = await _find(components, older_than)
        uses = await _uses(components, found)
    now = utc_now()
    rows = []
    for one in found:
        use = uses[one.ref.key]
        if as_json:
            line = {"key": one.ref.key, "multipart_id": one.ref.multipart_id, "upload": use}
            print_line(line | {"initiated_at": one.initiated_at.isoformat()})
        rows.append((one.ref.key, one.ref.multipart_id, spell_age(now - one.initiated_at), use))
    if not as_json:
        print_table(_HEAD, rows)


@multiparts.command()
@click.argument("ids", nargs=-1, required=True, metavar="MULTIPART_ID...")
@confirmed
@settings_options(*_FLAGS)
def abort(*, ids: Sequence[str], yes: bool, **flags: Any) -> None:  # noqa: ANN401
    """Abort multiparts that no upload goes on with. That of an upload goes with it: `rindle uploads abort`."""
    asyncio.run(_abort(settings_from(flags), ids, yes=yes))


async def _abort(settings: Settings, ids: Sequence[str], *, yes: bool) -> None:
    async with open_components(settings, serving=False) as components:
        found = {one.ref.multipart_id: one for one in await _find(components, None)}
        for multipart_id in ids:
            if multipart_id not in found:
                click.echo(f"error: there is no multipart {multipart_id}; `rindle multiparts ls` lists them", err=True)
                raise SystemExit(NOT_FOUND)
        chosen = [found[multipart_id] for multipart_id in dict.fromkeys(ids)]
        uses = await _uses(components, chosen)
        for one in chosen:
            if uses[one.ref.key] not in _FREE:
                raise click.ClickException(f"{one.ref.key} belongs to an upload that is {uses[one.ref.key]}")
        confirm(f"Abort {len(chosen)} multiparts?", yes=yes)
        for one in chosen:
            await components.store.abort_multipart(one.ref)
            click.echo(f"{one.ref.multipart_id} aborted")


_FREE = frozenset({"unknown", "foreign", *map(str, (UploadState.COMPLETE, UploadState.ABORTED, UploadState.FAILED))})


async def _find(components: Components, older_than: timedelta | None) -> Sequence[MultipartMeta]:
    root = components.engine.options.key_root
    before = utc_now() - (older_than or timedelta(0))
    listed = components.store.list_multiparts(f"{root}/" if root else "")
    return [one async for one in listed if one.initiated_at <= before]


async def _uses(components: Components, found: Sequence[MultipartMeta]) -> Mapping[str, str]:
    """What each of these keys is to the records."""
    root = components.engine.options.key_root
    owners = {one.ref.key: upload_of(root, one.ref.key) for one in found}
    known = sorted({owner for owner in owners.values() if owner is not None})
    states: dict[str, UploadState] = {}
    for start in range(0, len(known), _PAGE):
        states |= await components.repository.find_states(known[start : start + _PAGE])
    return {key: "foreign" if owner is None else str(states.get(owner, "unknown")) for key, owner in owners.items()}
