"""Flags for settings: one per setting, named like it, from the settings' own descriptions."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

import click
from pydantic import ByteSize, SecretStr, TypeAdapter, ValidationError
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings
from typing_extensions import override

from rindle.settings import (
    PREFIX,
    Origin,
    Settings,
    StateSettings,
    find_origins,
    load_settings,
    load_state_settings,
    parse_duration,
    spell_duration,
)

Command = TypeVar("Command", bound=Callable[..., Any])


class _Duration(click.ParamType[timedelta]):
    name = "duration"

    @override
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        try:
            duration = parse_duration(value)
        except ValueError as error:
            self.fail(f"{value!r}: {error}", param, ctx)
        if not isinstance(duration, timedelta) or duration <= timedelta(0):
            self.fail(f"{value!r} must be longer than nothing", param, ctx)
        return duration


DURATION = _Duration()
"""A length of time, spelt as in the settings."""


class _Size(click.ParamType[int]):
    name = "size"

    @override
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return int(_SIZE.validate_python(value))
        except ValidationError:
            self.fail(f"{value!r} is no size such as 500, 64KiB or 5GiB", param, ctx)


_SIZE: TypeAdapter[ByteSize] = TypeAdapter(ByteSize)
SIZE = _Size()
"""A number of bytes, spelt as in the settings."""

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON; of lists one object on each line.")
confirmed = click.option("--yes", is_flag=True, help="Do it without asking.")


def settings_options(*names: str, model: type[BaseSettings] = Settings) -> Callable[[Command], Command]:
    """Flags for these settings (all, without names) and for the settings file."""

    def decorate(command: Command) -> Command:
        for name in reversed(names or tuple(model.model_fields)):
            command = _option(name, model)(command)
        help_text = f"Settings file (TOML).  [{PREFIX}CONFIG]"
        return click.option("--config", type=click.Path(path_type=Path), help=help_text)(command)

    return decorate


def settings_from(flags: dict[str, Any]) -> Settings:
    """The settings that these flags, the environment and the file make together."""
    config = flags.pop("config")
    return load_settings({name: value for name, value in flags.items() if value is not None}, config=config)


def state_settings_from(flags: dict[str, Any]) -> StateSettings:
    """As :func:`settings_from`."""
    config = flags.pop("config")
    return load_state_settings({name: value for name, value in flags.items() if value is not None}, config=config)


def settings_with_origins(flags: dict[str, Any]) -> Mapping[str, tuple[str, Origin]]:
    """All settings as one would give them, each with where it comes from. Passwords are masked."""
    config = flags.pop("config")
    given = {name: value for name, value in flags.items() if value is not None}
    settings = load_settings(given, config=config)
    origins = find_origins(given, config=config)
    return {name: (_spell_masked(name, getattr(settings, name)), origins[name]) for name in Settings.model_fields}


def _spell_masked(name: str, value: object) -> str:
    if isinstance(value, SecretStr):
        return mask(value.get_secret_value()) if name == "database" else "********"
    return describe_default(value)


def mask(url: str) -> str:
    """A URL without the password, and without parameters, which may hold one too."""
    parts = urlsplit(url)
    credentials, at, host = parts.netloc.rpartition("@")
    user, colon, _ = credentials.partition(":")
    masked = f"{user}{colon and ':********'}{at}{host}"
    return urlunsplit(parts._replace(netloc=masked, query=parts.query and "********"))


def _option(name: str, model: type[BaseSettings]) -> Callable[[Command], Command]:
    field = model.model_fields[name]
    flag = f"--{name.replace('_', '-')}"
    default = describe_default(field.default)
    variable = f"{model.model_config['env_prefix']}{name.upper()}"
    help_text = f"{field.description}  [{variable}{default and f'; default {default}'}]"
    if field.annotation is bool:
        return click.option(f"{flag}/--no-{flag[2:]}", default=None, help=help_text)
    return click.option(flag, metavar="VALUE", default=None, help=help_text)


def describe_default(value: object) -> str:
    """A default as one would give it; empty when there is none."""
    if value in (None, PydanticUndefined, ""):
        return ""
    return ",".join(value) if isinstance(value, tuple) else _spell(value)


def _spell(value: object) -> str:
    match value:
        case ByteSize():
            return value.human_readable().replace(".0", "")
        case timedelta():
            return spell_duration(value)
        case bool():
            return str(value).lower()
        case _:
            return str(value)
