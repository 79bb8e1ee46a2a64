"""What an upload is: plain values, equal to one row. Sizes are bytes, instants aware UTC by the database's clock."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from rindle.objectstore.types import MultipartRef


class UploadState(StrEnum):
    """Where an upload stands.

    ::

    ACTIVE ──> FINALIZING ──> COMPLETE          CONCATENATING ──> FINALIZING
      │            │             │                    │
      └────────────┴─────────────┴────> ABORTING <────┘
                                           ├──> ABORTED    (terminated, expired, or removed on purpose)
                                           └──> FAILED     (what was acknowledged cannot be had any more)
    """

    ACTIVE = "active"
    CONCATENATING = "concatenating"
    FINALIZING = "finalizing"
    COMPLETE = "complete"
    ABORTING = "aborting"
    ABORTED = "aborted"
    FAILED = "failed"


DEFAULT_USECASE = "default"

EXPIRED = "expired"
"""The reason of an upload that ended because its time was over."""

GONE = frozenset({UploadState.ABORTING, UploadState.ABORTED, UploadState.FAILED})


IN_STORE = "store"
"""Stands for a node where the tail lies in the object store, so that every node has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tail:
    """Acknowledged bytes at the end of an upload that are too few for a part.

    They lie on the disk of ``node`` in the file ``name``; the file may be longer, its first ``length`` bytes count. Or
    ``node`` is :data:`IN_STORE`, and ``name`` the key of an object.
    """

    name: str
    node: str
    length: int
    crc64nvme: int

    @property
    def in_store(self) -> bool:
        """Whether it was spilled: every node can go on from it."""
        return self.node == IN_STORE


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right to append. ``token`` is random and fences; ``holder`` is the process that holds it.

    ``live`` is what the database's clock said when the row was read. A lease only saves work: safety comes from
    every commit comparing the whole predecessor state.
    """

    token: str
    holder: str
    live: bool = True
    release_requested: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One committed part of a multipart."""

    part_number: int
    size: int
    e_tag: str
    crc64nvme: int | None = None  # None for a part that was copied inside the store


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """One upload as its row says.

    ``offset`` is what was acknowledged: the committed parts and the tail, contiguous from byte 0. ``length`` is None
    while deferred. ``key`` is where the object stands, or will (a multipart knows it early, a single put when done).
    ``target`` is where the object is to be published, None where it stays under its own key; then they are one.
    ``crc64nvme`` is that of all its bytes as they were received, known when it is complete, if it is known at all.
    ``usecase`` is what the operator calls this kind of uploads, ``content_type`` what the client says of the file.
    ``metadata`` and ``concat`` are the client's headers as they came. ``generation`` counts commits. ``untidy``: some
    attempt died or never got an answer, so that the store may hold more under the upload's prefix than the row names.
    ``reason`` is why an upload ended that nobody terminated: :data:`EXPIRED`, or the code of what failed.
    """

    id: str
    owner: str
    state: UploadState
    offset: int = 0
    length: int | None
    part_size: int
    part_count: int = 0
    multipart: MultipartRef | None = None
    tail: Tail | None = None
    key: str | None = None
    e_tag: str | None = None
    crc64nvme: int | None = None
    lease: Lease | None = None
    generation: int = 0
    metadata: str = ""
    partial: bool = False
    concat: str | None = None
    pins: int = 0
    untidy: bool = False
    reason: str | None = None
    usecase: str = DEFAULT_USECASE
    content_type: str | None = None
    target: str | None = None
    created_at: datetime
    expires_at: datetime | None = None
    expired: bool = False

    @property
    def gone(self) -> bool:
        """Whether nobody can have this upload any more. Once all bytes are in, time does not take it away."""
        return self.state in GONE or (self.expired and self.state in (UploadState.ACTIVE, UploadState.COMPLETE))

    @property
    def failed(self) -> bool:
        """Whether this ended because acknowledged bytes were lost, and not on purpose."""
        return self.reason not in (None, EXPIRED)

    def ending(self, reason: str | None = None) -> "Upload":
        """This upload in ABORTING: nobody has it any more, and what it left goes next."""
        return replace(self, state=UploadState.ABORTING, reason=reason, lease=None)

    def with_object(self, key: str, e_tag: str | None, crc64nvme: int | None) -> "Upload":
        """This upload once one put made its object: COMPLETE with its lease released, or FINALIZING to be published."""
        if self.target is None:
            return replace(self, state=UploadState.COMPLETE, key=key, e_tag=e_tag, crc64nvme=crc64nvme, lease=None)
        return replace(self, state=UploadState.FINALIZING, key=key, e_tag=e_tag, crc64nvme=crc64nvme)

    @property
    def is_final(self) -> bool:
        """Whether this is the concatenation of partial uploads."""
        return self.concat is not None and not self.partial

    @property
    def finish_events(self) -> Sequence["EventType"]:
        """What to tell when the object stands at its place. Of a partial upload nothing: of what it becomes."""
        return (EventType.FINISHED,) if self.state is UploadState.COMPLETE and not self.partial else ()

    @property
    def parts_end(self) -> int:
        """Where the committed parts end and the tail begins."""
        return self.offset - (self.tail.length if self.tail else 0)


class EventType(StrEnum):
    """What happened to an upload; recorded in the transaction that made it so."""

    CREATED = "created"
    FINISHED = "finished"
    TERMINATED = "terminated"
    EXPIRED = "expired"
    FAILED = "failed"
