"""What an operator may set, where it is read from, and what is wrong with it.

A flag wins over the environment (``RINDLE_PORT``), that over the settings file (TOML, ``port = 8080``). This is the
only reader of either. Inside, the parts have their own options, made from these in :mod:`rindle.bootstrap`.
"""

import difflib
import os
import re
import tomllib
from base64 import b64decode
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar
from urllib.parse import quote

from pydantic import AfterValidator, BeforeValidator, ByteSize, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from rindle.errors import ConfigurationError
from rindle.uploads.keys import KeyTemplate
from rindle.uploads.options import DEFAULT_OPTIONS

PREFIX = "RINDLE_"
CONFIG = f"{PREFIX}CONFIG"

Lasting = TypeVar("Lasting", bound=timedelta | None)

_SECRET = frozenset({"database", "key", "store_secret"})
_KEY_SIZE = 32  # of AES-256
_LEAST_LEASE_TTL = timedelta(seconds=5)
_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)", re.ASCII)
_URL = re.compile(r"https?://[^\s/?#]+(/[^\s?#]*)?", re.ASCII)
_USECASE = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)+", re.ASCII)


def parse_duration(value: object) -> object:
    """``90s``, ``15m``, ``1h30m``, ``7d``, or a number of seconds."""
    if not isinstance(value, str):
        return value
    parts = _DURATION.findall(value)
    whole = parts and not _DURATION.sub("", value).strip()
    try:
        seconds = sum(float(number) * _UNITS[unit] for number, unit in parts) if whole else float(value)
        return timedelta(seconds=seconds)
    except (ValueError, OverflowError):
        msg = "give a duration such as 90s, 15m, 24h or 7d"
        raise ValueError(msg) from None


def spell_duration(value: timedelta) -> str:
    """As :func:`parse_duration` takes it, in the largest unit that leaves no fraction."""
    seconds = value.total_seconds()
    for unit in ("d", "h", "m"):
        if seconds and seconds % _UNITS[unit] == 0:
            return f"{seconds / _UNITS[unit]:g}{unit}"
    return f"{seconds:g}s"


def _parse_duration_or_never(value: object) -> object:
    return None if value in ("never", "") else parse_duration(value)


def _split_commas(value: object) -> object:
    return [item.strip() for item in value.split(",") if item.strip()] if isinstance(value, str) else value


def _check_path(value: str) -> str:
    if not _PATH.fullmatch(value):
        msg = "give a path such as /files: it starts with a slash and ends without one"
        raise ValueError(msg)
    return value


def _check_prefix(value: str) -> str:
    if value and not _PATH.fullmatch(f"/{value}"):
        msg = "give a prefix such as uploads or team/uploads: no slash at its ends"
        raise ValueError(msg)
    return value


def _check_usecase(value: str) -> str:
    if not _USECASE.fullmatch(value):
        msg = "give a name such as avatars: letters, digits, - and _"
        raise ValueError(msg)
    return value


def _check_url(value: str | None) -> str | None:
    if value is not None and not _URL.fullmatch(value):
        msg = "give a URL such as https://example.org/files"
        raise ValueError(msg)
    return value


def _check_key(value: SecretStr | None) -> SecretStr | None:
    try:
        if value is None or len(b64decode(value.get_secret_value(), validate=True)) == _KEY_SIZE:
            return value
    except ValueError:
        pass
    msg = f"must be {_KEY_SIZE} bytes in base64, such as `openssl rand -base64 {_KEY_SIZE}` makes"
    raise ValueError(msg)


def _check_store_secret(store: str | None, secret: SecretStr | None) -> None:
    if secret is not None and not (store or "").startswith(("az:", "gs:")):
        msg = "store_secret is for a store of gs:// or az://; no other takes a secret"
        raise ValueError(msg)


def _store_options(secret: SecretStr | None) -> dict[str, Any]:
    return {} if secret is None else {"secret": secret.get_secret_value()}


def _check_positive(value: Lasting) -> Lasting:
    if value is not None and value <= timedelta(0):
        msg = "must be longer than nothing"
        raise ValueError(msg)
    return value


def _check_lease_ttl(value: timedelta) -> timedelta:
    if value < _LEAST_LEASE_TTL:
        msg = "must be 5s or longer: a lease is renewed three times before it runs out"
        raise ValueError(msg)
    return value


def _check_named(value: object) -> object:
    # Path("") is the working directory, and no host is all of them: what nobody has said is not guessed.
    if value == "":
        msg = "must not be empty"
        raise ValueError(msg)
    return value


def _none_if_empty(value: object) -> object:
    return None if value == "" else value


_EmptyIsNone = BeforeValidator(_none_if_empty)
Duration = Annotated[timedelta, BeforeValidator(parse_duration), AfterValidator(_check_positive)]
OptionalDuration = Annotated[
    timedelta | None, BeforeValidator(_parse_duration_or_never), AfterValidator(_check_positive)
]
Size = Annotated[ByteSize, Field(gt=0)]


class Settings(BaseSettings):
    """All settings. Built in code, from the environment, or by :func:`load_settings` with a file and flags too."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", hide_input_in_errors=True)

    host: Annotated[str, BeforeValidator(_check_named)] = Field(
        default="127.0.0.1", description="Address to listen on."
    )
    port: int = Field(default=8080, ge=0, le=65535, description="Port to listen on; 0 takes any free one.")
    path: Annotated[str, AfterValidator(_check_path)] = Field(
        default="/files", description="Where the uploads are served."
    )

    data: Annotated[Path, BeforeValidator(_check_named)] = Field(
        default=Path("rindle-data"), description="Folder for what store, database and tails do not put elsewhere."
    )
    store: Annotated[str | None, _EmptyIsNone] = Field(
        default=None,
        description="Where the objects go: file:///folder, s3://bucket/prefix, gs://bucket/prefix,"
        " az://container/prefix?account=name or memory://. Default: a folder in data.",
    )
    store_secret: Annotated[SecretStr | None, _EmptyIsNone] = Field(
        default=None,
        description="What opens the store where nothing else does: for gs:// the key of a service account (JSON); for"
        " az:// an account key, a connection string or a SAS token.",
    )
    database: Annotated[SecretStr | None, _EmptyIsNone] = Field(
        default=None,
        description="Where the records go: sqlite:///file or postgresql://user@host/name. Default: a file in data.",
    )
    database_pool_size: int = Field(default=10, gt=0, description="Connections to the database, at most.")
    database_listen: Annotated[SecretStr | None, _EmptyIsNone] = Field(
        default=None,
        description="Where to hear other nodes ask for an upload: the URL of the same PostgreSQL, past a pooler such as"
        " PgBouncer, or 'off'. Default: database.",
    )
    tails: Annotated[Path | None, _EmptyIsNone] = Field(
        default=None,
        description="Folder on this node's own disk for bytes too few for a part. Default: a folder in data.",
    )
    node_name: Annotated[str | None, _EmptyIsNone] = Field(
        default=None, description="What people call this node. Default: the host's name."
    )

    max_size: Annotated[Size, Field(le=2**63 - 1)] = Field(
        default=ByteSize(DEFAULT_OPTIONS.max_size), description="Largest upload."
    )
    part_size: Size = Field(
        default=ByteSize(DEFAULT_OPTIONS.part_size), description="Smallest part; it grows with the upload's length."
    )
    deferred_size: Size = Field(
        default=ByteSize(DEFAULT_OPTIONS.deferred_size), description="What an upload without a length is planned for."
    )
    parts_in_flight: int = Field(
        default=DEFAULT_OPTIONS.parts_in_flight, gt=0, description="Parts of one upload stored at the same time."
    )
    memory_budget: Size = Field(
        default=ByteSize(DEFAULT_OPTIONS.memory_budget),
        description="Bytes of all bodies of a process that may lie in memory; past it they go through the disk.",
    )
    max_appends: int = Field(
        default=DEFAULT_OPTIONS.max_appends, gt=0, description="Bodies that a process takes at the same time; else 503."
    )
    least_free: Annotated[ByteSize, Field(ge=0)] = Field(
        default=ByteSize(DEFAULT_OPTIONS.least_free),
        description="Bytes that must be free on the disk of the tails; with less, bodies are refused (507).",
    )
    key_prefix: Annotated[str, AfterValidator(_check_prefix)] = Field(
        default=DEFAULT_OPTIONS.key_root, description="What the key of every object starts with."
    )
    usecase: Annotated[str, AfterValidator(_check_usecase)] = Field(
        default=DEFAULT_OPTIONS.usecase, description="What the uploads are for; for keys, and to tell them apart."
    )
    publish_to: Annotated[str | None, _EmptyIsNone] = Field(
        default=None,
        description="Key that an object gets when it is whole, such as 'media/{date}/{id}/{filename}', by a copy inside"
        " the store. Fields: prefix, usecase, date, year, month, day, id, filename. Default: the object stays under a"
        " key of its own.",
    )
    publish_overwrite: bool = Field(
        default=DEFAULT_OPTIONS.overwrite,
        description="Let a published object replace another; else an upload whose key is taken gets its id into it.",
    )
    expires_in: OptionalDuration = Field(
        default=timedelta(days=1), description="How long an unfinished upload is kept after its last bytes, or 'never'."
    )
    terminate_complete: bool = Field(
        default=DEFAULT_OPTIONS.terminate_complete, description="Let clients remove uploads that are complete."
    )

    tail_durability: Literal["disk", "object"] = Field(
        default="disk",
        description="Where bytes too few for a part must be before they are acknowledged: 'disk' of this node, or"
        " 'object' store, where this node may die and any other goes on.",
    )
    spill_after: OptionalDuration = Field(
        default=DEFAULT_OPTIONS.spill_after,
        description="After what time without more such bytes they are moved from the disk into the store, or 'never';"
        " at a shutdown all are.",
    )
    allow_rewind: bool = Field(
        default=DEFAULT_OPTIONS.rewind,
        description="When such bytes are lost, go back to the last part instead of ending the upload. The offset falls,"
        " which only clients survive that can read their source again.",
    )

    idle_timeout: Duration = Field(
        default=DEFAULT_OPTIONS.pace.idle_timeout, description="How long a body may pause before it is ended."
    )
    min_rate: Annotated[ByteSize, Field(ge=0)] = Field(
        default=ByteSize(DEFAULT_OPTIONS.pace.min_rate), description="Bytes a second that a body must bring."
    )
    lease_ttl: Annotated[Duration, AfterValidator(_check_lease_ttl)] = Field(
        default=DEFAULT_OPTIONS.leases.ttl, description="How long an upload stays locked when its process vanishes."
    )
    handover_timeout: Duration = Field(
        default=DEFAULT_OPTIONS.leases.handover_timeout, description="How long a request waits for the one before it."
    )
    completion_timeout: Duration = Field(
        default=DEFAULT_OPTIONS.completion_timeout, description="How long a request waits for its object to be made."
    )
    shutdown_grace: Duration = Field(
        default=DEFAULT_OPTIONS.shutdown_grace, description="How long a shutdown waits for running requests."
    )
    reap_interval: Duration = Field(
        default=timedelta(minutes=1),
        description="How often abandoned uploads are dropped and unfinished ones finished.",
    )

    stray_after: Duration = Field(
        default=timedelta(days=1), description="How old a multipart must be to be aborted when no upload owns it."
    )
    purge_after: OptionalDuration = Field(
        default=timedelta(days=30),
        description="How long the record of an upload is kept after its end (complete or dropped), or 'never' removed.",
    )

    cors_origins: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_commas)] = Field(
        default=("*",),
        description="Origins of web pages that may upload, by commas; '*' for all, '' to leave CORS alone.",
    )
    cors_credentials: bool = Field(default=False, description="Let web pages send cookies; needs exact origins.")
    location: Literal["relative", "absolute"] = Field(
        default="relative", description="Whether a Location is a path, or a URL with scheme and host."
    )
    public_url: Annotated[str | None, _EmptyIsNone, AfterValidator(_check_url)] = Field(
        default=None, description="URL of the uploads as clients see it, for every Location."
    )
    trust_forwarded: bool = Field(
        default=False, description="Believe Forwarded and X-Forwarded-*; only behind a proxy that sets them."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="What is logged.")
    log_format: Literal["console", "json"] = Field(
        default="console", description="Log lines for people, or one JSON object per line; by `rindle serve`."
    )
    access_log: bool = Field(default=True, description="Log a line for each request; by `rindle serve`.")
    metrics: bool = Field(default=False, description="Count what happens, for Prometheus to get at /metrics.")
    metrics_port: Annotated[int | None, _EmptyIsNone] = Field(
        default=None,
        ge=0,
        le=65535,
        description="Port of `rindle serve` for /metrics alone, so that it is not public. Default: where uploads are.",
    )
    metrics_host: Annotated[str, BeforeValidator(_check_named)] = Field(
        default="127.0.0.1", description="Address for metrics_port."
    )

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        _check_store_secret(self.store, self.store_secret)
        if self.cors_credentials and "*" in self.cors_origins:
            msg = "cors_credentials needs exact cors_origins: '*' would let every page act for its visitor"
            raise ValueError(msg)
        if self.metrics_port is not None and not self.metrics:
            msg = "metrics_port is of no use without metrics"
            raise ValueError(msg)
        if self.deferred_size > self.max_size and "deferred_size" in self.model_fields_set:
            msg = f"deferred_size ({self.deferred_size}) must not be larger than max_size ({self.max_size})"
            raise ValueError(msg)
        try:
            self.key_template()
        except ValueError as error:
            msg = f"publish_to: {error} (given: {self.publish_to!r})"
            raise ValueError(msg) from error
        return self

    def key_template(self) -> KeyTemplate | None:
        """Where objects are published."""
        if self.publish_to is None:
            return None
        return KeyTemplate(self.publish_to, prefix=self.key_prefix, usecase=self.usecase)

    @property
    def store_url(self) -> str:
        """Where the objects go."""
        return self.store or (self.data.absolute() / "objects").as_uri()

    @property
    def store_options(self) -> dict[str, Any]:
        """What else opens the store; it may hold a secret."""
        return _store_options(self.store_secret)

    @property
    def database_url(self) -> str:
        """Where the records go; it may hold a password."""
        if self.database is not None:
            return self.database.get_secret_value()
        return f"sqlite:///{quote(str(self.data.absolute() / 'rindle.db'))}"

    @property
    def tails_folder(self) -> Path:
        """Where the tails go."""
        return self.tails or self.data / "tails"


class StateSettings(BaseSettings):
    """Which stack's snapshots a command is about, and what opens them."""

    model_config = SettingsConfigDict(
        env_prefix=f"{PREFIX}STATE_", frozen=True, extra="forbid", hide_input_in_errors=True
    )

    store: Annotated[str | None, _EmptyIsNone] = Field(
        default=None,
        description="Where the snapshots are: file:///folder, s3://bucket/prefix, gs://bucket/prefix or"
        " az://container/prefix?account=name.",
    )
    store_secret: Annotated[SecretStr | None, _EmptyIsNone] = Field(
        default=None, description="What opens the store where nothing else does, as for the server."
    )
    prefix: Annotated[str, AfterValidator(_check_prefix)] = Field(
        default="", description="What their keys begin with, inside the store."
    )
    factory: Annotated[str | None, _EmptyIsNone] = Field(default=None, description="The factory's name.")
    stack: Annotated[str | None, _EmptyIsNone] = Field(default=None, description="The stack's name.")
    key: Annotated[SecretStr | None, _EmptyIsNone, AfterValidator(_check_key)] = Field(
        default=None, description="The key that they are sealed with: 32 bytes in base64."
    )
    kms_key_id: Annotated[str | None, _EmptyIsNone] = Field(
        default=None, description="The key of AWS KMS that they are sealed with, instead: an ARN, id or alias."
    )

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        _check_store_secret(self.store, self.store_secret)
        if self.key is not None and self.kms_key_id is not None:
            msg = "state_key and state_kms_key_id are two ways of sealing: give one of them"
            raise ValueError(msg)
        return self

    @property
    def store_options(self) -> dict[str, Any]:
        """What else opens the store; it may hold a secret."""
        return _store_options(self.store_secret)

    @property
    def key_bytes(self) -> bytes | None:
        """The key itself."""
        return None if self.key is None else b64decode(self.key.get_secret_value())


Model = TypeVar("Model", Settings, StateSettings)
Origin = Literal["flag", "environment", "file", "default"]


def find_origins(flags: Mapping[str, Any], *, config: Path | None = None) -> Mapping[str, Origin]:
    """Where :func:`load_settings` takes each setting from when it is given the same."""
    named = config or os.environ.get(CONFIG)  # noqa: TID251 - this is where it is read
    from_file = _read_file(Path(named)) if named else {}
    in_environment = _names_in_environment()

    def origin(name: str) -> Origin:
        if name in flags:
            return "flag"
        return "environment" if name in in_environment else "file" if name in from_file else "default"

    return {name: origin(name) for name in Settings.model_fields}


def _names_in_environment() -> set[str]:
    names = {name.removeprefix(PREFIX).lower() for name in os.environ if name.startswith(PREFIX)}  # noqa: TID251
    return names - {CONFIG.removeprefix(PREFIX).lower()}


def load_settings(flags: Mapping[str, Any], *, config: Path | None = None) -> Settings:
    """The settings of a process. ConfigurationError names the setting, what is wrong with it, and what would be right.

    ``flags`` hold only what was given. ``config``: the settings file, else the one that ``RINDLE_CONFIG`` names.
    """
    return _load(Settings, flags, config)


def load_state_settings(flags: Mapping[str, Any], *, config: Path | None = None) -> StateSettings:
    """As :func:`load_settings`. In the file their names begin with ``state_``, in the environment ``RINDLE_STATE_``."""
    return _load(StateSettings, flags, config)


def _load(model: type[Model], flags: Mapping[str, Any], config: Path | None) -> Model:
    named = config or os.environ.get(CONFIG)  # noqa: TID251 - this is where it is read
    from_file = _read_file(Path(named)) if named else {}
    in_environment = _names_in_environment()
    _check_names(from_file, f"the settings file {named}", str)
    _check_names(in_environment, "the environment", lambda name: PREFIX + name.upper())
    own = _own_prefix(model)
    wins_over_file = {
        name.removeprefix(own): value
        for name, value in from_file.items()
        if name not in in_environment and name in _names_of(model)
    }
    try:
        return model(**{**wins_over_file, **flags})
    except ValidationError as error:
        raise ConfigurationError(_explain(error, model)) from error


def _own_prefix(model: type[BaseSettings]) -> str:
    """What the names of these settings begin with, beside the one of all."""
    return str(model.model_config["env_prefix"]).removeprefix(PREFIX).lower()


def _names_of(model: type[BaseSettings]) -> Sequence[str]:
    return [_own_prefix(model) + name for name in model.model_fields]


def _read_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        msg = f"the settings file {path} cannot be read: {error.strerror}"
        raise ConfigurationError(msg) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        msg = f"the settings file {path} is not TOML: {error}"
        raise ConfigurationError(msg) from error


def _check_names(names: Iterable[str], where: str, spell: Callable[[str], str]) -> None:
    known = [*_names_of(Settings), *_names_of(StateSettings)]
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0)
            msg = f"unknown setting {spell(name)} in {where}; did you mean {spell(near[0])}?"
            raise ConfigurationError(msg)


def _explain(error: ValidationError, model: type[BaseSettings]) -> str:
    faults = []
    for fault in error.errors(include_url=False):
        name = ".".join(str(part) for part in fault["loc"][:1])
        text = fault["msg"].removeprefix("Value error, ")
        given = "" if name in ("", *_SECRET) else f" (given: {fault['input']!r})"
        faults.append(f"{_own_prefix(model)}{name}: {text}{given}" if name else text)
    return "; ".join(faults)
