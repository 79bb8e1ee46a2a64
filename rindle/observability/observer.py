"""What the other rooms say of their work, to whoever counts it."""

from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from typing import Literal

Outcome = Literal["done", "failed", "skipped"]


class Observer:
    """Is told what happens, and keeps nothing. What counts overrides it.

    Every method returns at once, whatever it is told, and none is called for a chunk of a body. Strings come from
    closed sets: codes of errors, kinds, reasons; never an id, a key, or anything that a client chose.
    """

    # Requests

    def request_answered(self, method: str, status: int | None) -> None:
        """A request is over. ``status`` None: nobody was there to be answered."""

    def error_answered(self, code: str) -> None:
        """A request was answered with this error."""

    # Uploads

    def upload_created(self) -> None:
        """An upload was made, partial ones and concatenations too."""

    def upload_finished(self) -> None:
        """The object of an upload stands at its place. Partial uploads never count."""

    def upload_terminated(self, reason: str) -> None:
        """An upload ended without an object: ``client`` wanted that, or the code of the error that lost its bytes."""

    def upload_expired(self) -> None:
        """An upload was dropped because its time was over."""

    def fence_rejected(self) -> None:
        """A commit found that another writer had been there, and changed nothing."""

    # Bytes

    def appending(self) -> AbstractContextManager[None]:
        """Entered while an append is under way, from its claim to its result."""
        return nullcontext()

    def storing_part(self) -> AbstractContextManager[None]:
        """Entered while a part, or an object that is a single one, is put into the store."""
        return nullcontext()

    def waiting_for_lock(self) -> AbstractContextManager[None]:
        """Entered while an append waits for another one to let go of its upload."""
        return nullcontext()

    def bytes_received(self, size: int) -> None:
        """So many bytes of a body have arrived since the last time."""

    def memory_used(self, size: int) -> None:
        """Bytes that all bodies of this process take of the memory budget now; more than it has, if too many come."""

    # The store

    def store_called(self, operation: str, *, seconds: float, error: str | None) -> None:
        """A call of the store, named as its method, has ended; ``error`` names the class of error, if it failed."""

    # Tails

    def tail_missing(self, reason: str) -> None:
        """Acknowledged bytes were not where they should be: ``elsewhere``, ``missing``, ``short`` or ``corrupt``."""

    def upload_rewound(self) -> None:
        """An upload went back to its last part because its tail was lost."""

    def tail_spilled(self) -> None:
        """A tail was moved from this node's disk into the store."""

    def tails_measured(self, size: int, free: int) -> None:
        """Bytes of all tails on this node's disk now, and bytes that are free there."""

    # The reaper

    def reaped(self, kind: str, outcome: Outcome, count: int = 1) -> None:
        """So many items of a kind (a chore) ended so in a run."""

    def reaper_succeeded(self, at: datetime) -> None:
        """A run over all that is often due came to its end."""

    def stray_multiparts(self, count: int) -> None:
        """So many multiparts of no upload were found in the store and are still there."""


NOBODY = Observer()
"""For whoever is not watched."""
