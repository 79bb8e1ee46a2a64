import asyncio
import gc
import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Literal

import pytest
from typing_extensions import override

import rindle.sync
from rindle.errors import ConfigurationError
from rindle.objectstore import (
    AlreadyExistsError,
    ByteRange,
    GetOptions,
    MemoryStore,
    MultipartRef,
    NotFoundError,
    ObjectStoreError,
    PutOptions,
    StoreUnavailableError,
    UnsupportedOperationError,
    UpdateVersion,
)
from rindle.objectstore.wrappers.base import Wrapper
from rindle.sync import BlockingStore
from rindle.testing import FaultyStore
from rindle.testing.payloads import SourceFailedError

DATA = bytes(number % 251 for number in range(100_000))


@pytest.fixture
def store() -> Iterator[BlockingStore]:
    with rindle.sync.open_store("memory://") as store:
        yield store


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "rindle-sync"]


# All calls


def test_objects_are_written_read_and_removed(store: BlockingStore, tmp_path: Path) -> None:
    result = store.put("a/key", DATA)
    assert store.head("a/key").e_tag == result.e_tag
    assert store.exists("a/key")
    assert store.read("a/key", GetOptions(range=ByteRange(5, 9))) == DATA[5:9]
    with store.get("a/key") as opened:
        assert (opened.meta.size, opened.range) == (len(DATA), (0, len(DATA)))
        assert b"".join(opened) == DATA
    assert store.get("a/key").read() == DATA
    assert store.get_ranges("a/key", [ByteRange(7, 9), ByteRange(0, 2)]) == [DATA[7:9], DATA[:2]]
    assert store.download("a/key", tmp_path / "file").size == len(DATA)
    assert (tmp_path / "file").read_bytes() == DATA
    store.put_tags("a/key", {"a": "b"})
    assert store.get_tags("a/key") == {"a": "b"}
    store.copy("a/key", "b/key")
    store.rename("b/key", "c/key")
    with pytest.raises(AlreadyExistsError):
        store.rename_if_not_exists("a/key", "c/key")
    assert store.list_with_delimiter().prefixes == ("a/", "c/")
    assert [meta.key for meta in store.list_page("a/").objects] == ["a/key"]
    store.delete("a/key")
    assert [result.error for result in store.delete_many(key for key in ("a/key", "c/key"))] == [None, None]
    with pytest.raises(FileNotFoundError):
        store.get("a/key")
    store.prepare()
    assert store.sweep() == 0
    assert (store.name, store.capabilities.tags) == ("memory", True)
    with pytest.raises(UnsupportedOperationError):
        store.sign_url("GET", "key", timedelta(hours=1))


def test_multiparts_are_gone_on_with_by_others(store: BlockingStore) -> None:
    ref = MultipartRef.from_json(store.create_multipart("key").to_json())
    parts = [store.put_part(ref, 1, b"some "), store.put_part(ref, 2, b"bytes")]
    assert list(store.list_parts(ref)) == parts
    assert [multipart.ref for multipart in store.list_multiparts()] == [ref]
    store.complete_multipart(ref, parts)
    with store.multipart("other") as ref:
        copied = store.copy_part(ref, 1, "key", ByteRange(0, 4))
        store.complete_multipart(ref, [copied])
    assert store.read("other") == b"some"
    with pytest.raises(ZeroDivisionError), store.multipart("other") as ref:
        raise ZeroDivisionError
    store.abort_multipart(ref)
    assert list(store.list_multiparts()) == []


def test_a_plain_store_has_no_multiparts() -> None:
    with BlockingStore(Wrapper(MemoryStore())) as store, pytest.raises(UnsupportedOperationError):
        store.create_multipart("key")


def test_a_store_is_opened_by_its_url_or_not_at_all(tmp_path: Path) -> None:
    with rindle.sync.open_store(f"file://{tmp_path}/root", threads=1) as store:
        store.put("key", b"bytes")
    assert (tmp_path / "root/key").read_bytes() == b"bytes"
    with pytest.raises(ConfigurationError):
        rindle.sync.open_store("nothing://")
    assert threads() == []


# Iterables, in both directions


def test_an_iterable_is_read_in_the_thread_it_belongs_to(store: BlockingStore) -> None:
    seen = set()

    def source() -> Iterator[bytes]:
        for start in range(0, len(DATA), 77):
            seen.add(threading.get_ident())
            yield DATA[start : start + 77]

    store.put("key", source(), PutOptions(part_size=10_000))
    assert store.read("key") == DATA
    assert seen == {threading.get_ident()}


def test_what_is_read_from_a_store_may_be_put_into_it(store: BlockingStore) -> None:
    """Each chunk is asked for while the other call is under way."""
    store.put("source", DATA)
    store.put("target", store.get("source"))
    store.put("upper", (chunk[::-1] for chunk in store.get("source")))
    assert store.read("target") == DATA
    assert store.read("upper") == DATA[::-1]


def test_other_bodies_are_given_as_they_are(store: BlockingStore, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(DATA)
    store.put("path", path)
    with path.open("rb") as file:
        store.put("file", file)
    store.put("list", [DATA[:10], DATA[10:]])
    store.put("empty", iter(()))
    assert store.read("path") == store.read("file") == store.read("list") == DATA
    assert store.read("empty") == b""


def test_an_iterable_that_raises_leaves_nothing(store: BlockingStore) -> None:
    def source() -> Iterator[bytes]:
        yield DATA
        raise SourceFailedError

    with pytest.raises(SourceFailedError):
        store.put("key", source(), PutOptions(part_size=10_000))
    with pytest.raises(TypeError, match="not of str"):
        store.put("key", ["text"])  # type: ignore[list-item]
    assert not store.exists("key")
    assert list(store.list_multiparts()) == []


def test_a_call_that_is_refused_does_not_read_its_iterable(store: BlockingStore) -> None:
    source = iter([b"bytes"])
    with pytest.raises(ValueError, match="must not start or end"):
        store.put("/", source)
    assert next(source) == b"bytes"


def test_a_listing_gives_what_came_before_an_error() -> None:
    inner = FaultyStore(MemoryStore())
    with BlockingStore(inner) as store:
        for number in range(1500):
            store.put(f"{number:04}", b"")

        async def fail(operation: str, key: str) -> None:
            if inner.calls["list_page"] == 2:
                msg = "no answer"
                raise StoreUnavailableError(msg, store="memory", key=key)

        inner.before = fail
        listing = store.list()
        assert [meta.key for meta in islice(listing, 1000)] == [f"{number:04}" for number in range(1000)]
        with pytest.raises(StoreUnavailableError):
            next(listing)
        inner.calls.clear()
        errors: list[ObjectStoreError] = []

        def stop(error: ObjectStoreError) -> Literal["stop"]:
            errors.append(error)
            return "stop"

        assert (len(list(store.list(on_error=stop))), len(errors)) == (1000, 1)


def test_a_listing_is_left_when_one_has_seen_enough(store: BlockingStore) -> None:
    for number in range(10):
        store.put(f"{number}", b"")
    listing = store.list()
    assert next(listing).key == "0"
    del listing
    later = store.list()
    assert next(later).key == "0"
    store.close()
    del later
    gc.collect()


# Threads and ends


def test_many_threads_may_use_it(store: BlockingStore) -> None:
    store.put("counter", b"0")

    def increment(_: int) -> None:
        while True:
            found = store.get("counter")
            value = int(found.read()) + 1
            try:
                store.put("counter", b"%d" % value, PutOptions(mode=UpdateVersion(found.meta.e_tag)))
            except ObjectStoreError:
                continue
            return

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(increment, range(200)))
    assert store.read("counter") == b"200"


def test_a_closed_store_says_so_and_may_be_closed_again(store: BlockingStore) -> None:
    store.put("key", DATA)
    result = store.get("key")
    store.close()
    store.close()
    result.close()
    with pytest.raises(RuntimeError, match="the store is closed"):
        store.read("key")
    assert threads() == []


def test_closing_ends_what_is_under_way_and_then_the_store() -> None:
    events = []

    class Closing(MemoryStore):
        @override
        async def aclose(self) -> None:
            events.append("closed")

    inner = FaultyStore(Closing())
    held = threading.Event()

    async def hold(_operation: str, _key: str) -> None:
        held.set()
        try:
            await asyncio.Event().wait()
        finally:
            events.append("ended")

    inner.before = hold
    store = BlockingStore(inner)
    with ThreadPoolExecutor(1) as pool:
        putting = pool.submit(store.put, "key", b"bytes")
        held.wait()
        store.close()
        with pytest.raises(RuntimeError, match="was closed while this was under way"):
            putting.result()
    assert events == ["ended", "closed"]


def test_a_store_that_cannot_be_closed_says_why() -> None:
    class Stuck(MemoryStore):
        @override
        async def aclose(self) -> None:
            msg = "stuck"
            raise OSError(msg)

    store = BlockingStore(Stuck())
    with pytest.raises(OSError, match="stuck"):
        store.close()
    assert threads() == []


def test_a_store_that_is_forgotten_is_closed() -> None:
    assert rindle.sync.open_store("memory://").exists("key") is False
    gc.collect()
    assert threads() == []
    found = rindle.sync.open_store("memory://").list()  # holds on to its store
    gc.collect()
    assert list(found) == []


def test_a_call_from_its_own_loop_is_refused() -> None:
    inner = FaultyStore(MemoryStore())
    with BlockingStore(inner) as store:

        async def call(_operation: str, key: str) -> None:
            inner.before = None
            store.head(key)

        inner.before = call
        with pytest.raises(RuntimeError, match="would wait for itself"):
            store.head("key")
        with pytest.raises(NotFoundError):
            store.head("key")


def test_a_forked_process_is_told_to_open_its_own(store: BlockingStore) -> None:
    def child() -> None:
        try:
            store.read("key")
        except RuntimeError as error:
            os._exit(0 if "forked from" in str(error) else 2)
        os._exit(1)

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join()
    assert process.exitcode == 0


INTERRUPTED = """
import asyncio, io, os, signal
import rindle.sync
from rindle.objectstore import MemoryStore, PutOptions
from rindle.testing import FaultyStore

inner = FaultyStore(MemoryStore())
async def hold(operation, key):
    if operation == "put_part":
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.Event().wait()
inner.before = hold
store = rindle.sync.BlockingStore(inner)
for body in (io.BytesIO(bytes(3000)), iter([bytes(1000)] * 3)):
    try:
        store.put("key", body, PutOptions(part_size=1000))
    except KeyboardInterrupt:
        print("interrupted")
while inner.calls["abort_multipart"] < 2:
    store.exists("key")  # it is cancelled now, not when the store is closed
store.close()
print(len(inner.inner._multiparts))
"""


def test_a_call_that_is_interrupted_is_cancelled_and_leaves_nothing() -> None:
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", INTERRUPTED], check=False, capture_output=True, text=True, timeout=60
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.split() == ["interrupted", "interrupted", "0"]


def test_a_program_that_ends_closes_its_stores() -> None:
    code = "import rindle.sync; store = rindle.sync.open_store('memory://'); store.put('key', b''); print('ended')"
    command = [sys.executable, "-W", "error", "-X", "dev", "-c", code]
    run = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stdout, run.stderr) == (0, "ended\n", "")
