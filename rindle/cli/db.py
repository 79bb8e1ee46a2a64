"""`rindle db`."""

from typing import Any

import click

from rindle.bootstrap import make_folder
from rindle.cli.options import settings_from, settings_options
from rindle.db import migrate

_FLAGS = ("database", "data")


@click.group()
def db() -> None:
    """Make, upgrade and check the database's schema."""


@db.command()
@settings_options(*_FLAGS)
def upgrade(**flags: Any) -> None:  # noqa: ANN401
    """Bring the schema up to what this rindle needs; do this before its new version serves."""
    settings = settings_from(flags)
    if settings.database is None:
        make_folder(settings.data)
    url = settings.database_url
    before = migrate.current(url)
    migrate.upgrade(url)
    after = migrate.current(url)
    click.echo(f"already at {after}" if before == after else f"upgraded from {before or 'nothing'} to {after}")


@db.command()
@settings_options(*_FLAGS)
def current(**flags: Any) -> None:  # noqa: ANN401
    """Print the revision of the schema."""
    click.echo(migrate.current(settings_from(flags).database_url) or "none")


@db.command()
@settings_options(*_FLAGS)
def check(**flags: Any) -> None:  # noqa: ANN401
    """Fail unless the schema is the one that this rindle needs."""
    migrate.check(settings_from(flags).database_url)
    click.echo("the schema is up to date")
