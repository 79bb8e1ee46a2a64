"""What the servers are given to do."""

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import count
from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit

from typing_extensions import override

from benchmarks.client import TusClient, connect
from benchmarks.pattern import MIB, Pattern

Unit = Literal["upload", "request"]

Work = Callable[[], Awaitable[None]]

_numbers = count(1)


@dataclass(frozen=True, slots=True)
class Job:
    """Something to do, once: ``work`` is what is measured. ``uploads`` are what has to be stored when it is done.

    ``remarks``: what has to be known of how it went, in words.
    """

    work: Work
    uploads: Sequence[Pattern] = ()
    remarks: list[str] = field(default_factory=list)


class Workload(ABC):
    """One kind of work; each :class:`Job` of it is the same, with other bytes."""

    name: str
    title: str
    unit: ClassVar[Unit] = "upload"
    units: int = 1
    """How many units one job has."""
    size: int = 0
    """Bytes of one job."""
    latency = 0.0
    """Seconds that the endpoint takes for every call."""

    @property
    def by_volume(self) -> bool:
        """Whether bytes are what it costs, and not units."""
        return self.size >= 64 * MIB

    @abstractmethod
    async def prepare(self, url: str, stack: AsyncExitStack) -> Job:
        """A job for the server at this URL, with what it needs already there. ``stack`` ends after the job."""

    @abstractmethod
    def smaller(self) -> "Workload":
        """The same, and just enough of it that a server is warm afterwards."""


class OneUpload(Workload):
    """One upload, in one PATCH or in several, one after another, on one connection."""

    def __init__(self, name: str, *, size: int, patch_size: int | None = None, latency: float = 0.0) -> None:
        self.name = name
        self.size = size
        self.patch_size = min(patch_size or size, size)
        self.latency = latency
        patches = -(-size // self.patch_size)
        pieces = "one PATCH" if patches == 1 else f"{patches} PATCHes of {spell_size(self.patch_size)}"
        delay = f", the store taking {latency * 1000:g} ms for every call" if latency else ""
        self.title = f"one upload of {spell_size(size)} in {pieces}{delay}"

    @override
    async def prepare(self, url: str, stack: AsyncExitStack) -> Job:
        pattern = Pattern(next(_numbers), self.size)
        client = TusClient(await stack.enter_async_context(connect(url)), urlsplit(url).path)

        async def upload() -> None:
            path = await client.create(pattern.size)
            for start in range(0, pattern.size, self.patch_size):
                end = min(start + self.patch_size, pattern.size)
                await client.append(path, start, end - start, pattern.chunks(start, end))

        return Job(upload, [pattern])

    @override
    def smaller(self) -> "OneUpload":
        size = min(self.size, max(2 * self.patch_size, 32 * MIB) if self.patch_size < self.size else 32 * MIB)
        return OneUpload(self.name, size=size, patch_size=min(self.patch_size, size), latency=self.latency)


class SmallUploads(Workload):
    """Many uploads over a few connections: POST and PATCH, or POST with the bytes (creation-with-upload)."""

    def __init__(self, name: str, *, units: int, size: int, connections: int, at_once: bool) -> None:
        self.name = name
        self.units = units
        self.each = size
        self.size = units * size
        self.connections = connections
        self.at_once = at_once
        how = "one POST each" if at_once else "POST and PATCH"
        self.title = f"{units} uploads of {spell_size(size)}, {how}, {connections} connections"

    @property
    @override
    def by_volume(self) -> bool:
        return False

    @override
    async def prepare(self, url: str, stack: AsyncExitStack) -> Job:
        patterns = [Pattern(next(_numbers), self.each) for _ in range(self.units)]
        connections = [await stack.enter_async_context(connect(url)) for _ in range(self.connections)]
        clients = [TusClient(connection, urlsplit(url).path) for connection in connections]
        waiting = iter(patterns)

        async def upload_some(client: TusClient) -> None:
            for pattern in waiting:
                if self.at_once:
                    await client.create(pattern.size, pattern.chunks())
                else:
                    path = await client.create(pattern.size)
                    await client.append(path, 0, pattern.size, pattern.chunks())

        return Job(lambda: _all(upload_some(client) for client in clients), patterns)

    @override
    def smaller(self) -> "SmallUploads":
        units = min(self.units, 2 * self.connections)
        return SmallUploads(self.name, units=units, size=self.each, connections=self.connections, at_once=self.at_once)


class Heads(Workload):
    """HEAD, again and again, of uploads that are under way: each has a part in the store, and some bytes more."""

    unit = "request"

    def __init__(self, name: str, *, units: int, connections: int, bytes_there: int) -> None:
        self.name = name
        self.units = units
        self.connections = connections
        self.bytes_there = bytes_there
        self.title = f"{units} HEADs of uploads under way, {connections} connections"

    @override
    async def prepare(self, url: str, stack: AsyncExitStack) -> Job:
        connections = [await stack.enter_async_context(connect(url)) for _ in range(self.connections)]
        clients = [TusClient(connection, urlsplit(url).path) for connection in connections]
        pattern = Pattern(next(_numbers), 2 * self.bytes_there)
        paths = [await clients[0].create(pattern.size) for _ in range(8)]
        for path in paths:
            await clients[0].append(path, 0, self.bytes_there, pattern.chunks(0, self.bytes_there))
        waiting = iter(range(self.units))

        async def look(client: TusClient) -> None:
            for number in waiting:
                await client.look(paths[number % len(paths)], self.bytes_there)

        return Job(lambda: _all(look(client) for client in clients))

    @override
    def smaller(self) -> "Heads":
        units = min(self.units, 2 * self.connections)
        return Heads(self.name, units=units, connections=self.connections, bytes_there=self.bytes_there)


class ManyAtOnce(Workload):
    """Uploads that are all under way at the same time: none sends its last byte before all have sent their others.

    A server that does not go on with some before others have ended is waited for only so long: ``patience`` seconds.
    """

    def __init__(self, name: str, *, units: int, size: int, patience: float = 30.0) -> None:
        self.name = name
        self.units = units
        self.each = size
        self.patience = patience
        self.size = units * size
        self.title = f"{units} uploads of {spell_size(size)} at once, one PATCH each"

    @override
    async def prepare(self, url: str, stack: AsyncExitStack) -> Job:
        patterns = [Pattern(next(_numbers), self.each) for _ in range(self.units)]
        connections = [await stack.enter_async_context(connect(url)) for _ in range(self.units)]
        clients = [TusClient(connection, urlsplit(url).path) for connection in connections]
        all_there = asyncio.Barrier(self.units + 1)

        async def upload(client: TusClient, pattern: Pattern) -> None:
            path = await client.create(pattern.size)
            client.begin_append(path, 0, pattern.size)
            await client.send(pattern.chunks(0, pattern.size - 1))
            with contextlib.suppress(asyncio.BrokenBarrierError):
                await all_there.wait()
            await client.send(pattern.chunks(pattern.size - 1))
            await client.end_append(pattern.size)

        async def wait_for_all() -> None:
            try:
                async with asyncio.timeout(self.patience):
                    await all_there.wait()
            except TimeoutError:
                there = all_there.n_waiting
                job.remarks.append(f"no more than {there} of {self.units} came to their last byte before others ended")
                await all_there.abort()

        job = Job(lambda: _all([wait_for_all(), *map(upload, clients, patterns)]), patterns)
        return job

    @override
    def smaller(self) -> "ManyAtOnce":
        return ManyAtOnce(self.name, units=min(self.units, 4), size=self.each, patience=self.patience)


async def _all(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    try:
        async with asyncio.TaskGroup() as group:
            for one in work:
                group.create_task(one)
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None  # the others were stopped because of it


def spell_size(size: int) -> str:
    """In the largest unit that leaves no fraction."""
    for unit, name in ((1 << 30, "GiB"), (MIB, "MiB"), (1 << 10, "KiB")):
        if size >= unit and size % unit == 0:
            return f"{size // unit} {name}"
    return f"{size} B"
