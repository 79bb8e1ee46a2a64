"""What services that speak S3's API are like, where they differ: by their documents, or because it was tried."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal, get_args

from rindle.objectstore.types import Consistency, PartLimits

Checksums = Literal["auto", "crc64nvme", "none"]
Condition = Literal["put", "update", "copy", "complete"]
Conditions = frozenset[Condition] | Literal["auto"]

ALL_CONDITIONS: frozenset[Condition] = frozenset(get_args(Condition))
_GIB = 1 << 30
_TIB = 1 << 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One service. :class:`S3Options` may say otherwise of all but the last three.

    ``region``: None leaves it to the SDK. ``path_style``: the bucket in the path and not in the host's name.

    ``checksums`` ``"crc64nvme"``: the service checks every body against its CRC-64/NVME; ``"none"``: it would not, so
    bodies are checked while they are sent, and what happens on the way is left to TLS. ``conditions``: the writes whose
    conditions the service honours. Of both, what is ``"auto"`` is tried by :meth:`S3Store.prepare`. ``bare_e_tags``:
    conditions name an e_tag without quotes.

    ``tags``: objects have them; ``multipart_tags``: so have those that are made of parts. ``list_multiparts``:
    unfinished ones are found by a prefix of their keys. ``uniform_parts``, ``consecutive_parts``, ``exhaustive_parts``:
    as in :class:`PartLimits`. ``multiparts_kept_for``: the service drops what is unfinished for longer; None: it does
    not. ``max_copy_size``: the largest object that is copied by one call.

    ``consistency``: as in :class:`Capabilities`. Where it is ``"by_request"``, requests that want it have
    ``consistent_headers``, and the others are signed for ``nearby_region``.
    """

    region: str | None = None
    path_style: bool = True
    checksums: Checksums = "auto"
    conditions: Conditions = "auto"
    bare_e_tags: bool = False
    tags: bool = True
    multipart_tags: bool = True
    list_multiparts: bool = True
    uniform_parts: bool = False
    consecutive_parts: bool = True
    exhaustive_parts: bool = False
    min_part_size: int = 5 << 20
    max_part_size: int = 5 * _GIB
    max_parts: int = 10_000
    max_object_size: int = 5 * _TIB
    max_copy_size: int = 5 * _GIB
    multiparts_kept_for: timedelta | None = None
    consistency: Consistency = "always"
    consistent_headers: Mapping[str, str] = field(default_factory=dict)
    nearby_region: str | None = None

    @property
    def part_limits(self) -> PartLimits:
        """What it takes in one multipart."""
        return PartLimits(
            min_size=self.min_part_size,
            max_size=self.max_part_size,
            max_count=self.max_parts,
            max_object_size=self.max_object_size,
            uniform=self.uniform_parts,
            consecutive=self.consecutive_parts,
            exhaustive=self.exhaustive_parts,
            tags=self.multipart_tags,
            kept_for=self.multiparts_kept_for,
        )


PROFILES: Mapping[str, Service] = {
    # Numbers without gaps are wanted where parts have checksums.
    "aws": Service(
        path_style=False,
        checksums="crc64nvme",
        conditions=ALL_CONDITIONS,
        max_object_size=10_000 * 5 * _GIB,
    ),
    # Any service of which nothing is known, and AWS's own numbers are believed.
    "other": Service(),
    "b2": Service(tags=False),
    # Of versions from 16 on. Younger ones know more: conditions=auto and checksums=auto find it out.
    "ceph": Service(
        checksums="none",
        conditions=frozenset({"put", "update"}),
        bare_e_tags=True,
        multipart_tags=False,
        consecutive_parts=False,
        exhaustive_parts=True,
    ),
    "garage": Service(region="garage", tags=False),
    # It lists unfinished multiparts of one key, and none for a prefix of it.
    "minio": Service(region="us-east-1", list_multiparts=False, multiparts_kept_for=timedelta(hours=24)),
    "r2": Service(
        region="auto",
        tags=False,
        uniform_parts=True,
        max_object_size=5 * _TIB - 5 * _GIB,
        multiparts_kept_for=timedelta(days=7),
    ),
    "scaleway": Service(max_parts=1000),
    "storagegrid": Service(multiparts_kept_for=timedelta(days=15)),
    "swift": Service(max_parts=1000, consistency="eventual"),
    # Its buckets are everywhere, and each region knows its own writes at once. Those made since February 2025 are in
    # the host's name only: https://www.tigrisdata.com/blog/virtual-hosted-urls/
    "tigris": Service(
        region="auto",
        path_style=False,
        consistency="by_request",
        consistent_headers={"x-tigris-consistent": "true"},
        nearby_region="auto",
    ),
    "versitygw": Service(checksums="crc64nvme", conditions=frozenset({"put", "update", "complete"})),
}
