"""Which bucket, and how it is spoken to: options in code, or the parameters of an ``s3://`` URL."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from difflib import get_close_matches
from typing import Any, Literal, cast, get_args
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from rindle.errors import ConfigurationError
from rindle.objectstore.errors import InvalidKeyError
from rindle.objectstore.keys import validate_key
from rindle.objectstore.s3.profiles import ALL_CONDITIONS, PROFILES, Checksums, Condition, Conditions, Service

Encryption = Literal["AES256", "aws:kms", "aws:kms:dsse"]


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Options:
    """A bucket, and what its service is like. Credentials are no option: they come by the SDK's own ways.

    ``endpoint``: the service's URL, where it is not AWS. ``profile``: which service it is, one of
    :data:`~rindle.objectstore.s3.profiles.PROFILES`; without it, ``"aws"``, or ``"other"`` where there is an endpoint.
    ``aws_profile``: which profile of ``~/.aws`` has the credentials.

    ``versions``: the bucket keeps versions, and they are given out. ``consistent``: reads and listings that do not say
    otherwise see all that was written before, where the service leaves the choice; writes always do. ``attempts``: how
    often one call is sent at most.

    What stands below them is as in :class:`~rindle.objectstore.s3.profiles.Service`; None: as the profile says.
    """

    bucket: str
    prefix: str = ""
    endpoint: str | None = None
    profile: str | None = None
    aws_profile: str | None = None
    storage_class: str | None = None
    sse: Encryption | None = None
    kms_key_id: str | None = None
    bucket_key: bool = False
    versions: bool = False
    consistent: bool = True
    attempts: int = 4
    connections: int = 64
    connect_timeout: float = 5
    read_timeout: float = 60

    region: str | None = None
    path_style: bool | None = None
    checksums: Checksums | None = None
    conditions: Conditions | None = None
    bare_e_tags: bool | None = None
    tags: bool | None = None
    multipart_tags: bool | None = None
    list_multiparts: bool | None = None
    uniform_parts: bool | None = None
    consecutive_parts: bool | None = None
    exhaustive_parts: bool | None = None
    min_part_size: int | None = None
    max_part_size: int | None = None
    max_parts: int | None = None
    max_object_size: int | None = None
    max_copy_size: int | None = None
    multiparts_kept_for: timedelta | None = None

    def __post_init__(self) -> None:
        problem = _problem(self)
        if problem is not None:
            raise ConfigurationError(problem)

    @property
    def service(self) -> Service:
        """What the profile says of the service, but for what these options say themselves."""
        said = {name: value for name in _SAID if (value := getattr(self, name)) is not None}
        return replace(PROFILES[self.profile_name], **said)

    @property
    def profile_name(self) -> str:
        """The profile, named or not."""
        return self.profile or ("aws" if self.endpoint is None else "other")


_SAID = {field.name for field in fields(S3Options)} & {field.name for field in fields(Service)}


def _problem(options: S3Options) -> str | None:
    if not options.bucket:
        return "s3:// needs a bucket: write s3://bucket or s3://bucket/prefix"
    if options.endpoint is not None and not _is_endpoint(options.endpoint):
        return "endpoint must be a URL such as https://s3.example.org, without a path or a password"
    if options.kms_key_id is not None and options.sse not in {"aws:kms", "aws:kms:dsse"}:
        return "kms_key_id needs sse=aws:kms (or aws:kms:dsse)"
    try:
        if options.prefix:
            validate_key(options.prefix, store="s3")
    except InvalidKeyError as error:
        return f"the prefix of the keys in the bucket: {error.args[0]}"
    return _problem_with_service(options)


def _problem_with_service(options: S3Options) -> str | None:
    name = options.profile_name
    if name not in PROFILES:
        nearest = get_close_matches(name, PROFILES, n=1, cutoff=0)[0]
        return f"there is no such profile of a service; did you mean {nearest}? (One of ~/.aws is an aws_profile.)"
    if name != "aws" and options.endpoint is None:
        return f"the profile {name} needs the URL of the service: endpoint=https://…"
    if not 1 <= options.service.min_part_size <= options.service.max_part_size:
        return "min_part_size must be positive, and not larger than max_part_size"
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
            "or name a profile of ~/.aws with ?aws_profile="
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


def _conditions(value: str) -> Conditions:
    if value == "auto":
        return "auto"
    names = frozenset() if value == "none" else frozenset(value.split(","))
    if not names <= ALL_CONDITIONS:
        msg = f"auto, none, or some of {', '.join(get_args(Condition))}, by commas"
        raise ValueError(msg)
    return cast(Conditions, names)


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


def _hours(value: str) -> timedelta:
    return timedelta(hours=_count(value))


_PARAMETERS: Mapping[str, Callable[[str], object]] = {
    "endpoint": _text,
    "profile": _text,
    "aws_profile": _text,
    "storage_class": _text,
    "sse": _one_of(get_args(Encryption)),
    "kms_key_id": _text,
    "bucket_key": _yes_or_no,
    "versions": _yes_or_no,
    "consistent": _yes_or_no,
    "attempts": _count,
    "connections": _count,
    "connect_timeout": _seconds,
    "read_timeout": _seconds,
    "region": _text,
    "path_style": _yes_or_no,
    "checksums": _one_of(get_args(Checksums)),
    "conditions": _conditions,
    "bare_e_tags": _yes_or_no,
    "tags": _yes_or_no,
    "multipart_tags": _yes_or_no,
    "list_multiparts": _yes_or_no,
    "uniform_parts": _yes_or_no,
    "consecutive_parts": _yes_or_no,
    "exhaustive_parts": _yes_or_no,
    "min_part_size": _count,
    "max_part_size": _count,
    "max_parts": _count,
    "max_object_size": _count,
    "max_copy_size": _count,
    "multiparts_kept_for": _hours,
}
