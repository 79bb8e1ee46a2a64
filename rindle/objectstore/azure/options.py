"""Which container, and how it is spoken to: options in code, or the parameters of an ``az://`` URL."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal, get_args
from urllib.parse import SplitResult

from azure.core.credentials_async import AsyncTokenCredential

from rindle.errors import ConfigurationError
from rindle.objectstore.parameters import (
    Rule,
    count,
    is_endpoint,
    one_of,
    prefix_problem,
    read_parameters,
    read_prefix,
    seconds,
    text,
    yes_or_no,
)
from rindle.objectstore.types import PartLimits

Tier = Literal["Hot", "Cool", "Cold"]

# A block holds 4000 MiB, and a blob 50,000 of them. But the journal of a multipart has a line for each time that a part
# is put, 50,000 lines at most, so that each of fewer parts can be put several times.
# Blocks are kept for a week after the last of a blob's was put; the count of it here begins with the multipart.
PART_LIMITS = PartLimits(
    min_size=1,
    max_size=4000 << 20,
    max_count=10_000,
    max_object_size=10_000 * (4000 << 20),
    exclusive=True,
    kept_for=timedelta(days=7),
)

_ACCOUNT = re.compile(r"[a-z0-9]{3,24}", re.ASCII)
_CONTAINER = re.compile(r"(\$root|[a-z0-9](-?[a-z0-9]){2,62})", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class AzureOptions:
    """A container, and how its account is spoken to.

    ``account``: the storage account; a connection string names it too. ``endpoint``: the URL of its blob service, where
    that is not ``https://<account>.blob.core.windows.net``.

    ``secret``: an account key, a connection string or a SAS token. ``credential``: whatever gives tokens, of
    azure-identity or one's own; whoever made it closes it. With neither, azure-identity looks for a managed identity,
    a workload's, or a developer's: it has to be installed then.

    ``tier``, ``encryption_scope``: of every object. ``versions``: the account keeps versions, and they are given out.
    ``tags``: objects have them, as blob index tags. ``attempts``: how often one call is sent at most.
    """

    container: str
    account: str | None = None
    prefix: str = ""
    endpoint: str | None = None
    secret: str | None = field(default=None, repr=False)
    credential: AsyncTokenCredential | None = field(default=None, repr=False)
    tier: Tier | None = None
    encryption_scope: str | None = None
    versions: bool = False
    tags: bool = True
    attempts: int = 4
    connections: int = 64
    connect_timeout: float = 5
    read_timeout: float = 60

    def __post_init__(self) -> None:
        problem = _problem(self)
        if problem is not None:
            raise ConfigurationError(problem)


def _problem(options: AzureOptions) -> str | None:
    if not options.container:
        return "az:// needs a container: write az://container?account=name or az://container/prefix?account=name"
    if not _CONTAINER.fullmatch(options.container):
        return "az:// needs a container's name: 3 to 63 small letters, digits and single hyphens"
    if options.account is not None and not _ACCOUNT.fullmatch(options.account):
        return "account must be the name of a storage account: 3 to 24 small letters and digits"
    if options.endpoint is not None and not is_endpoint(options.endpoint, path=True):
        return "endpoint must be a URL such as https://account.blob.core.windows.net, without a SAS token or a password"
    return prefix_problem(options.prefix, store="azure")


def parse_url(parts: SplitResult) -> AzureOptions:
    """The options that a URL ``az://container/prefix?account=name`` gives. ConfigurationError never repeats a value."""
    if "@" in parts.netloc:
        msg = "az:// takes no credentials, and the account goes behind it: az://container/prefix?account=name"
        raise ConfigurationError(msg)
    options = read_parameters(parts, _PARAMETERS)
    return AzureOptions(container=parts.netloc, prefix=read_prefix(parts), **options)


_PARAMETERS: Mapping[str, Rule] = {
    "account": text,
    "endpoint": text,
    "tier": one_of(*get_args(Tier)),
    "encryption_scope": text,
    "versions": yes_or_no,
    "tags": yes_or_no,
    "attempts": count,
    "connections": count,
    "connect_timeout": seconds,
    "read_timeout": seconds,
}
