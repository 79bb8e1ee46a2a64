"""How services differ in buckets and in who may use them: AWS, and Tigris, which has another idea of a user."""

from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A service, as far as its profile for stores does not say it.

    ``users``: access keys belong to users, to which policies are attached; else a key is its own user, and what is
    called a user's name when it is made is no more than a label. ``prefixes``: a policy can allow to list a part of a
    bucket. ``versions``: a policy knows of versions. ``empties``: a bucket is emptied by the service that deletes it,
    when it is told so.
    """

    name: str
    users: bool
    prefixes: bool
    versions: bool
    empties: bool


_AWS = Service(name="AWS", users=True, prefixes=True, versions=True, empties=False)
# https://www.tigrisdata.com/docs/iam/policies/; what its console's own client sends to delete a bucket.
_TIGRIS = Service(name="Tigris", users=False, prefixes=False, versions=False, empties=True)
FORCE_HEADER = "Tigris-Force-Delete"

_TIGRIS_IAM = {
    "storage.dev": "https://iam.storage.dev",
    "storageapi.dev": "https://iam.storageapi.dev",
    "fly.storage.tigris.dev": "https://fly.iam.storage.tigris.dev",
}
_AWS_HOSTS = (".amazonaws.com", ".amazonaws.com.cn", ".amazonaws.eu", ".api.aws")


def service_of(profile: str) -> Service:
    """What a service is like, by its profile. One that is not known is taken for one that does as AWS does."""
    return _TIGRIS if profile == "tigris" else _AWS


def profile_at(endpoint: str) -> str:
    """The profile of the service at an endpoint, as far as that can be told from it."""
    if tigris_iam(endpoint) is not None:
        return "tigris"
    return "aws" if is_aws(endpoint) else "other"


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
