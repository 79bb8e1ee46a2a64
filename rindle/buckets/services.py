"""What differs between services: AWS, and Tigris, which has IAM's calls and a different idea of a user."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A service, as far as buckets and credentials are concerned.

    ``users``: access keys belong to users, to which policies are attached; else a key is its own user, and what is
    called a user's name when it is made is no more than a label. ``prefixes``: a policy can allow to list a part of a
    bucket. ``versions``: a policy knows of versions. ``empties``: a bucket is emptied by the service that deletes it,
    when it is told so. ``path_style``: the bucket in the path where there is an endpoint. ``headers``: of every call
    about buckets.
    """

    name: str
    users: bool
    prefixes: bool
    versions: bool
    empties: bool
    path_style: bool
    headers: Mapping[str, str]


Named = Literal["aws", "tigris"]

AWS = Service(name="AWS", users=True, prefixes=True, versions=True, empties=False, path_style=True, headers={})

# https://www.tigrisdata.com/docs/iam/policies/ and /docs/buckets; its console's own client deletes in this way.
TIGRIS = Service(
    name="Tigris",
    users=False,
    prefixes=False,
    versions=False,
    empties=True,
    path_style=False,
    # What was written in one region is seen at once from any other.
    headers={"X-Tigris-Consistent": "true"},
)
FORCE_HEADER = "Tigris-Force-Delete"

SERVICES: Mapping[Named, Service] = {"aws": AWS, "tigris": TIGRIS}

_TIGRIS_IAM = {
    "storage.dev": "https://iam.storage.dev",
    "storageapi.dev": "https://iam.storageapi.dev",
    "fly.storage.tigris.dev": "https://fly.iam.storage.tigris.dev",
}
_AWS_HOSTS = (".amazonaws.com", ".amazonaws.com.cn", ".amazonaws.eu", ".api.aws")


def service_at(endpoint: str) -> Service:
    """The service behind an endpoint for S3. One that is neither is taken for one that does as AWS does."""
    return AWS if tigris_iam(endpoint) is None else TIGRIS


def tigris_iam(endpoint: str) -> str | None:
    """Tigris's endpoint for IAM that belongs to one of its endpoints for S3; None for another's."""
    host = urlsplit(endpoint).hostname or ""
    for domain, iam in _TIGRIS_IAM.items():
        if host == domain or host.endswith(f".{domain}"):
            return iam
    return None


def is_aws(endpoint: str) -> bool:
    """Whether an endpoint is AWS's own."""
    return (urlsplit(endpoint).hostname or "").endswith(_AWS_HOSTS)
