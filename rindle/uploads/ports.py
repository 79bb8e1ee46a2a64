"""What the engine needs from the outside, besides an object store."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from rindle.uploads.model import DEFAULT_USECASE, EventType, Part, Upload, UploadState


@dataclass(frozen=True, slots=True, kw_only=True)
class NewUpload:
    """A row to be made; the database's clock gives its instants.

    ``sources`` are the ids of the partial uploads that a concatenation joins, in order, with repeats.
    """

    id: str
    owner: str
    state: UploadState
    length: int | None
    part_size: int
    metadata: str = ""
    partial: bool = False
    concat: str | None = None
    usecase: str = DEFAULT_USECASE
    content_type: str | None = None
    target: str | None = None
    sources: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The conditions under which a request may append, all checked in the statement that takes the lease.

    ``body_length`` is None when the request does not say how much it brings. ``length`` is what this request declares
    for an upload that deferred it: the upload's own, if it has one, must be the same; the claim does not set it.
    ``node``: the tail, if there is one, must be there or in the store. ``take_over`` names the token of a dead or
    unwilling holder; without it the lease must be free.
    """

    upload_id: str
    owner: str
    offset: int
    body_length: int | None
    length: int | None
    token: str
    holder: str
    node: str
    take_over: str | None = None


class Due(StrEnum):
    """Why an upload waits for somebody to work on it who is not its client."""

    UNFINISHED = "unfinished"
    """It is FINALIZING, CONCATENATING or ABORTING, and no live lease works on it."""
    UNTIDY = "untidy"
    """It is COMPLETE, and the store may hold more of it than its object."""
    EXPIRED = "expired"
    """It is past its time, and nobody appends to it or has pinned it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DueUpload:
    """An upload that was taken to be worked on; ``failures``: how often that failed before, in this state."""

    upload: Upload
    failures: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A tail folder and whoever serves from it. ``retired_at``: an operator declared its tails gone."""

    id: str
    name: str
    seen_at: datetime
    retired_at: datetime | None = None


class LeaseSignal(StrEnum):
    """What processes tell each other about the lease of an upload."""

    REQUESTED = "requested"
    RELEASED = "released"


class SignalReceiver(Protocol):
    """Who is told what the rows say, sooner than by looking at them.

    A signal is a hint. It may come late, twice, for nothing, or not at all; what is true stands in the row.
    """

    def receive(self, signal: LeaseSignal, upload_id: str) -> None:
        """Take a signal. Must return at once."""
        ...

    def set_live(self, *, live: bool) -> None:
        """Take note of whether signals come from now on. Those from before the change may have been lost."""
        ...


class UploadRepository(Protocol):
    """The rows. Instants are the database's; lease and expiry are compared by its clock.

    Every method is one transaction. All raise DatabaseUnavailableError when there is no answer; of a write it is
    then unknown whether it was done.
    """

    async def add(self, new: NewUpload, *, events: Sequence[EventType] = ()) -> Upload:
        """Insert a row. DuplicateUploadError if the id is taken.

        With ``sources``, all of them must be complete partial uploads of the same owner, and each is pinned in the
        same transaction; else StaleUploadError, and nothing is inserted.
        """
        ...

    async def find(self, upload_id: str) -> Upload | None:
        """The row as it is now, by one indexed read."""
        ...

    async def find_sources(self, upload_id: str) -> Sequence[Upload]:
        """The partial uploads of a concatenation, in order, with repeats."""
        ...

    async def find_parts(self, upload_id: str) -> Sequence[Part]:
        """The committed parts, by number."""
        ...

    async def claim(self, claim: Claim) -> Upload | None:
        """Take the lease if every condition of the claim holds; None, and nothing changed, if one does not.

        Moves an expiry that has less than half its time left. A lease that was not free makes the upload untidy.
        """
        ...

    async def claim_work(
        self, upload_id: str, state: UploadState, *, token: str, holder: str, take_over: str | None = None
    ) -> Upload | None:
        """Take the lease of an upload in ``state`` to finish what it is in the middle of; None if it has changed.

        A lease that was not free makes the upload untidy.
        """
        ...

    async def commit(
        self, before: Upload, after: Upload, *, parts: Sequence[Part] = (), events: Sequence[EventType] = ()
    ) -> Upload:
        """Make ``before`` into ``after`` if the row still is ``before``; one compare-and-set on the whole state.

        Compared are state, token, offset, part count, generation, multipart, tail name and pins. Part rows and
        outbox events go into the same transaction. The generation is raised; a lease that ``after`` keeps is
        renewed; one that it drops and that somebody asked for is signalled as RELEASED. An ACTIVE upload's expiry that
        has less than half its time left is moved. A concatenation that leaves CONCATENATING and FINALIZING unpins its
        sources. Reaching COMPLETE ends the expiry of an upload that is not partial. StaleUploadError: another writer
        was there, nothing changed.
        """
        ...

    async def renew(self, leases: Mapping[str, str]) -> None:
        """Prolong the leases that still have these tokens. ``leases``: token to upload id (rows are found by id)."""
        ...

    async def request_release(self, upload_id: str, token: str) -> None:
        """Ask the process that holds this lease to let go of it; signalled as REQUESTED."""
        ...

    async def refuse_release(self, upload_id: str, token: str) -> None:
        """Answer such a request with no: the holder is at work."""
        ...

    async def find_release_requests(self, leases: Mapping[str, str]) -> Sequence[str]:
        """The tokens of those among these leases (token to upload id) that somebody asks for."""
        ...

    async def listen(self, receiver: SignalReceiver) -> None:
        """Hand over the signals of all processes until cancelled, through whatever happens to the database.

        Returns at once where processes cannot signal each other, and share only the rows.
        """
        ...

    async def take_due(self, due: Due, *, limit: int, hold: timedelta) -> Sequence[DueUpload]:
        """Uploads that are due and not put off, the longest due of them; for ``hold`` nobody else is given them.

        Many may take at once; each is given others, and none waits. Taking changes nothing of an upload: whoever
        comes for it meanwhile wins.
        """
        ...

    async def count_due(self, due: Due) -> int:
        """How many uploads are due, those that are taken or put off included."""
        ...

    async def put_off(self, upload_id: str, *, by: timedelta, reason: str) -> None:
        """Say that the work on a due upload failed, and let nobody take it for so long.

        A change of its state forgets that.
        """
        ...

    async def find_states(self, upload_ids: Collection[str]) -> Mapping[str, UploadState]:
        """The states of those uploads among these that there are."""
        ...

    async def purge(self, older_than: timedelta, *, limit: int) -> int:
        """Remove the records of uploads that came to their end so long ago, with their events; how many.

        An end is COMPLETE and tidy, ABORTED or FAILED. One that is joined into another stays as long as that.
        """
        ...

    async def count_purgeable(self, older_than: timedelta) -> int:
        """How many there are to purge."""
        ...

    async def note_reaped(self) -> None:
        """Say that what was due has been dealt with, now."""
        ...

    async def find_reaped(self) -> datetime | None:
        """When that was said last."""
        ...

    async def find_tail_names(self, node: str, names: Collection[str]) -> Collection[str]:
        """Which of these tail files of a node some row still names."""
        ...

    async def beat(self, node: str, name: str) -> None:
        """Say that this node serves."""
        ...

    async def find_node(self, node: str) -> Node | None:
        """What is known of a node."""
        ...
