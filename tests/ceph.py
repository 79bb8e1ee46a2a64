"""A Ceph cluster of one machine, in memory and without systemd: a monitor, a disk, and the gateway that speaks S3."""

import shutil
import subprocess
import uuid
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.daemons import free_port, moments, running, wait_until_healthy

PROGRAMS = ("ceph", "ceph-authtool", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")

SMALLEST_PART = 64 * 1024
"""Of what is not the last; S3's own is larger, which stores keep to unless they are told."""

_CONFIGURATION = """
[global]
fsid = {cluster}
mon host = v2:127.0.0.1:{monitor_port}
ms bind msgr1 = false
ms bind ipv6 = false
public addr = 127.0.0.1
keyring = {folder}/keyring
run dir = {folder}
admin socket =
pid file =
log file =
log to stderr = true
err to stderr = true
paxos propose interval = 0.05
paxos min wait = 0.01
mon data avail warn = 1
mon data avail crit = 1
auth allow insecure global id reclaim = false
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 1000
[mon.a]
mon data = {folder}/mon
[osd.0]
osd data = {folder}/osd
osd objectstore = memstore
memstore device bytes = 4294967296
[client.rgw]
rgw data = {folder}
rgw enable apis = s3
rgw frontends = beast endpoint=127.0.0.1:{port} tcp_nodelay=1
rgw multipart min part size = {SMALLEST_PART}
rgw gc obj min wait = 1
rgw gc processor period = 1
"""
_MONITOR = ("--cap", "mon", "allow *")
_DISK = ("--cap", "osd", "allow *")
_KEYS: tuple[tuple[str, ...], ...] = (
    ("mon.", *_MONITOR),
    ("client.admin", *_MONITOR, *_DISK, "--cap", "mgr", "allow *"),
    ("client.rgw", *_MONITOR, *_DISK),
    ("osd.0", "--cap", "mon", "allow profile osd", *_DISK),
)


def missing_programs() -> Sequence[str]:
    """What is not installed; all of it comes with Debian's ceph-mon, ceph-osd and radosgw."""
    return [name for name in PROGRAMS if shutil.which(name) is None]


@contextmanager
def running_ceph(folder: Path, *users: str) -> Iterator[str]:
    """A cluster whose gateway knows these users, each by its name as both keys; its endpoint."""
    cluster, port, monitor_port = str(uuid.uuid4()), free_port(), free_port()
    for name in ("mon", "osd"):
        (folder / name).mkdir()
    configuration = folder / "ceph.conf"
    configuration.write_text(
        _CONFIGURATION.format(
            cluster=cluster, folder=folder, port=port, monitor_port=monitor_port, SMALLEST_PART=SMALLEST_PART
        )
    )
    keyring, monitors = str(folder / "keyring"), str(folder / "monitors")
    address = f"[v2:127.0.0.1:{monitor_port}]"

    def run(program: str, *arguments: str) -> str:
        return _run(program, "--conf", str(configuration), *arguments)

    def daemon(program: str, *arguments: str) -> AbstractContextManager[subprocess.Popen[bytes]]:
        command = [program, "--conf", str(configuration), "--foreground", *arguments]
        return running(command, {}, folder / f"{program}.log")

    for number, (name, *capabilities) in enumerate(_KEYS):
        created = () if number else ("--create-keyring",)
        _run("ceph-authtool", *created, keyring, "--gen-key", "--name", name, *capabilities)
    _run("monmaptool", "--create", "--fsid", cluster, "--addv", "a", address, monitors)
    run("ceph-mon", "--id", "a", "--mkfs", "--monmap", monitors, "--keyring", keyring)
    with ExitStack() as stack:
        stack.enter_context(daemon("ceph-mon", "--id", "a"))
        disk = str(uuid.uuid4())
        run("ceph", "--connect-timeout", "60", "osd", "new", disk, "0")
        run("ceph-osd", "--id", "0", "--mkfs", "--osd-uuid", disk)
        process = stack.enter_context(daemon("ceph-osd", "--id", "0"))
        for _ in moments(process, folder / "ceph-osd.log"):
            if "1 up" in run("ceph", "osd", "stat"):
                break
        # Before the gateway starts, which otherwise waits for its pools.
        for user in users:
            keys = ("--access-key", user, "--secret-key", user)
            run("radosgw-admin", "user", "create", "--uid", user, "--display-name", user, *keys)
        gateway = stack.enter_context(daemon("radosgw", "--name", "client.rgw"))
        wait_until_healthy(gateway, f"http://127.0.0.1:{port}", folder / "radosgw.log")
        yield f"http://127.0.0.1:{port}"


def _run(*command: str) -> str:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.fail(f"{command[0]} failed:\n{done.stdout}{done.stderr}", pytrace=False)
    return done.stdout
