"""`rindle config`."""

from typing import Any

import click

from rindle.cli.options import as_json, settings_options, settings_with_origins
from rindle.cli.output import print_json, print_table


@click.group()
def config() -> None:
    """Show the settings."""


@config.command()
@as_json
@settings_options()
def show(*, as_json: bool, **flags: Any) -> None:  # noqa: ANN401
    """Show every setting, and where its value comes from: flag, environment, file or default. Secrets are masked."""
    shown = settings_with_origins(flags)
    if as_json:
        print_json({name: {"value": value, "origin": origin} for name, (value, origin) in shown.items()})
    else:
        print_table(("setting", "value", "from"), [(name, *both) for name, both in shown.items()])
