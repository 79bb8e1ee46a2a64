"""What an object costs to put, get and list: rindle's S3 store beside the SDK it stands on, and beside others.

``make bench-store`` installs the others in ``.bench`` and runs this; ``make bench-store ARGS=--quick`` takes a minute.
Every client has a process of its own and does the same jobs at one server, in turn, in many rounds; what is compared is
the CPU time of that process, which a busy machine does not change much. The server works on another core.

```
objectstore            the server, the rounds, the table
objectstore_worker     one client's process
objectstore_clients    the clients
```
"""

import argparse
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import uvloop

from benchmarks.objectstore_clients import ACCESS_KEY_ID, CLIENTS, SECRET_ACCESS_KEY, Aioboto3, Place

ROOT = Path(__file__).parents[1]
VERSITYGW = ROOT / ".versitygw" / "versitygw"
IN_MEMORY = Path("/dev/shm")
BUCKET = "bench"
KIB, MIB = 1 << 10, 1 << 20
LISTED = 1000
BASE = "aioboto3"
GOALS = {("put", 8 * MIB): 5, ("get", 8 * MIB): 5, ("put", 4 * KIB): 15, ("get", 4 * KIB): 15}
"""By how many per cent rindle may cost more than the SDK that it stands on."""
LIBRARIES = ("aioboto3", "aiobotocore", "aiohttp", "obstore", "s3fs", "uvloop")

Found = dict[str, dict[str, list[float]]]
"""CPU seconds by workload and client: a figure for each round."""


@dataclass(frozen=True)
class Workload:
    """A job, and how often it is done in one round. Of a listing, ``size`` is how many keys it has."""

    operation: str
    size: int
    count: int

    @property
    def name(self) -> str:
        """For people."""
        if self.operation == "list":
            return f"list {self.size} keys"
        size = f"{self.size // MIB} MiB" if self.size >= MIB else f"{self.size // KIB} KiB"
        return f"{self.operation} {size}"


WORKLOADS = (
    Workload("put", 4 * KIB, 200),
    Workload("get", 4 * KIB, 200),
    Workload("put", 8 * MIB, 16),
    Workload("get", 8 * MIB, 16),
    Workload("list", LISTED, 8),
)


class Worker:
    """A client's process."""

    def __init__(self, name: str, place: Place, core: int | None) -> None:
        command = [sys.executable, "-m", "benchmarks.objectstore_worker", name, place.endpoint, place.bucket]
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        if core is not None:
            os.sched_setaffinity(self._process.pid, {core})

    def work(self, workload: Workload) -> float:
        """Do a job; the CPU seconds that each time took."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        job = {"operation": workload.operation, "size": workload.size, "count": workload.count}
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            sys.exit("a client has ended; what it said is above")
        return float(line) / workload.count

    def close(self) -> None:
        """End it."""
        self._process.communicate()


def environment() -> dict[str, str]:
    """Nothing of what is set for AWS here, but the server's keys."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}  # noqa: TID251 - passed on
    keys = {"AWS_ACCESS_KEY_ID": ACCESS_KEY_ID, "AWS_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY}
    return {**kept, **keys, "AWS_EC2_METADATA_DISABLED": "true"}


@contextmanager
def server(core: int | None) -> Iterator[str]:
    """An S3 server, with its objects in memory if the system has files there; its endpoint."""
    if not VERSITYGW.exists():
        sys.exit("there is no S3 server: make versitygw (with Go), or name one with --endpoint")
    with tempfile.TemporaryDirectory(prefix="rindle-bench-", dir=IN_MEMORY if IN_MEMORY.exists() else None) as folder:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{probe.getsockname()[1]}"
        # Connections are kept, as by S3 itself.
        command = [str(VERSITYGW), "--port", address, "--health", "/health", "--keep-alive", "posix", folder]
        keys = {"ROOT_ACCESS_KEY": ACCESS_KEY_ID, "ROOT_SECRET_KEY": SECRET_ACCESS_KEY}
        process = subprocess.Popen(
            command, env={**environment(), **keys}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        if core is not None:
            os.sched_setaffinity(process.pid, {core})
        try:
            wait_for(f"http://{address}/health")
            yield f"http://{address}"
        finally:
            process.terminate()
            process.wait()


def wait_for(url: str) -> None:
    """Return when something answers."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.05)
    sys.exit("the S3 server does not answer")


async def fill(place: Place) -> None:
    """Put there what is read."""
    async with Aioboto3(place) as client:
        await client.client.create_bucket(Bucket=place.bucket)
        for workload in WORKLOADS:
            if workload.operation == "get":
                await client.put(f"get/{workload.size}", bytes(workload.size))
        for number in range(LISTED):
            await client.put(f"list/an object with a name {number:04}", b"")


def measure(clients: Sequence[str], place: Place, *, rounds: int, core: int | None) -> Found:
    """Measure every workload with every client in every round. A round more is not counted: it warms up."""
    found: Found = {workload.name: {name: [] for name in clients} for workload in WORKLOADS}
    with ExitStack() as stack:
        workers = {name: Worker(name, place, core) for name in clients}
        for worker in workers.values():
            stack.callback(worker.close)
        for number in range(rounds + 1):
            # Who comes first is another one each time.
            turn = number % len(clients)
            for workload in WORKLOADS:
                for name in (*clients[turn:], *clients[:turn]):
                    cost = workers[name].work(workload)
                    if number:
                        found[workload.name][name].append(cost)
            print(f"round {number} of {rounds}", file=sys.stderr)
    return found


def table_of(found: Found, clients: Sequence[str]) -> str:
    """CPU milliseconds: the median, in brackets the least and the most; and how many times the base's median it is."""
    lines = [f"| CPU ms each | {' | '.join(clients)} |", f"|---|{'---|' * len(clients)}"]
    for workload, costs in found.items():
        base = statistics.median(costs[BASE])
        cells = [spell(costs[name], base) for name in clients]
        lines.append(f"| {' | '.join([workload, *cells])} |")
    return "\n".join(lines)


def spell(costs: Sequence[float], base: float) -> str:
    """What one client cost."""
    least, middle, most = (f"{seconds * 1000:.2f}" for seconds in (min(costs), statistics.median(costs), max(costs)))
    return f"{middle} ({least} to {most}), x {statistics.median(costs) / base:.2f}"


def goals_of(found: Found) -> dict[str, dict[str, float | bool]]:
    """By how many per cent rindle costs more than the base: the median over the rounds, each compared with itself."""
    outcome: dict[str, dict[str, float | bool]] = {}
    for workload in WORKLOADS:
        goal = GOALS.get((workload.operation, workload.size))
        costs = found[workload.name]
        if goal is not None and "rindle" in costs:
            ratios = [ours / theirs for ours, theirs in zip(costs["rindle"], costs[BASE], strict=True)]
            over = (statistics.median(ratios) - 1) * 100
            outcome[workload.name] = {"over": round(over, 1), "goal": goal, "reached": over < goal}
    return outcome


def main() -> None:
    """Measure, and say it."""
    parser = argparse.ArgumentParser(prog="make bench-store", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15, metavar="N", help="how often everything is done (15)")
    parser.add_argument("--quick", action="store_true", help="three rounds")
    parser.add_argument("--only", action="append", choices=list(CLIENTS), help="beside the SDK; may come again")
    parser.add_argument("--endpoint", metavar="URL", help="another server, which takes test/test as keys")
    parser.add_argument("--json", type=Path, metavar="FILE", help="all figures")
    options = parser.parse_args()
    clients = [name for name in CLIENTS if options.only is None or name in {BASE, *options.only}]
    rounds = 3 if options.quick else options.rounds
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    ours, theirs = (cores[0], cores[-1]) if len(cores) > 1 else (None, None)
    with ExitStack() as stack:
        place = Place(options.endpoint or stack.enter_context(server(theirs)), BUCKET)
        uvloop.run(fill(place))
        found = measure(clients, place, rounds=rounds, core=ours)
    print(table_of(found, clients))
    goals = goals_of(found)
    for name, outcome in goals.items():
        reached = "reached" if outcome["reached"] else "MISSED"
        print(f"{name}: rindle costs {outcome['over']:+} % CPU, to be below {outcome['goal']} %: {reached}")
    if options.json is not None:
        about = {"python": platform.python_version(), "machine": platform.machine()}
        about |= {name: version(name) for name in LIBRARIES}
        report = {"about": about, "rounds": rounds, "cpu_seconds": found, "goals": goals}
        options.json.write_text(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
