"""Can this node's folder keep tails: written, synced, locked, with room?"""

import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

from rindle.cli.checks.finding import Finding, error, ok, warn
from rindle.cli.output import spell_size
from rindle.objectstore.disk import OpenFile, sync_directory
from rindle.settings import Settings

_SLOW_S = 0.1
_BLOCK = bytes(64 * 1024)
_LEAST_FREE = 0.05
_LEAST_PARTS = 100


def check_disk(settings: Settings) -> Iterator[Finding]:
    """Of a machine that has no such folder nothing is said but that."""
    folder = settings.tails_folder
    if not folder.is_dir():
        yield warn(
            "tails",
            f"there is no folder {folder} on this machine",
            "run doctor where the server runs, with its settings; --tails says where the folder is",
        )
        return
    probe = folder / f".doctor-{secrets.token_hex(8)}"
    try:
        took = _time_sync(probe)
    except OSError as fault:
        mend = "the user that rindle runs as must be able to write there; no network file system"
        yield error("tails", f"{folder} cannot keep a file: {fault.strerror}", mend)
        return
    finally:
        probe.unlink(missing_ok=True)
    written = f"{folder} is written and synced in {took * 1000:.0f} ms"
    if took > _SLOW_S:
        yield warn("tails", written, "every request that leaves a tail waits for that: use a faster disk")
    else:
        yield ok("tails", written)
    yield _check_room(settings)


def _time_sync(probe: Path) -> float:
    began = perf_counter()
    with OpenFile(probe, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600) as file:
        if not file.try_lock():
            raise OSError(0, "it takes no locks")
        file.write([_BLOCK], 0)
        file.sync_data()
        sync_directory(file.path.parent)
    return perf_counter() - began


def _check_room(settings: Settings) -> Finding:
    usage = shutil.disk_usage(settings.tails_folder)
    free = f"{spell_size(usage.free)} free of {spell_size(usage.total)}"
    if usage.free < max(_LEAST_FREE * usage.total, _LEAST_PARTS * settings.part_size):
        return warn("room", free, "without room appends are refused (507): clear the disk, or shorten spill_after")
    return ok("room", free)
