"""How the engine works, in one value."""

from dataclasses import dataclass, field
from datetime import timedelta

from rindle.uploads.body import BodyPace
from rindle.uploads.keys import KeyTemplate
from rindle.uploads.leases import LeaseOptions
from rindle.uploads.model import DEFAULT_USECASE
from rindle.uploads.planner import MIB

TIB = 1 << 40


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """What an engine may be told. Sizes are bytes.

    ``max_size``: of one upload. ``part_size``: the least, it grows with the length. ``deferred_size``: what an upload
    whose length comes later is planned for. ``memory_budget``: bytes of all bodies of this process that may lie in
    memory. ``max_appends``: bodies that are taken at the same time. ``least_free``: bytes that must be free on the disk
    of the tails, or no body is taken. ``completion_timeout``: how long a request waits for its object to be assembled.
    ``shutdown_grace``: how long a shutdown waits for running requests to keep what they have, and for tails to be
    spilled. ``terminate_complete``: whether a client may remove an upload that is complete. ``tails_in_store``: keep
    tails in the store before they are acknowledged. ``spill_after``: move tails from the disk to the store that nobody
    has touched for so long, and all of them at a shutdown; None: never. ``rewind``: when a tail is lost for good, go
    back to the last committed part instead of giving the upload up. ``usecase``: what the uploads made here are for.
    ``publish_to``: where their objects are copied when they are whole; None: they stay under keys of their own.
    ``overwrite``: that copy may replace another object; else an upload whose key is taken gets its id into it.
    """

    max_size: int = 5 * TIB
    part_size: int = 5 * MIB
    deferred_size: int = 625 * 1024 * MIB
    parts_in_flight: int = 3
    memory_budget: int = 256 * MIB
    max_appends: int = 1000
    least_free: int = 64 * MIB
    max_sources: int = 1000
    key_root: str = "uploads"
    usecase: str = DEFAULT_USECASE
    publish_to: KeyTemplate | None = None
    overwrite: bool = False
    completion_timeout: timedelta = timedelta(seconds=25)
    inspection_timeout: timedelta = timedelta(seconds=2)
    shutdown_grace: timedelta = timedelta(seconds=20)
    terminate_complete: bool = False
    tails_in_store: bool = False
    spill_after: timedelta | None = timedelta(minutes=1)
    rewind: bool = False
    pace: BodyPace = field(default_factory=BodyPace)
    leases: LeaseOptions = field(default_factory=LeaseOptions)


DEFAULT_OPTIONS = EngineOptions()
