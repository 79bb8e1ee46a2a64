"""Who this process is: a node (a folder of tails) and a life (one run of one process on it).

The node is the folder, not the host's name: a machine that comes back with an empty disk must not claim the tails it
lost. Each process holds a lock on a file of its own for as long as it lives, so that its neighbours on the node can
tell a dead holder from a slow one without waiting for a lease to run out.
"""

import contextlib
import os
import re
import socket
from pathlib import Path

from rindle.errors import ConfigurationError
from rindle.objectstore.disk import OpenFile, publish
from rindle.uploads.ids import new_token

_ID = re.compile(r"[0-9a-f]{16}")
_ID_FILE = "node.id"


class NodeIdentity:
    """``id`` names the node, ``holder`` this process on it. Close it when the process ends its work."""

    def __init__(self, root: Path, *, name: str | None = None) -> None:
        """Read the node's id from ``root``, or make the folder and the id. ConfigurationError if it cannot be used."""
        self.root = root
        self.name = name or socket.gethostname()
        self._processes = root / "processes"
        try:
            self._processes.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.id = _read_or_make_id(root / _ID_FILE)
            self.process = new_token()
            self._lock = _lock_new(self._lock_path(self.process))
            self._remove_dead()
        except OSError as error:
            msg = f"the folder for tails {root} cannot be used: {error.strerror}; make it writable or choose another"
            raise ConfigurationError(msg) from error

    @property
    def holder(self) -> str:
        """What a lease says of who holds it."""
        return f"{self.id}/{self.process}"

    def is_in_place(self) -> bool:
        """Whether the folder is there and still this node's: disks come loose while processes live."""
        try:
            return (self.root / _ID_FILE).read_text().strip() == self.id
        except FileNotFoundError:
            return False

    def is_dead(self, holder: str) -> bool:
        """Whether this holder was a process of this node that lives no more. Of other nodes nothing is known."""
        node, _, process = holder.partition("/")
        if node != self.id or process == self.process or not _ID.fullmatch(process):
            return False
        return _is_unlocked(self._lock_path(process))

    def close(self) -> None:
        """End this life: from now on its leases may be taken over at once."""
        self._lock.path.unlink(missing_ok=True)
        self._lock.close()

    def _lock_path(self, process: str) -> Path:
        return self._processes / f"{process}.lock"

    def _remove_dead(self) -> None:
        for path in self._processes.glob("*.lock"):
            if path.stem != self.process and _is_unlocked(path):
                path.unlink(missing_ok=True)


def _read_or_make_id(path: Path) -> str:
    try:
        text = path.read_text().strip()
    except FileNotFoundError:
        return _make_id(path)
    if not _ID.fullmatch(text):
        msg = f"{path} does not hold a node id; restore it, or remove it to give up the tails of this folder"
        raise ConfigurationError(msg)
    return text


def _make_id(path: Path) -> str:
    draft = path.with_name(f"{path.name}.{new_token()}")
    with OpenFile(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600) as file:
        file.write([new_token().encode()], 0)
        file.sync()
    # Create-only: of two processes that start together one names the node.
    with contextlib.suppress(FileExistsError):
        publish(draft, path, replace=False)
    draft.unlink()
    return _read_or_make_id(path)


def _lock_new(path: Path) -> OpenFile:
    while True:
        file = OpenFile(path, os.O_RDWR | os.O_CREAT, 0o600)
        if file.try_lock() and file.is_in_place():  # else a neighbour took it for a dead process's
            return file
        file.close()


def _is_unlocked(path: Path) -> bool:
    try:
        with OpenFile(path, os.O_RDWR) as file:
            return file.try_lock(exclusive=False)
    except FileNotFoundError:
        return True
