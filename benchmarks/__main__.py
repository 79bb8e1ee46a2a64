"""Upload servers side by side: what an upload costs on rindle, on tusd and on @tus/server.

``make bench`` installs the others in ``.bench`` and runs this; ``make bench ARGS=--quick`` takes a minute. All servers
put their objects at one endpoint, are driven by one client, and have one core of their own, on which only the one works
whose turn it is. What is compared is CPU time, which a busy machine does not change much; how long it took is told too.

```
pattern     bytes that are known by their digest
client      sends them                 workloads   what is sent, and how
servers     take them                  endpoints   where they end up, and who counts the calls   sink   the cheapest one
processes   what they cost             measure     one job on one server, and all in turn
                                       report      tables and JSON
```

A round counts only if every object is at the endpoint, with the size and the CRC-64/NVME of what was sent.
"""

import argparse
import json
import platform
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import get_args

import uvloop
from pydantic import ByteSize, TypeAdapter, ValidationError

from benchmarks.endpoints import EndpointName, open_endpoint
from benchmarks.measure import Result, compare
from benchmarks.pattern import MIB
from benchmarks.processes import Cores, MissingError, ServerFailedError, share_cores
from benchmarks.report import as_json, table_of
from benchmarks.servers import Rindle, Server, Tusd, TusNode, open_postgres
from benchmarks.workloads import Heads, ManyAtOnce, OneUpload, SmallUploads, Workload
from rindle import clock
from rindle.settings import parse_duration

SERVERS = ("rindle-postgres", "rindle-sqlite", "tusd", "tusd-unhashed", "tus-node")
WORKLOADS = ("one-patch", "patches", "tails", "small", "small-post", "head", "many", "latency")
_SCRATCH = Path("/dev/shm")
_QUICK = {"rounds": 1, "size": 128 * MIB, "small_count": 64, "heads": 500, "many": 40, "many_size": 4 * MIB}


def main() -> None:
    """The command."""
    if sys.platform != "linux":
        sys.exit("the benchmark reads what processes cost from /proc, and needs Linux")
    options = _parse()
    cores = share_cores()
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rindle-bench-", dir=options.scratch)))
        servers, versions = _find_servers(options, stack)
        if not servers:
            sys.exit("none of these servers can be run")
        try:
            results = uvloop.run(_run(options, servers, scratch=scratch, cores=cores))
        except (MissingError, ServerFailedError) as error:
            sys.exit(f"there is no endpoint: {error}")
    if options.json is not None:
        report = {
            "date": clock.utc_now().isoformat(),
            "machine": f"{platform.machine()}, {platform.system()} {platform.release()}, one core for the server",
            "options": {name: str(value) for name, value in vars(options).items()},
            "versions": versions,
            "results": as_json(results),
        }
        options.json.write_text(json.dumps(report, indent=1))
    if any(sample.fault for result in results for sample in result.samples):
        sys.exit("some rounds do not count: see above")


async def _run(options: argparse.Namespace, servers: Sequence[Server], *, scratch: Path, cores: Cores) -> list[Result]:
    results: list[Result] = []
    async with open_endpoint(options.endpoint, scratch, tls=options.tls) as endpoint:
        for workload in _make_workloads(options):
            if workload.latency and not endpoint.latency:
                continue
            compared = await compare(
                workload,
                servers,
                endpoint,
                scratch=scratch,
                cores=cores,
                rounds=options.rounds,
                part_size=options.part_size,
            )
            print(f"\n{table_of(compared)}", flush=True)
            results += compared
    return results


def _find_servers(options: argparse.Namespace, stack: ExitStack) -> tuple[list[Server], dict[str, str]]:
    """Those that are installed, and what they are; it is said of the others why not."""
    servers: list[Server] = []
    versions: dict[str, str] = {}
    for name in options.servers:
        if name == "tusd-unhashed" and options.endpoint == "folder":
            continue  # nothing is hashed for a disk
        try:
            server = _make_server(name, options, stack)
            versions[name] = server.version()
        except MissingError as error:
            print(f"- {name} is left out: {error}")
        else:
            servers.append(server)
            print(f"- {name}: {versions[name]}")
    return servers, versions


def _make_server(name: str, options: argparse.Namespace, stack: ExitStack) -> Server:
    match name:
        case "rindle-postgres":
            return Rindle(memory_budget=options.memory_budget, postgres=stack.enter_context(open_postgres()))
        case "rindle-sqlite":
            return Rindle(memory_budget=options.memory_budget)
        case "tusd":
            return Tusd(hashes=True)
        case "tusd-unhashed":
            return Tusd(hashes=False)
        case _:
            return TusNode()


def _make_workloads(options: argparse.Namespace) -> list[Workload]:
    part, small = options.part_size, {"units": options.small_count, "size": options.small_size, "connections": 32}
    workloads = [
        OneUpload("one-patch", size=options.size),
        OneUpload("patches", size=options.size, patch_size=part),
        OneUpload("tails", size=options.size // 2, patch_size=5 * part // 8),
        SmallUploads("small", at_once=False, **small),
        SmallUploads("small-post", at_once=True, **small),
        Heads("head", units=options.heads, connections=64, bytes_there=part + MIB),
        ManyAtOnce("many", units=options.many, size=options.many_size),
        OneUpload("latency", size=options.size, latency=options.latency.total_seconds()),
    ]
    return [workload for workload in workloads if workload.name in options.workloads]


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--quick", action="store_true", help="little of everything: to see that it runs, not to know what it costs")
    add("--servers", type=_some_of(SERVERS), default=SERVERS, help=f"by commas; default {','.join(SERVERS)}")
    add("--workloads", type=_some_of(WORKLOADS), default=WORKLOADS, help=f"by commas; default {','.join(WORKLOADS)}")
    add("--endpoint", choices=get_args(EndpointName), default="sink", help="where objects go; default sink")
    add("--tls", action="store_true", help="speak TLS with the sink")
    add("--rounds", type=int, default=3, help="how often each server has its turn; default 3")
    add("--part-size", type=_size, default=8 * MIB, help="of every server; default 8MiB")
    add("--size", type=_size, default=512 * MIB, help="of one large upload; default 512MiB")
    add("--small-count", type=int, default=400, help="small uploads of a round; default 400")
    add("--small-size", type=_size, default=64 * 1024, help="of each; default 64KiB")
    add("--heads", type=int, default=3000, help="HEADs of a round; default 3000")
    add("--many", type=int, default=200, help="uploads at the same time; default 200")
    add("--many-size", type=_size, default=7 * MIB, help="of each; default 7MiB")
    add("--memory-budget", type=_size, default=256 * MIB, help="rindle's; default 256MiB")
    add("--latency", type=_duration, default=timedelta(milliseconds=30), help="of the slow store; default 30ms")
    add("--scratch", type=Path, default=_SCRATCH if _SCRATCH.is_dir() else None, help="folder for all that is written")
    add("--json", type=Path, help="write all figures to this file")
    quick, _ = parser.parse_known_args()
    if quick.quick:
        parser.set_defaults(**_QUICK)
    return parser.parse_args()


def _some_of(names: Sequence[str]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        chosen = text.split(",")
        if unknown := set(chosen) - set(names):
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(sorted(unknown))}; known are {', '.join(names)}")
        return chosen

    return parse


def _size(text: str) -> int:
    try:
        return int(TypeAdapter(ByteSize).validate_python(text))
    except ValidationError:
        raise argparse.ArgumentTypeError(f"{text} is no size; write 64KiB or 8MiB") from None


def _duration(text: str) -> timedelta:
    parsed = parse_duration(text)
    assert isinstance(parsed, timedelta)
    return parsed


if __name__ == "__main__":
    main()
