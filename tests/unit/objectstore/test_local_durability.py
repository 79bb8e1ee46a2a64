"""What is on the disk before what: the order of the calls that a power cut could come between."""

import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from rindle.objectstore.local import LocalStore
from rindle.objectstore.types import Attributes, MultipartOptions, PutOptions

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="tells files apart by /proc/self/fd")

CREATE = PutOptions(mode="create")
OPTIONS = MultipartOptions(part_size=10)
NOTED = PutOptions(attributes=Attributes(content_type="text/plain"))
CALLS = ("pwritev", "ftruncate", "utime", "fsync", "fdatasync", "rename", "link", "unlink", "mkdir", "rmdir")


class Trace:
    """The calls that change or sync files, as ``call name``; random names and temporary files are ``*``."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.calls: list[str] = []

    def note(self, call: str, *args: Any) -> None:
        target = args[1] if call in {"rename", "link"} else args[0]
        path = Path(f"/proc/self/fd/{target}").readlink() if isinstance(target, int) else Path(target)
        self.calls.append(f"{call} {self._name(path)}")

    def _name(self, path: Path) -> str:
        relative = path.relative_to(self._root)
        match relative.parts:
            case (".rindle", "tmp", _):
                return "*"
            case (".rindle", "tmp", _, name) | (".rindle", "staging", _, name):
                return name
            case (".rindle", "staging", _):
                return "multipart"
            case (".rindle", "attributes", _, _):
                return "sidecar"
            case (".rindle", "attributes", _):
                return "sidecars"
            case _:
                return str(relative)

    def take(self) -> list[str]:
        taken, self.calls = self.calls, []
        return taken


@pytest.fixture
def trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trace:
    trace = Trace(tmp_path)

    def wrap(name: str) -> None:
        original = getattr(os, name)

        def noted(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            trace.note(name, *args)
            return result

        monkeypatch.setattr(os, name, noted)

    for name in CALLS:
        wrap(name)
    return trace


@pytest.fixture
async def store(tmp_path: Path, trace: Trace) -> AsyncIterator[LocalStore]:
    async with LocalStore(tmp_path) as store:
        await store.put("first", b"")
        trace.take()
        yield store


async def test_the_bytes_are_on_the_disk_before_the_name_is(store: LocalStore, trace: Trace) -> None:
    await store.put("key", b"bytes")
    assert trace.take() == ["pwritev *", "utime *", "fsync *", "rename key", "fsync ."]


async def test_a_created_object_is_linked_and_not_renamed(store: LocalStore, trace: Trace) -> None:
    await store.put("key", b"bytes", CREATE)
    assert trace.take() == ["pwritev *", "utime *", "fsync *", "link key", "fsync .", "unlink *"]


async def test_a_new_directory_is_on_the_disk_before_the_write_is_acknowledged(store: LocalStore, trace: Trace) -> None:
    await store.put("a/b/key", b"bytes")
    assert trace.take()[3:] == ["mkdir a", "fsync .", "mkdir a/b", "fsync a", "rename a/b/key", "fsync a/b"]


async def test_what_lies_beside_is_on_the_disk_before_the_object_and_the_old_one_goes_after(
    store: LocalStore, trace: Trace
) -> None:
    await store.put("key", b"bytes", NOTED)
    trace.take()
    await store.put("key", b"bytes", NOTED)
    assert trace.take() == [
        *("pwritev *", "utime *", "fsync *"),
        *("pwritev *", "fsync *", "rename sidecar", "fsync sidecars"),
        *("rename key", "fsync ."),
        "unlink sidecar",
    ]


async def test_a_delete_is_on_the_disk_when_it_is_acknowledged(store: LocalStore, trace: Trace) -> None:
    await store.put("a/b/key", b"bytes")
    trace.take()
    await store.delete("a/b/key")
    assert [call for call in trace.take() if "sidecar" not in call] == [
        *("unlink a/b/key", "rmdir a/b", "rmdir a"),
        "fsync .",
    ]


async def test_a_part_is_on_the_disk_before_its_slot_is(store: LocalStore, trace: Trace) -> None:
    ref = await store.create_multipart("key", OPTIONS)
    trace.take()
    await store.put_part(ref, 1, b"part")
    assert trace.take()[:-1] == ["pwritev data", "fdatasync data", "pwritev index", "fdatasync index"]


async def test_a_slot_is_invalid_on_the_disk_before_its_part_is_touched(store: LocalStore, trace: Trace) -> None:
    ref = await store.create_multipart("key", OPTIONS)
    await store.put_part(ref, 1, b"part")
    trace.take()
    await store.put_part(ref, 1, b"again")
    assert trace.take()[:-1] == [
        *("pwritev index", "fdatasync index"),
        *("pwritev data", "fdatasync data"),
        *("pwritev index", "fdatasync index"),
    ]


async def test_a_multipart_is_whole_before_it_has_its_name(store: LocalStore, trace: Trace) -> None:
    await store.create_multipart("key", OPTIONS)
    assert trace.take() == [
        "mkdir *",
        *("pwritev meta.json", "fsync meta.json", "fsync index", "fsync data", "fsync *"),
        *("rename multipart", "fsync .rindle/staging"),
    ]


async def test_parts_that_are_dropped_are_invalid_before_the_data_is_cut(store: LocalStore, trace: Trace) -> None:
    ref = await store.create_multipart("key", OPTIONS)
    parts = [await store.put_part(ref, number, b"0123456789") for number in (1, 2)]
    trace.take()
    await store.complete_multipart(ref, parts[:1])
    assert trace.take()[:6] == [
        *("ftruncate index", "fdatasync index"),
        *("ftruncate data", "utime data", "fsync data"),
        "rename key",
    ]
