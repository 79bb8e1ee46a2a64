"""The command `rindle` and its groups, each loaded only when it is used."""

import difflib
import sys
from importlib import import_module
from importlib.metadata import version

import click
from typing_extensions import override

from rindle.errors import RindleError

_COMMANDS = {
    "serve": ("rindle.cli.serve", "Run the upload server."),
    "demo": ("rindle.cli.demo", "Upload a file, cut the connection, resume, and compare."),
    "reap": ("rindle.cli.reap", "Drop, finish and remove what no client will; for cron."),
    "uploads": ("rindle.cli.uploads", "List, show, extend, check and end uploads."),
    "verify": ("rindle.cli.verify", "Compare all complete uploads with their objects."),
    "tails": ("rindle.cli.tails", "List and remove tails on this node's disk."),
    "multiparts": ("rindle.cli.multiparts", "List and abort unfinished multiparts."),
    "nodes": ("rindle.cli.nodes", "List nodes; declare one gone."),
    "doctor": ("rindle.cli.doctor", "Try everything that the settings name, and say what to mend."),
    "state": ("rindle.cli.state", "Snapshots of a state: list, show, roll back, delete, lock."),
    "config": ("rindle.cli.config", "Show the settings, and where each comes from."),
    "db": ("rindle.cli.db", "Make, upgrade and check the database's schema."),
    "buckets": ("rindle.cli.buckets", "Make and delete buckets, and access keys for them."),
}


class _LazyGroup(click.Group):
    """Knows its commands by name and one line; imports one when it runs."""

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command = getattr(import_module(_COMMANDS[cmd_name][0]), cmd_name)
        assert isinstance(command, click.Command)  # noqa: S101 - the table above
        return command

    @override
    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        near = difflib.get_close_matches(args[0], _COMMANDS, n=1)
        if args[0] not in _COMMANDS and near:
            ctx.fail(f"No such command '{args[0]}'. Did you mean '{near[0]}'?")
        return super().resolve_command(ctx, args)

    @override
    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_line) for name, (_, help_line) in _COMMANDS.items()])


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("rindle-uploads"), prog_name="rindle")
def cli() -> None:
    """Take large files from bad networks into an object store."""


def main() -> None:
    """Run a command; what the operator can mend is one line, not a traceback."""
    try:
        cli()
    except RindleError as error:
        from rindle.cli.exits import exit_code_of  # noqa: PLC0415 - knows all errors; --help needs none

        click.echo(f"error: {error}", err=True)
        sys.exit(exit_code_of(error))
