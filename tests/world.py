"""An engine in the test's own process, whose every step outside can fail or be its last, and that can be restarted."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

from sqlalchemy import text

from rindle.db.engine import Database
from rindle.db.repository import SqlUploadRepository
from rindle.errors import RindleError
from rindle.objectstore.base import MultipartStore
from rindle.objectstore.disk import DiskExecutor
from rindle.objectstore.errors import StoreUnavailableError
from rindle.reaper.service import Reaper, ReaperOptions
from rindle.testing.faults import FaultyStore
from rindle.uploads.body import BodyReader
from rindle.uploads.checksum import Checksum
from rindle.uploads.commands import AppendBytes
from rindle.uploads.engine import UploadEngine
from rindle.uploads.errors import ClientDisconnectedError, DatabaseUnavailableError
from rindle.uploads.leases import LeaseOptions
from rindle.uploads.model import Upload
from rindle.uploads.node import NodeIdentity
from rindle.uploads.options import EngineOptions
from rindle.uploads.ports import UploadRepository
from rindle.uploads.spilling import spill_idle
from rindle.uploads.tail import Tails

OWNER = "someone"
PART = 64 * 1024


BY_THE_CLOCK = {"renew", "find_release_requests", "listen"}  # steps that come when their time has come, not in an order


class ProcessDied(BaseException):
    """The process is gone: nothing that it would still have done happens."""


@dataclass
class Steps:
    """Counts what a process does outside itself, and ends it, or lets one step fail, at a chosen one.

    ``error`` says how a step of this name fails, or None if it cannot. Without it the process dies at the step, and
    every step after it dies too.
    """

    fail_at: int | None = None
    when: str = "before"
    error: Callable[[str, str], Exception | None] | None = None
    taken: list[str] = field(default_factory=list)
    dead: bool = False
    failed: str | None = None

    async def before(self, name: str, _: str = "") -> None:
        if name not in BY_THE_CLOCK:
            self.taken.append(name)
            self._check("before", name)

    async def after(self, name: str, _: str = "") -> None:
        if name not in BY_THE_CLOCK:
            self._check("after", name)

    def _check(self, when: str, name: str) -> None:
        if self.dead:
            raise ProcessDied
        if when == self.when and len(self.taken) == self.fail_at and self.failed is None:
            self.failed = name
            self._fail(name)

    def _fail(self, name: str) -> None:
        if self.error is None:
            self.dead = True
            raise ProcessDied
        error = self.error(name, self.when)
        if error is not None:
            raise error


def error_of(step: str, when: str) -> Exception | None:
    """How a step of this name fails; None if it cannot."""
    if step == "_unlink":
        return None  # what cannot be removed is logged, and left to the sweep
    if step in {"_make", "_resume"} and when == "after":
        return None  # a call in this process: its answer is not lost
    if step in {"add", "find", "find_node", "find_sources", "find_parts", "claim", "claim_work", "commit"}:
        return DatabaseUnavailableError("the connection was lost")
    if step.startswith("_") or step in {"write", "truncate"}:
        return OSError(5, "input/output error")
    return StoreUnavailableError("the connection was lost", store="test")


class _Watched:
    """Any object with async methods, each call of which is a step."""

    def __init__(self, inner: object, steps: Steps) -> None:
        self._inner = inner
        self._steps = steps

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)
        if not asyncio.iscoroutinefunction(method):
            return method

        async def call(*args: Any, **kwargs: Any) -> Any:
            label = getattr(args[0], "__name__", name) if name == "run" else name
            await self._steps.before(label)
            result = await method(*args, **kwargs)
            await self._steps.after(label)
            return result

        return call


@dataclass
class Process:
    """One life of a server without its HTTP."""

    engine: UploadEngine
    repository: UploadRepository
    reaper: Reaper
    tails: Tails
    steps: Steps

    async def spill_all(self) -> int:
        """As a process does that is about to end."""
        return await spill_idle(self.engine._storage, self.engine._leases, timedelta(0))

    async def append(
        self,
        upload_id: str,
        offset: int,
        body: bytes,
        *,
        length: int | None = None,
        checksum: Checksum | None = None,
        cut_after: int | None = None,
    ) -> Upload:
        """Append a body in chunks of odd sizes; with ``cut_after`` the client vanishes after so many bytes of it."""
        sent = body if cut_after is None else body[:cut_after]
        reader = BodyReader(chunks(sent, cut=cut_after is not None), declared=len(body), pace=self.engine.options.pace)
        command = AppendBytes(
            upload_id=upload_id, owner=OWNER, offset=offset, body_length=len(body), length=length, checksum=checksum
        )
        return await self.engine.append(command, reader)


async def _bury(tasks: set[asyncio.Task[Any]]) -> None:
    """A dead process has no tasks. The pool's own, which put connections back, come to their end by themselves."""
    for task in tasks:
        if "/rindle/" in task.get_coro().cr_code.co_filename:  # type: ignore[union-attr]
            task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class World:
    """What outlives a process: the store, the database, the disk."""

    def __init__(self, folder: Path, database_url: str, store: MultipartStore) -> None:
        self.folder = folder
        self.store = store
        self.database_url = database_url
        self.database = Database(database_url)

    @asynccontextmanager
    async def process(
        self, steps: Steps | None = None, *, node_folder: Path | None = None, **options: Any
    ) -> AsyncIterator[Process]:
        """A process, on another node if that is said; when its steps are dead, it leaves like one that was killed."""
        steps = steps or Steps()
        before = asyncio.all_tasks()
        node = NodeIdentity(node_folder or self.folder)
        disk = DiskExecutor("tails", threads=2)
        database = Database(self.database_url)
        repository = SqlUploadRepository(database, lease_ttl=timedelta(seconds=30), expires_in=timedelta(hours=1))
        watched = cast("UploadRepository", _Watched(repository, steps))
        tails = Tails(node, cast("DiskExecutor", _Watched(disk, steps)))
        leases = LeaseOptions(handover_timeout=timedelta(seconds=1), poll_interval=timedelta(milliseconds=20))
        chosen = replace(EngineOptions(part_size=PART, least_free=0, leases=leases, spill_after=None), **options)
        store = FaultyStore(self.store, before=steps.before, after=steps.after)
        engine = UploadEngine(store=store, repository=watched, tails=tails, options=chosen)
        reaper = Reaper(engine=engine, store=self.store, repository=repository, tails=tails, options=ReaperOptions())
        try:
            yield Process(engine, repository, reaper, tails, steps)
        finally:
            if not steps.dead:
                with contextlib.suppress(ProcessDied):
                    await engine.aclose()
            if steps.dead:
                await _bury(asyncio.all_tasks() - before - {asyncio.current_task()})
            node.close()
            await disk.aclose()
            await database.aclose()

    async def aclose(self) -> None:
        await self.database.aclose()
        await self.store.aclose()

    async def expire_everything(self) -> None:
        """As if a long time had passed: uploads are past their time, leases have run out."""
        await self._set_past("expires_at")
        await self.end_leases()

    async def end_leases(self) -> None:
        """As if some time had passed: leases have run out."""
        await self._set_past("lease_until")

    async def _set_past(self, column: str) -> None:
        statement = text(f"UPDATE rindle_uploads SET {column} = :past WHERE {column} IS NOT NULL")
        await self.database.write(statement, {"past": "2000-01-01T00:00:00.000Z"})

    async def count_events(self, upload_id: str, kind: str) -> int:
        statement = text("SELECT count(*) AS n FROM rindle_outbox WHERE upload_id = :id AND type = :kind")
        rows = await self.database.read(statement, {"id": upload_id, "kind": kind})
        return int(rows[0].n)

    async def leftovers(self) -> list[str]:
        """Whatever there is that belongs to no complete upload."""
        rows = await self.database.read(text("SELECT key FROM rindle_uploads WHERE state = 'complete'"))
        kept = {row.key for row in rows}
        found = [f"object {meta.key}" async for meta in self.store.list() if meta.key not in kept]
        found += [f"multipart {multipart.ref.key}" async for multipart in self.store.list_multiparts()]
        found += [f"tail {path.name}" for path in (self.folder / "tus").iterdir()]
        return found


def chunks(body: bytes, *, cut: bool) -> Callable[[], Awaitable[bytes | None]]:
    """The body in chunks of three sizes; at its end, the end or the client's disappearance."""
    sizes = (10_000, 1, 33_333)
    position = 0
    number = 0

    async def read_chunk() -> bytes | None:
        nonlocal position, number
        await asyncio.sleep(0)
        if position >= len(body):
            if cut:
                raise ClientDisconnectedError
            return None
        size = sizes[number % len(sizes)]
        number += 1
        position += size
        return body[position - size : position]

    return read_chunk


def pattern(size: int, seed: int = 1) -> bytes:
    """Bytes without a period that a part or a chunk could share."""
    return hashlib.shake_128(seed.to_bytes(4, "big")).digest(size)


async def settle(world: World, *, rounds: int = 3) -> None:
    """Let reapers do what they can do."""
    async with world.process() as process:
        for _ in range(rounds):
            await process.reaper.run()


async def attempt(work: Awaitable[Upload]) -> Upload | BaseException:
    """The upload, or why there is none."""
    try:
        return await work
    except (RindleError, ProcessDied) as error:
        return error


async def finish(process: Process, upload_id: str, content: bytes, cuts: Sequence[int] = ()) -> Upload:
    """What a client does that wants its file up: ask, append, ask again."""
    for number in range(20):
        upload = await process.engine.inspect(upload_id, OWNER)
        if upload.offset == len(content):
            return upload
        rest = content[upload.offset :]
        cut = cuts[number] if number < len(cuts) else None
        await attempt(process.append(upload_id, upload.offset, rest, cut_after=cut))
    raise AssertionError("the upload does not come to its end")
