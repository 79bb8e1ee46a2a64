"""One job on one server: what it cost, and whether what came out is what went in."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.client import UnexpectedAnswerError
from benchmarks.endpoints import Endpoint
from benchmarks.processes import Cores, ServerFailedError, last_words
from benchmarks.servers import Running, Server
from benchmarks.workloads import Job, Workload

_PATIENCE = 900.0
_PAUSE = 0.1  # for what a server does after its last answer, which is work too


@dataclass(frozen=True, slots=True)
class Sample:
    """What one job cost. ``cpu`` is the server's, ``database_cpu`` that of what keeps its records, both in seconds.

    ``calls``: of the store, by their names; None where nobody counts. ``memory`` and ``peak_memory``: bytes that were
    resident before, and at most. ``fault``: why it does not count. ``remarks``: what else was seen.
    """

    seconds: float = 0.0
    cpu: float = 0.0
    database_cpu: float = 0.0
    memory: int = 0
    peak_memory: int = 0
    calls: Counter[str] | None = None
    fault: str | None = None
    remarks: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """All samples of one server at one workload."""

    workload: Workload
    server: Server
    samples: Sequence[Sample]


async def compare(
    workload: Workload,
    servers: Sequence[Server],
    endpoint: Endpoint,
    *,
    scratch: Path,
    cores: Cores,
    rounds: int,
    part_size: int,
) -> list[Result]:
    """The samples of all servers: fresh processes, a warm-up, and rounds in which each has its turn.

    From round to round they take their turns in the opposite order, so that what the machine does meanwhile hits all.
    """
    samples: dict[str, list[Sample]] = {server.name: [] for server in servers}
    async with AsyncExitStack() as stack:
        started: list[Running] = []
        for server in servers:
            place, folder = endpoint.place(server.name), scratch / workload.name / server.name
            try:
                opened = server.running(place, folder, part_size=part_size, cores=cores.server)
                started.append(await stack.enter_async_context(opened))
            except ServerFailedError as error:
                samples[server.name].append(Sample(fault=str(error)))
        for running in started:
            await _measure(workload.smaller(), running, endpoint)
        for number in range(rounds):
            for running in started if number % 2 == 0 else reversed(started):
                samples[running.name].append(await _measure(workload, running, endpoint))
    return [Result(workload, server, samples[server.name]) for server in servers]


async def _measure(workload: Workload, server: Running, endpoint: Endpoint) -> Sample:
    try:
        async with asyncio.timeout(_PATIENCE), AsyncExitStack() as stack:
            job = await workload.prepare(server.url, stack)
            await endpoint.take(server.name)
            async with _latency(endpoint, workload.latency):
                return await _do(job, server, endpoint)
    except (UnexpectedAnswerError, OSError) as error:
        return Sample(fault=f"{error!r}; its last words: {last_words(server.log)}")
    finally:
        await endpoint.forget(server.name)


async def _do(job: Job, server: Running, endpoint: Endpoint) -> Sample:
    server.process.reset_peak()
    memory = server.process.memory()
    cpu, database_cpu = server.process.cpu_seconds(), _database_cpu(server)
    started = time.perf_counter()
    await job.work()
    seconds = time.perf_counter() - started
    await asyncio.sleep(_PAUSE)
    taken = await endpoint.take(server.name)
    lost = Counter(pattern.digest for pattern in job.uploads) - taken.written
    return Sample(
        seconds=seconds,
        cpu=server.process.cpu_seconds() - cpu,
        database_cpu=_database_cpu(server) - database_cpu,
        memory=memory,
        peak_memory=server.process.peak_memory(),
        calls=taken.calls,
        fault=f"{lost.total()} of {len(job.uploads)} objects are not what was sent" if lost else None,
        remarks=job.remarks,
    )


@asynccontextmanager
async def _latency(endpoint: Endpoint, seconds: float) -> AsyncIterator[None]:
    if not seconds:
        yield
        return
    await endpoint.set_latency(seconds)
    try:
        yield
    finally:
        await endpoint.set_latency(0)


def _database_cpu(server: Running) -> float:
    return server.database.cpu_seconds() if server.database else 0.0
