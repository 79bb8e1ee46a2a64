"""A marker: an object that says who holds something.

It is changed by compare-and-set alone and never removed. Stores delete without conditions: whoever removed a marker
might remove the next holder's. One that is given back says so, and keeps the count of those who have held it.
"""

import asyncio
import json
import os
import pwd
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from typing_extensions import override

from rindle.clock import utc_now
from rindle.objectstore.base import ObjectStore
from rindle.objectstore.cas import Seen, compare_and_set, look, require_conditions
from rindle.objectstore.errors import (
    AlreadyExistsError,
    ObjectStoreError,
    PreconditionFailedError,
    TransientStoreError,
)
from rindle.objectstore.tasks import settle
from rindle.objectstore.types import Attributes, PutResult

_JSON = Attributes(content_type="application/json")
_PATIENCE = 10.0  # seconds for taking back what may have been written


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who holds a marker, as written by that one. ``since`` is by that one's clock: for people, it decides nothing.

    ``id`` is of this one time of holding. ``token`` is larger than that of everybody who held it before (a fencing
    token). ``lease``: how long the holder may be silent before others may take the marker; None: for ever.
    """

    id: str
    who: str
    since: datetime | None
    token: int
    lease: timedelta | None = None
    renewals: int = 0

    @override
    def __str__(self) -> str:
        return self.who if self.since is None else f"{self.who} since {self.since:%Y-%m-%dT%H:%M:%SZ}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """A marker as it was read. ``holder``: who holds it, None if it is free; ``token``: the last one given."""

    seen: Seen | None = None
    holder: Holder | None = None
    token: int = 0

    @property
    def e_tag(self) -> str | None:
        """Of the version that was read; None if there was no marker."""
        return None if self.seen is None else self.seen.meta.e_tag

    def is_held_by(self, holder_id: str) -> bool:
        """Whether it is held, and by the one with this id."""
        return self.holder is not None and self.holder.id == holder_id


class Marker:
    """The marker under one key. UnsupportedOperationError if the store cannot compare and set."""

    def __init__(self, store: ObjectStore, key: str) -> None:
        self.key = key
        self._store = store

    async def look(self) -> Sight:
        """The marker as it is now."""
        require_conditions(self._store, self.key)
        seen = await look(self._store, self.key)
        return Sight() if seen is None else _parse(seen)

    async def take(self, over: Sight, *, who: str, lease: timedelta | None = None) -> Holder | None:
        """Hold the marker instead of whoever was seen there, if anybody; None if it has changed since.

        Cancelled, or left without an answer, it is not held afterwards. If even that cannot be made sure of within ten
        seconds, the error bears a note.
        """
        holder = Holder(id=secrets.token_hex(16), who=who, since=utc_now(), token=over.token + 1, lease=lease)
        try:
            result = await self._write(over, holder, held=True)
        except (asyncio.CancelledError, TransientStoreError) as error:
            await self._withdraw(over, holder, error)
            raise
        return holder if result is not None and result.e_tag is not None else None

    async def renew(self, holder_id: str) -> bool:
        """Show that the holder lives; False if the marker is no longer held by that one."""
        while (sight := await self.look()).holder is not None and sight.is_held_by(holder_id):
            renewed = replace(sight.holder, renewals=sight.holder.renewals + 1)
            if await self._write(sight, renewed, held=True) is not None:
                return True
        return False

    async def release(self, holder_id: str) -> bool:
        """Set the marker free, and leave another one's alone; False if it was not held by this one."""
        while (sight := await self.look()).holder is not None and sight.is_held_by(holder_id):
            if await self._write(sight, sight.holder, held=False) is not None:
                return True
        return False

    async def force(self, holder: Holder | None = None) -> Holder | None:
        """Set the marker free whoever holds it, or only if it is this one; who that was, or None."""
        found = (await self.look()).holder
        if found is None or (holder is not None and found.id != holder.id):
            return None
        return found if await self.release(found.id) else None

    async def _write(self, over: Sight, holder: Holder, *, held: bool) -> PutResult | None:
        """Replace what was seen; None if something else stands there. Without an e_tag if that came afterwards."""
        data = _to_bytes(holder, held=held)
        try:
            return await compare_and_set(self._store, self.key, over.seen, data, attributes=_JSON)
        except (AlreadyExistsError, PreconditionFailedError):
            return None

    async def _withdraw(self, over: Sight, holder: Holder, error: BaseException) -> None:
        try:
            await settle(self._undo(over, holder), patience=_PATIENCE)
        except (ObjectStoreError, TimeoutError) as failure:
            error.add_note(f"{self.key!r} may be left held by {holder}, who does not know of it: {failure}")

    async def _undo(self, over: Sight, holder: Holder) -> None:
        """Free what was taken; or change what was to be taken, so that a write still on its way finds it changed."""
        while (now := await self.look()).is_held_by(holder.id) or now.e_tag == over.e_tag:
            if await self._write(now, holder, held=False) is not None:
                return


def this_process() -> str:
    """Who we are, for people: user, host and process."""
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a user whom nobody has given a name
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()} (pid {os.getpid()})"


def _to_bytes(holder: Holder, *, held: bool) -> bytes:
    fields = {
        "id": holder.id,
        "who": holder.who,
        "created": None if holder.since is None else holder.since.isoformat(),
        "token": holder.token,
        "lease": None if holder.lease is None else holder.lease.total_seconds(),
        "renewals": holder.renewals or None,
        "released": None if held else utc_now().isoformat(),
    }
    return json.dumps({name: value for name, value in fields.items() if value is not None}, indent=2).encode() + b"\n"


def _parse(seen: Seen) -> Sight:
    try:
        fields = json.loads(seen.data)
        holder = _holder(fields)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
        # Somebody's, so not free; whose it was can be found out by people alone.
        return Sight(seen=seen, holder=Holder(id="", who="somebody (the marker cannot be read)", since=None, token=0))
    return Sight(seen=seen, holder=None if fields.get("released") else holder, token=holder.token)


def _holder(fields: Mapping[str, Any]) -> Holder:
    created, lease = fields.get("created"), fields.get("lease")
    return Holder(
        id=str(fields["id"]),
        who=str(fields["who"]),
        since=None if created is None else datetime.fromisoformat(created),
        token=int(fields.get("token", 0)),
        lease=None if lease is None else timedelta(seconds=lease),
        renewals=int(fields.get("renewals", 0)),
    )
