"""Values that go into and come out of an object store. Sizes are bytes, instants aware UTC."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Literal, Self


def _freeze(value: object, name: str) -> None:
    """Put a read-only copy in the place of a mapping, which its giver could change under a frozen dataclass."""
    object.__setattr__(value, name, MappingProxyType(dict(getattr(value, name))))


@dataclass(frozen=True, slots=True)
class UpdateVersion:
    """Write only over this version of the object (if-match). At least one field is set."""

    e_tag: str | None = None
    version: str | None = None

    def __post_init__(self) -> None:
        if self.e_tag is None and self.version is None:
            msg = "UpdateVersion needs an e_tag or a version"
            raise ValueError(msg)


PutMode = Literal["overwrite", "create"] | UpdateVersion
CopyMode = Literal["overwrite", "create"]
Consistency = Literal["always", "by_request", "eventual"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributes:
    """What the store keeps about an object and gives back with it, by the names of HTTP and S3.

    ``metadata`` is the user metadata: ASCII keys in lower case, text values.
    """

    content_type: str | None = None
    content_disposition: str | None = None
    content_encoding: str | None = None
    content_language: str | None = None
    cache_control: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _freeze(self, "metadata")

    def __bool__(self) -> bool:
        return self != NO_ATTRIBUTES


NO_ATTRIBUTES = Attributes()


@dataclass(frozen=True, slots=True, kw_only=True)
class PutOptions:
    """``mode``: ``"overwrite"``, ``"create"`` (if-none-match) or :class:`UpdateVersion` (if-match).

    ``part_size`` and ``parts_in_flight`` are for a body that goes in parts: the size of all but the last, 8 MiB or what
    the store and the size demand, and how many are under way at once.
    """

    mode: PutMode = "overwrite"
    attributes: Attributes = NO_ATTRIBUTES
    tags: Mapping[str, str] = field(default_factory=dict)
    part_size: int | None = None
    parts_in_flight: int = 3

    def __post_init__(self) -> None:
        if self.parts_in_flight < 1 or (self.part_size is not None and self.part_size < 1):
            msg = f"parts have at least one byte, and one is under way: {self.part_size}, {self.parts_in_flight}"
            raise ValueError(msg)
        _freeze(self, "tags")


@dataclass(frozen=True, slots=True, kw_only=True)
class MultipartOptions:
    """``part_size``: the size of every part but the last, or None when parts will differ.

    A store whose limits say ``uniform`` needs it and refuses parts of another size.
    """

    part_size: int | None = None
    attributes: Attributes = NO_ATTRIBUTES
    tags: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _freeze(self, "tags")


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes ``start`` up to, not including, ``end`` (None: to the end of the object).

    An ``end`` past the object is clamped; a ``start`` at or past its end is an InvalidRangeError.
    """

    start: int
    end: int | None = None

    def __post_init__(self) -> None:
        if self.start < 0 or (self.end is not None and self.end <= self.start):
            msg = f"not a byte range: {self.start}..{self.end}"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True)
class SuffixRange:
    """The last ``length`` bytes, or the whole object if it is shorter."""

    length: int

    def __post_init__(self) -> None:
        if self.length <= 0:
            msg = f"not a suffix length: {self.length}"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class GetOptions:
    """Conditions follow RFC 9110 §13.2.2: if_match over if_unmodified_since, if_none_match over if_modified_since.

    The two e_tag conditions take ``*``, one e_tag or a comma-separated list, quoted or not; the two instants are
    compared in whole seconds, as HTTP writes them. All are asked of an object that is there: of an absent one the
    answer is NotFoundError. ``head``: answer with metadata only. ``version``: read this version (capability
    ``versions``). ``consistent``: see all that was written before, or perhaps not, and sooner; None is as the store was
    opened. It makes a difference where the capability ``consistency`` is ``"by_request"``.
    """

    range: ByteRange | SuffixRange | None = None
    if_match: str | None = None
    if_none_match: str | None = None
    if_modified_since: datetime | None = None
    if_unmodified_since: datetime | None = None
    version: str | None = None
    head: bool = False
    consistent: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectMeta:
    """One object as a listing knows it. ``e_tag`` is opaque and without quotes."""

    key: str
    size: int
    last_modified: datetime
    e_tag: str | None = None
    version: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PutResult:
    """What now stands under the key."""

    e_tag: str | None = None
    version: str | None = None


@dataclass(frozen=True, slots=True)
class DeleteResult:
    """The outcome for one key of many; ``error`` is None when the key is gone."""

    key: str
    error: Exception | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListPage:
    """One page of a listing in lexicographic order.

    ``prefixes`` are the common prefixes, each ending in the delimiter; ``next_token`` is None on the last page.
    """

    objects: tuple[ObjectMeta, ...] = ()
    prefixes: tuple[str, ...] = ()
    next_token: str | None = None


@dataclass(frozen=True, slots=True)
class MultipartRef:
    """A multipart's handle: two strings that outlive the process."""

    key: str
    multipart_id: str

    def to_json(self) -> str:
        """The handle as text to persist."""
        return json.dumps({"key": self.key, "multipart_id": self.multipart_id})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The handle that :meth:`to_json` wrote; ValueError if it is not one."""
        value = json.loads(text)
        match value:
            case {"key": str(key), "multipart_id": str(multipart_id)}:
                return cls(key, multipart_id)
            case _:
                msg = "not a multipart handle"
                raise ValueError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class PartMeta:
    """One part as the store holds it. ``e_tag`` belongs to one attempt at putting it.

    ``crc64nvme``: the CRC-64/NVME of its bytes, where the store knows it. Some stores want it again for the completion,
    and have to look for it if it is not given.
    """

    part_number: int
    size: int
    e_tag: str
    crc64nvme: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MultipartMeta:
    """One unfinished multipart as a listing knows it."""

    ref: MultipartRef
    initiated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PartLimits:
    """What a store takes in one multipart.

    ``min_size`` binds every part but the last. ``uniform``: all parts but the last have one size, given on create,
    and the last is not larger. ``consecutive``: part numbers on completion are 1, 2, 3 … without gaps. ``exhaustive``:
    a completion names all parts that were put. ``tags``: what is made of parts may have them, if objects may.
    ``exclusive``: a multipart wants its key for itself; whatever else is put or removed under it, or completed, may
    drop parts that it has, and its completion then ends in an InvalidPartError. ``kept_for``: the store drops a
    multipart that is older by itself; None: it does not.
    """

    min_size: int
    max_size: int
    max_count: int
    max_object_size: int
    uniform: bool = False
    consecutive: bool = False
    exhaustive: bool = False
    tags: bool = True
    exclusive: bool = False
    kept_for: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a store can do. Undeclared: refused before any I/O. Declared: proved by the contract suite.

    ``consistency``: whether reads and listings see all that was written before they began. ``"always"``;
    ``"by_request"``: those that are ``consistent`` do; ``"eventual"``: none can be sure, and to ask for it is refused.

    ``write`` is declared by all but those that are given out to be read only.
    """

    write: bool = True
    put_create: bool = False
    put_update: bool = False
    copy_create: bool = False
    complete_create: bool = False
    attributes: bool = False
    tags: bool = False
    versions: bool = False
    signed_urls: bool = False
    copy_part: bool = False
    list_multiparts: bool = False
    consistency: Consistency = "always"
    part_limits: PartLimits | None = field(default=None)
