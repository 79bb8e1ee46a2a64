"""Which bucket, and how it is spoken to: options in code, or the parameters of a ``gs://`` URL."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult

from google.auth.credentials import Credentials

from rindle.errors import ConfigurationError
from rindle.objectstore.parameters import (
    Rule,
    count,
    is_endpoint,
    prefix_problem,
    read_parameters,
    read_prefix,
    seconds,
    text,
    yes_or_no,
)
from rindle.objectstore.types import PartLimits

_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class GCSOptions:
    """A bucket, and how it is spoken to.

    ``secret``: the key of a service account, as the JSON that Google gives out. ``credentials``: whatever google-auth
    has. With neither, google-auth finds them by its own ways (application default credentials). ``anonymous``: without
    any, as emulators and public buckets want it.

    ``endpoint``: the service's URL, where it is not Google's own. ``user_project``: who pays for the requests.
    ``storage_class``, ``kms_key_name``: of every object. ``versions``: the bucket keeps versions, and they are given
    out. ``tags``: objects have them; Google knows none, so they lie in the object's metadata. ``attempts``: how often
    one call is sent at most.
    """

    bucket: str
    prefix: str = ""
    endpoint: str | None = None
    secret: str | None = field(default=None, repr=False)
    credentials: Credentials | None = field(default=None, repr=False)
    anonymous: bool = False
    user_project: str | None = None
    storage_class: str | None = None
    kms_key_name: str | None = None
    versions: bool = False
    tags: bool = True
    min_part_size: int = 5 << 20
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
        """What the service takes in one multipart."""
        return PartLimits(min_size=self.min_part_size, max_size=5 << 30, max_count=10_000, max_object_size=5 << 40)


def _problem(options: GCSOptions) -> str | None:
    if not options.bucket:
        return "gs:// needs a bucket: write gs://bucket or gs://bucket/prefix"
    if not _BUCKET.fullmatch(options.bucket):
        return "gs:// needs a bucket's name: 3 small letters, digits, hyphens, dots and underscores, or more"
    if options.endpoint is not None and not is_endpoint(options.endpoint):
        return "endpoint must be a URL such as https://storage.googleapis.com, without a path or a password"
    if sum([options.secret is not None, options.credentials is not None, options.anonymous]) > 1:
        return "give gs:// one of a secret, credentials, and anonymous=true"
    return prefix_problem(options.prefix, store="gcs")


def parse_url(parts: SplitResult) -> GCSOptions:
    """The options that a URL ``gs://bucket/prefix?name=value`` gives. ConfigurationError; it never repeats a value."""
    if "@" in parts.netloc:
        msg = (
            "gs:// takes no credentials: set GOOGLE_APPLICATION_CREDENTIALS to the file with a service account's key, "
            "or RINDLE_STORE_SECRET to what is in it"
        )
        raise ConfigurationError(msg)
    options = read_parameters(parts, _PARAMETERS)
    return GCSOptions(bucket=parts.netloc, prefix=read_prefix(parts), **options)


_PARAMETERS: Mapping[str, Rule] = {
    "endpoint": text,
    "anonymous": yes_or_no,
    "user_project": text,
    "storage_class": text,
    "kms_key_name": text,
    "versions": yes_or_no,
    "tags": yes_or_no,
    "min_part_size": count,
    "attempts": count,
    "connections": count,
    "connect_timeout": seconds,
    "read_timeout": seconds,
}
