"""Writes the tables in docs/ that are made from the code. ``--check``: only say whether they are up to date."""

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import fields
from datetime import timedelta
from pathlib import Path

import click
from pydantic_settings import BaseSettings

from rindle.cli.main import cli
from rindle.cli.options import describe_default
from rindle.objectstore.s3.profiles import PROFILES, Service
from rindle.observability.metrics import Metrics
from rindle.protocols.errors import ProtocolError
from rindle.protocols.tus.status import STATUS
from rindle.settings import PREFIX, Settings, StateSettings

ROOT = Path(__file__).resolve().parent.parent
FAMILIES = {"internal_error", "configuration_error", "bad_request", "upload_error", "body_interrupted"}


def settings_table() -> str:
    """One row for each setting of the server."""
    return _rows_of(Settings)


def state_settings_table() -> str:
    """One row for each setting of `rindle state`."""
    return _rows_of(StateSettings)


def _rows_of(model: type[BaseSettings]) -> str:
    rows = ["| Setting | Default | |", "|---|---|---|"]
    for name, field in model.model_fields.items():
        default = describe_default(field.default)
        variable = f"{model.model_config['env_prefix']}{name.upper()}"
        rows.append(f"| `{name}`<br>`{variable}` | {default and f'`{default}`'} | {field.description} |")
    return "\n".join(rows)


def commands_table() -> str:
    """One row for each command, with the flags that are its own."""
    rows = ["| Command | Its own flags | |", "|---|---|---|"]
    for words, command in _commands(cli, ("rindle",)):
        own = [_spell_flag(flag) for flag in command.params if not _is_setting(flag)]
        arguments = [
            flag.make_metavar(click.Context(command)) for flag in command.params if flag.param_type_name == "argument"
        ]
        said = command.get_short_help_str(200)
        rows.append(f"| `{' '.join((*words, *arguments))}` | {' '.join(filter(None, own))} | {said} |")
    return "\n".join(rows)


def _commands(command: click.Command, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    if not isinstance(command, click.Group):
        yield words, command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        if found is not None:
            yield from _commands(found, (*words, name))


def _is_setting(flag: click.Parameter) -> bool:
    return isinstance(flag, click.Option) and f"[{PREFIX}" in (flag.help or "")


def _spell_flag(flag: click.Parameter) -> str:
    return f"`{flag.opts[0]}`" if isinstance(flag, click.Option) else ""


def errors_table() -> str:
    """One row for each code that a client may see."""
    rows = ["| Status | Code | |", "|---|---|---|"]
    for kind in sorted(STATUS, key=lambda kind: (STATUS[kind], kind.code)):
        if kind.code not in FAMILIES:
            said = (kind.__doc__ or "").partition("\n")[0] if issubclass(kind, ProtocolError) else kind.public_message
            rows.append(f"| {STATUS[kind]} | `{kind.code}` | {said} |")
    return "\n".join(rows)


def guarantees_table() -> str:
    """One row for each promise, with the tests that say they prove it."""
    proofs: dict[str, set[str]] = defaultdict(set)
    for path in sorted((ROOT / "tests").rglob("test_*.py")) + sorted((ROOT / "rindle/testing").rglob("*.py")):
        for number in _marked_numbers(ast.parse(path.read_text())):
            proofs[number].add(path.relative_to(ROOT).as_posix())
    rows = ["| Promise | Proved in |", "|---|---|"]
    rows += [
        f"| {number} | {'<br>'.join(f'`{path}`' for path in sorted(proofs[number]))} |"
        for number in sorted(proofs, key=lambda number: int(number[1:]))
    ]
    return "\n".join(rows)


def profiles_table() -> str:
    """One row for each profile of a service, with what it says unlike one of which nothing is known."""
    other = PROFILES["other"]
    rows = ["| `profile` | says |", "|---|---|"]
    for name, service in PROFILES.items():
        said = [
            f"`{field.name}={_spell(value)}`"
            for field in fields(Service)
            if (value := getattr(service, field.name)) != getattr(other, field.name)
        ]
        rows.append(f"| `{name}` | {' '.join(said) or 'nothing: what is `auto` is tried'} |")
    return "\n".join(rows)


def _spell(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case frozenset():
            return ",".join(sorted(value))
        case timedelta():
            return str(value // timedelta(hours=1))
        case dict():
            return ",".join(f"{name}: {text}" for name, text in value.items())
        case _:
            return str(value)


def _marked_numbers(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.invariant":
            yield from (argument.value for argument in node.args if isinstance(argument, ast.Constant))


def metrics_table() -> str:
    """One row for each metric."""
    rows = ["| Metric | Kind | Labels | |", "|---|---|---|---|"]
    for metric in Metrics(store="s3").descriptions:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        rows.append(f"| `{metric.name}` | {metric.kind} | {labels} | {metric.text} |")
    return "\n".join(rows)


TABLES = {
    "settings": (ROOT / "docs/reference/settings.md", settings_table),
    "state settings": (ROOT / "docs/how-to/snapshots.md", state_settings_table),
    "errors": (ROOT / "docs/reference/http.md", errors_table),
    "commands": (ROOT / "docs/reference/commands.md", commands_table),
    "profiles": (ROOT / "docs/how-to/s3.md", profiles_table),
    "metrics": (ROOT / "docs/how-to/observe.md", metrics_table),
    "guarantees": (ROOT / "docs/explanation/guarantees.md", guarantees_table),
}


def main() -> None:
    """Write the tables, or fail if one of them is not what would be written."""
    stale = []
    for name, (path, make) in TABLES.items():
        old = path.read_text()
        table = f"<!-- generated: {name} -->\n{make()}\n<!-- end -->"
        new = re.sub(rf"<!-- generated: {name} -->.*?<!-- end -->", lambda _, table=table: table, old, flags=re.DOTALL)
        if new != old:
            stale.append(str(path.relative_to(ROOT)))
            if "--check" not in sys.argv:
                path.write_text(new)
    if stale and "--check" in sys.argv:
        sys.exit(f"not up to date: {', '.join(stale)}; run `make docs`")


if __name__ == "__main__":
    main()
