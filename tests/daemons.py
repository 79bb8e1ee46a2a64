"""Servers that are started for a test and ended with it."""

import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PATIENCE = 60.0
"""Seconds until a server that does not start, or does not answer, is given up."""


@contextmanager
def running(command: list[str], variables: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")} | variables
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(timeout=PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_until_healthy(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    for _ in moments(process, log):
        try:
            with urllib.request.urlopen(url, timeout=PATIENCE):
                return
        except OSError:
            continue


def moments(process: subprocess.Popen[bytes], log: Path) -> Iterator[None]:
    """Times at which to look whether a server runs, which tells nobody."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and process.poll() is None:
        yield
        time.sleep(0.05)
    pytest.fail(f"the server did not start:\n{log.read_text()}", pytrace=False)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
