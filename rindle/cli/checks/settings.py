"""Settings that contradict what they are for."""

from collections.abc import Iterator

from rindle.cli.checks.finding import Finding, ok, warn
from rindle.settings import Settings


def check_settings(settings: Settings) -> Iterator[Finding]:
    """What can be said without opening anything."""
    faults = [*_faults(settings)]
    yield from faults
    if not faults:
        yield ok("settings", "nothing in them contradicts the rest")


def _faults(settings: Settings) -> Iterator[Finding]:
    shared = settings.database_url.startswith("postgresql")
    if settings.store_url.startswith("memory:"):
        yield warn("settings", "objects are kept in memory", "give --store a folder or a bucket; memory ends with it")
    if shared and settings.store_url.startswith("file:"):
        yield warn(
            "settings",
            "the records can be shared by many nodes, the objects are in a folder",
            "with more than one node, give all of them one bucket, or a folder that all of them mount",
        )
    if settings.public_url is None and not settings.trust_forwarded and settings.location == "absolute":
        yield warn(
            "settings",
            "a Location names the host as this server sees it",
            "behind a proxy set public_url, or trust_forwarded",
        )
    if settings.expires_in is None:
        yield warn("settings", "unfinished uploads are kept for ever", "set expires_in, such as 7d")
    elif settings.spill_after is not None and settings.spill_after >= settings.expires_in:
        yield warn("settings", "uploads expire before their tails are spilled", "make spill_after shorter")
