"""Which bucket, and how it is spoken to: options in code, or the parameters of an ``s3://`` URL."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal, cast, get_args
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from rindle.errors import ConfigurationError
from rindle.objectstore.errors import InvalidKeyError
from rindle.objectstore.keys import validate_key
from rindle.objectstore.types import PartLimits

Checksums = Literal["auto", "crc64nvme", "none"]
Condition = Literal["put", "update", "copy", "complete"]
Encryption = Literal["AES256", "aws:kms", "aws:kms:dsse"]

ALL_CONDITIONS: frozenset[Condition] = frozenset(get_args(Condition))


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Options:
    """A bucket, and what its service can do. Credentials are no option: they come by the SDK's own ways.

    ``endpoint``: the service's URL, where it is not AWS. ``path_style``: the bucket in the path and not in the host's
    name; by default so wherever there is an endpoint.

    ``checksums`` ``"crc64nvme"``: the service checks every body against its CRC-64/NVME; ``"none"``: it would not,
    so bodies are checked while they are sent, and what happens on the way is left to TLS. ``conditions``: the writes
    whose conditions the service honours. ``"auto"`` and None: AWS does; another service is tried by
    :meth:`S3Store.prepare`.

    ``versions``: the bucket keeps versions, and they are given out. ``tags``: objects have them. ``uniform_parts``: all
    parts but the last must have one size (Cloudflare R2). ``attempts``: how often one call is sent at most.
    """

    bucket: str
    prefix: str = ""
    region: str | None = None
    endpoint: str | None = None
    path_style: bool | None = None
    profile: str | None = None
    storage_class: str | None = None
    sse: Encryption | None = None
    kms_key_id: str | None = None
    bucket_key: bool = False
    checksums: Checksums = "auto"
    conditions: frozenset[Condition] | None = None
    versions: bool = False
    tags: bool = True
    uniform_parts: bool = False
    min_part_size: int = 5 << 20
    max_part_size: int = 5 << 30
    attempts: int = 4
    connections: int = 64
    connect_timeout: float = 5
    read_timeout: float = 60

    def __post_init__(self) -> None:
        problem = _problem(self)
        if problem is not None:
            raise ConfigurationError(problem)

    @property
    def part_limits(self) -> PartLimits:
        """What the service takes in one multipart. AWS wants numbers without gaps where parts have checksums."""
        return PartLimits(
            min_size=self.min_part_size,
            max_size=self.max_part_size,
            max_count=10_000,
            max_object_size=5 << 40,
            uniform=self.uniform_parts,
            consecutive=True,
        )

    @property
    def addressing_style(self) -> Literal["path", "auto"]:
        """In the SDK's words."""
        by_path = self.endpoint is not None if self.path_style is None else self.path_style
        return "path" if by_path else "auto"


def _problem(options: S3Options) -> str | None:
    if not options.bucket:
        return "s3:// needs a bucket: write s3://bucket or s3://bucket/prefix"
    if options.endpoint is not None and not _is_endpoint(options.endpoint):
        return "endpoint must be a URL such as https://s3.example.org, without a path or a password"
    if options.kms_key_id is not None and options.sse not in {"aws:kms", "aws:kms:dsse"}:
        return "kms_key_id needs sse=aws:kms (or aws:kms:dsse)"
    if not 1 <= options.min_part_size <= options.max_part_size:
        return "min_part_size must be positive, and not larger than max_part_size"
    try:
        if options.prefix:
            validate_key(options.prefix, store="s3")
    except InvalidKeyError as error:
        return f"the prefix of the keys in the bucket: {error.args[0]}"
    return None


def _is_endpoint(text: str) -> bool:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return False
    plain = parts.path in {"", "/"} and not parts.query and not parts.fragment and "@" not in parts.netloc
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and port != 0 and plain


def parse_url(parts: SplitResult) -> S3Options:
    """The options that a URL ``s3://bucket/prefix?name=value`` gives. ConfigurationError; it never repeats a value."""
    if "@" in parts.netloc:
        msg = (
            "s3:// takes no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
            "or name a profile with ?profile="
        )
        raise ConfigurationError(msg)
    options: dict[str, Any] = {"bucket": parts.netloc, "prefix": unquote(parts.path).strip("/")}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        parse = _PARAMETERS.get(name)
        if parse is None:
            raise ConfigurationError(_unknown(name))
        if name in options:
            msg = f"s3:// has the parameter {name} twice"
            raise ConfigurationError(msg)
        try:
            options[name] = parse(value)
        except ValueError as error:
            msg = f"the parameter {name} of s3:// must be {error}"
            raise ConfigurationError(msg) from None
    return S3Options(**options)


def _unknown(name: str) -> str:
    nearest = get_close_matches(name, _PARAMETERS, n=1, cutoff=0)[0]
    return f"s3:// takes no parameter {name}; did you mean {nearest}?"


def _text(value: str) -> str:
    if not value.strip():
        msg = "given, or left out"
        raise ValueError(msg)
    return value


def _yes_or_no(value: str) -> bool:
    found = {"true": True, "false": False}.get(value.lower())
    if found is None:
        msg = "true or false"
        raise ValueError(msg)
    return found


def _one_of(values: tuple[str, ...]) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value not in values:
            msg = f"one of {', '.join(values)}"
            raise ValueError(msg)
        return value

    return parse


def _conditions(value: str) -> frozenset[Condition] | None:
    if value == "auto":
        return None
    names = frozenset() if value == "none" else frozenset(value.split(","))
    if not names <= ALL_CONDITIONS:
        msg = f"auto, none, or some of {', '.join(get_args(Condition))}, by commas"
        raise ValueError(msg)
    return cast(frozenset[Condition], names)


def _count(value: str) -> int:
    if not (value.isascii() and value.isdigit() and int(value)):
        msg = "a whole number, 1 or more"
        raise ValueError(msg)
    return int(value)


def _seconds(value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        msg = "a number of seconds"
        raise ValueError(msg)
    return seconds


_PARAMETERS: Mapping[str, Callable[[str], object]] = {
    "region": _text,
    "endpoint": _text,
    "path_style": _yes_or_no,
    "profile": _text,
    "storage_class": _text,
    "sse": _one_of(get_args(Encryption)),
    "kms_key_id": _text,
    "bucket_key": _yes_or_no,
    "checksums": _one_of(get_args(Checksums)),
    "conditions": _conditions,
    "versions": _yes_or_no,
    "tags": _yes_or_no,
    "uniform_parts": _yes_or_no,
    "min_part_size": _count,
    "max_part_size": _count,
    "attempts": _count,
    "connections": _count,
    "connect_timeout": _seconds,
    "read_timeout": _seconds,
}
