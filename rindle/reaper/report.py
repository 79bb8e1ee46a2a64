"""What a run of the reaper did, or would do."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum


class Chore(StrEnum):
    """What there is to do without a client, in the order in which it is done."""

    UNFINISHED = "unfinished"
    """Uploads that a process left in the middle of being made, joined or removed: go on with it."""
    UNTIDY = "untidy"
    """Complete uploads of which the store may hold more than the object: remove the rest."""
    EXPIRED = "expired"
    """Uploads past their time: drop them."""
    SPILLS = "spills"
    """Tails of this node that nobody has touched for a while: move them into the store."""
    MULTIPARTS = "multiparts"
    """Multiparts under our prefix that belong to no upload that goes on: abort them."""
    FILES = "files"
    """Files on this node that no record names and no process writes: remove them."""
    RECORDS = "records"
    """Records of uploads that ended long ago, and their events: remove them."""


@dataclass(slots=True)
class Tally:
    """How many there were: ``failed`` ones are left for later, ``skipped`` ones somebody else came for."""

    done: int = 0
    failed: int = 0
    skipped: int = 0

    @property
    def found(self) -> int:
        """All of them."""
        return self.done + self.failed + self.skipped


@dataclass(slots=True)
class Report:
    """Tallies by chore, in order. ``cut_short``: the time was up before everything was looked at."""

    tallies: dict[Chore, Tally] = field(default_factory=dict)
    cut_short: bool = False

    def __getitem__(self, chore: Chore) -> Tally:
        return self.tallies.setdefault(chore, Tally())

    def __iter__(self) -> Iterator[tuple[Chore, Tally]]:
        return iter(self.tallies.items())

    @property
    def failed(self) -> int:
        """How many items failed in all."""
        return sum(tally.failed for tally in self.tallies.values())
