import asyncio
import gc
import sys
from collections.abc import Callable, Iterator
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest

import rindle.sync
from rindle.errors import ConfigurationError
from rindle.objectstore import (
    Attributes,
    MemoryStore,
    NotFoundError,
    PartLimits,
    PermissionDeniedError,
    PreconditionFailedError,
    StoreUnavailableError,
    UnsupportedOperationError,
    read_only,
)
from rindle.objectstore.wrappers.base import Wrapper
from rindle.sync import BlockingStore
from rindle.testing import FaultyStore
from tests.required import missing
from tests.s3 import S3Server

DATA = bytes(number % 251 for number in range(100_000))
R2_LIKE = PartLimits(min_size=1000, max_size=9000, max_count=1000, max_object_size=10**9, uniform=True)


@pytest.fixture
def inner() -> FaultyStore:
    return FaultyStore(MemoryStore(R2_LIKE))


@pytest.fixture
def store(inner: FaultyStore) -> Iterator[BlockingStore]:
    with BlockingStore(inner) as store:
        yield store


@pytest.fixture
def fs(store: BlockingStore) -> Any:
    return store.as_fsspec()


# Looking


def test_what_there_is_is_shown(store: BlockingStore, fs: Any) -> None:
    for key in ("a/b/c", "a/d", "e"):
        store.put(key, b"bytes")
    assert fs.ls("", detail=False) == ["a", "e"]
    assert [(info["name"], info["type"]) for info in fs.ls("/a/")] == [("a/b", "directory"), ("a/d", "file")]
    assert fs.ls("e", detail=False) == ["e"]
    assert fs.find("a") == ["a/b/c", "a/d"]
    assert fs.find("", withdirs=True) == ["a", "a/b", "a/b/c", "a/d", "e"]
    assert fs.find("a/b", withdirs=True) == ["a/b", "a/b/c"]
    assert fs.find("a", maxdepth=1) == ["a/d"]
    assert fs.find("e") == ["e"]
    assert fs.glob("a/*") == ["a/b", "a/d"]
    assert fs.glob("**/c") == ["a/b/c"]
    info = fs.info("rindle://a/d")
    assert (info["name"], info["size"], info["type"]) == ("a/d", 5, "file")
    assert fs.modified("a/d").tzinfo is UTC
    assert fs.ukey("a/d") == info["e_tag"]
    assert fs.info("a") == {"name": "a", "size": 0, "type": "directory"}
    assert [fs.exists(name) for name in ("a", "a/d", "a/x", "", "a//d", "../x")] == [
        True,
        True,
        False,
        True,
        False,
        False,
    ]
    assert [fs.isdir("a"), fs.isfile("a"), fs.isdir("a/d"), fs.isfile("a/d")] == [True, False, False, True]
    assert fs.du("a") == 10
    for look in (fs.info, fs.ls, fs.cat_file, fs.rm):
        with pytest.raises(FileNotFoundError):
            look("a/x")
    assert fs.find("x") == []
    assert fs.ls("", detail=True) != []


def test_an_empty_store_has_a_root(fs: Any) -> None:
    assert fs.ls("") == []
    assert fs.find("") == []
    assert fs.isdir("")


# Reading


def test_a_slice_of_a_file_is_read_as_of_bytes(store: BlockingStore, fs: Any) -> None:
    data = DATA[:50]
    store.put("key", data)
    store.put("empty", b"")
    for start in (None, 0, 5, 49, 50, 60, -5, -50, -60):
        for end in (None, 0, 5, 49, 50, 60, -5, -50, -60):
            assert fs.cat_file("key", start=start, end=end) == data[start:end], (start, end)
            assert fs.cat_file("empty", start=start, end=end) == b"", (start, end)


def test_many_ranges_are_few_requests(store: BlockingStore, inner: FaultyStore, fs: Any) -> None:
    store.put("a", DATA)
    store.put("b", DATA[::-1])
    inner.calls.clear()
    limits = [("a", 0, 10), ("b", 5, 9), ("a", 20, 30), ("a", -5, None), ("a", 50_000, 50_010), ("b", 3, 3)]
    paths, starts, ends = map(list, zip(*limits, strict=True))
    expected = [(DATA if path == "a" else DATA[::-1])[start:end] for path, start, end in limits]
    assert fs.cat_ranges(paths, starts, ends, max_gap=100) == expected
    assert inner.calls["get"] == 4
    assert fs.cat_ranges(["a", "b"], 0, 4) == [DATA[:4], DATA[::-1][:4]]
    found = fs.cat_ranges(["a", "absent", "a"], [0, 0, 99_999], [4, 4, 200_000])
    assert (found[0], type(found[1]), found[2]) == (DATA[:4], NotFoundError, DATA[-1:])
    assert fs.cat_ranges(["a", "a"], [0, 100_000], [4, 100_004]) == [DATA[:4], b""]
    with pytest.raises(FileNotFoundError):
        fs.cat_ranges(["absent"], 0, 4, on_error="raise")


def test_a_file_is_read_in_pieces_of_one_version(store: BlockingStore, fs: Any) -> None:
    store.put("key", DATA)
    with fs.open("key", block_size=1000, cache_type="none") as file:
        assert file.read(10) == DATA[:10]
        file.seek(-10, 2)
        assert file.read() == DATA[-10:]
        file.seek(5)
        store.put("key", DATA[::-1])
        with pytest.raises(PreconditionFailedError):
            file.read(10)
    store.put("text", "ein Süßes\nzwei\n".encode())
    with fs.open("text", "rt", encoding="utf-8") as text:
        assert text.readlines() == ["ein Süßes\n", "zwei\n"]


# Writing


@pytest.mark.parametrize("size", [0, 1, 999, 1000, 1001, 3000, 12_345])
def test_a_file_is_written_in_parts_of_one_size(store: BlockingStore, inner: FaultyStore, fs: Any, size: int) -> None:
    attributes = Attributes(content_type="text/plain")
    with fs.open("key", "wb", block_size=1000, attributes=attributes) as file:
        for start in range(0, size, 77):
            file.write(DATA[start : min(start + 77, size)])
        assert not store.exists("key")
    assert store.read("key") == DATA[:size]
    assert store.get("key").attributes == attributes
    assert inner.calls["put_part"] == (0 if size < 1000 else -(-size // 1000))
    assert list(store.list_multiparts()) == []


def test_a_block_is_as_large_as_the_store_wants_it(store: BlockingStore, inner: FaultyStore, fs: Any) -> None:
    for block_size in (1, None, 1 << 30):
        with fs.open("key", "wb", block_size=block_size) as file:
            file.write(DATA)
        assert store.read("key") == DATA


def write(fs: Any, path: str, size: int, mode: str = "wb", then: Callable[[], object] = lambda: None) -> None:
    """Write a file, and do something else before it is closed."""
    with fs.open(path, mode, block_size=1000) as file:
        file.write(DATA[:size])
        then()


def fail() -> None:
    raise ZeroDivisionError


def test_a_file_whose_writing_ends_with_an_error_is_not_there(store: BlockingStore, fs: Any) -> None:
    for size in (10, 5000):
        with pytest.raises(ZeroDivisionError):
            write(fs, "key", size, then=fail)
    assert not store.exists("key")
    assert list(store.list_multiparts()) == []


def test_a_file_whose_writing_the_store_fails_is_not_there(store: BlockingStore, inner: FaultyStore, fs: Any) -> None:
    for operation in ("create_multipart", "put_part", "complete_multipart", "put"):

        async def deny(asked: str, key: str, operation: str = operation) -> None:
            if asked == operation:
                msg = "no answer"
                raise StoreUnavailableError(msg, store="memory", key=key)

        inner.before = deny
        with pytest.raises(StoreUnavailableError):
            write(fs, "key", 100 if operation == "put" else 5000)
        inner.before = None
        assert not store.exists("key")
        assert list(store.list_multiparts()) == []


def test_a_file_that_is_forgotten_is_not_there(store: BlockingStore, fs: Any) -> None:
    file = fs.open("key", "wb", block_size=1000)
    file.write(DATA)
    del file
    gc.collect()
    assert store.sweep() == 0  # whatever was given to the loop before this is done
    assert not store.exists("key")
    assert list(store.list_multiparts()) == []


def test_exclusive_creation_leaves_what_is_there(store: BlockingStore, fs: Any) -> None:
    for size in (10, 5000):
        write(fs, "key", size, "xb")
        with pytest.raises(FileExistsError):
            fs.open("key", "xb")
        store.delete("key")
        with pytest.raises(FileExistsError):
            write(fs, "key", size, "xb", then=lambda: store.put("key", b"quicker"))
        assert store.read("key") == b"quicker"
        assert list(store.list_multiparts()) == []
        store.delete("key")
    fs.pipe_file("key", b"bytes", mode="create")
    with pytest.raises(FileExistsError):
        fs.pipe_file("key", b"", mode="create")


def test_nothing_is_appended(fs: Any) -> None:
    with pytest.raises(UnsupportedOperationError, match="appended"):
        fs.open("key", "ab")


def test_a_transaction_writes_all_its_files_or_none(store: BlockingStore, fs: Any) -> None:
    def transact(then: Callable[[], object]) -> None:
        with fs.transaction:
            write(fs, "small", 10)
            write(fs, "large", 5000)
            assert list(store.list()) == []
            then()

    with pytest.raises(ZeroDivisionError):
        transact(fail)
    assert list(store.list()) == []
    assert list(store.list_multiparts()) == []
    transact(lambda: None)
    assert (store.read("small"), store.read("large")) == (DATA[:10], DATA[:5000])


def test_files_are_copied_moved_and_removed(store: BlockingStore, fs: Any, tmp_path: Path) -> None:
    fs.pipe({"a/b": b"1", "a/c": b"2"})
    fs.cp("a", "x", recursive=True)
    fs.mv("x/b", "x/d")
    assert fs.find("") == ["a/b", "a/c", "x/c", "x/d"]
    fs.get("a", str(tmp_path / "a"), recursive=True)
    assert (tmp_path / "a/c").read_bytes() == b"2"
    fs.put(str(tmp_path / "a"), "y", recursive=True)
    assert fs.cat(["y/b", "y/c"]) == {"y/b": b"1", "y/c": b"2"}
    with pytest.raises(IsADirectoryError, match="recursive"):
        fs.rm("a")
    fs.rm("a", recursive=True)
    fs.rm(["x/c", "x/d"])
    assert fs.find("") == ["y/b", "y/c"]
    fs.touch("z")
    assert fs.size("z") == 0
    fs.mkdir("m")
    fs.makedirs("m/n", exist_ok=True)
    assert not fs.exists("m")
    with pytest.raises(FileNotFoundError):
        fs.cp_file("absent", "other")


def test_what_cannot_be_removed_is_said(store: BlockingStore, inner: FaultyStore, fs: Any) -> None:
    store.put("key", b"")

    async def deny(operation: str, key: str) -> None:
        if operation == "delete_many":
            msg = "no"
            raise PermissionDeniedError(msg, store="memory", key=key)

    inner.before = deny
    with pytest.raises(PermissionError):
        fs.rm("key")


# The store inside


def test_a_plain_store_takes_files_of_one_block() -> None:
    with BlockingStore(Wrapper(MemoryStore())) as store:
        fs = store.as_fsspec()
        with fs.open("key", "wb") as file:
            file.write(DATA)
        assert store.read("key") == DATA
        with pytest.raises(UnsupportedOperationError, match="longer than 1000 bytes"):
            write(fs, "x", 5000)
        assert not store.exists("x")


def test_a_store_that_is_read_only_is_a_file_system_that_is() -> None:
    inner = MemoryStore()
    with BlockingStore(read_only(inner)) as store, pytest.raises(UnsupportedOperationError, match="read-only"):
        store.as_fsspec().pipe("key", b"bytes")


def test_a_url_is_signed(moto: S3Server) -> None:
    with BlockingStore(moto.store("bucket")) as store:
        assert "X-Amz-Expires=60" in store.as_fsspec().sign("a key", expiration=60)


def test_without_fsspec_one_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "rindle.objectstore.fsspec", raising=False)
    monkeypatch.setitem(sys.modules, "fsspec.asyn", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'rindle-uploads\[fsspec\]'"):
        MemoryStore().as_fsspec()


# Event loops


async def test_on_a_loop_its_coroutines_are_awaited_and_its_calls_made_by_other_threads() -> None:
    store = MemoryStore()
    await store.put("key", DATA)
    for fs in (store.as_fsspec(), store.as_fsspec(asynchronous=True)):
        assert await fs._cat_file("key", start=5, end=9) == DATA[5:9]
        assert [info["name"] for info in await fs._ls("")] == ["key"]
        await fs._pipe_file("other", b"bytes")
        assert await fs._find("") == ["key", "other"]
        await fs._rm("other")
    fs = store.as_fsspec()
    assert await asyncio.to_thread(fs.cat_ranges, ["key"], 0, 4) == [DATA[:4]]

    await asyncio.to_thread(write, fs, "from a thread", len(DATA))
    async with await store.get("from a thread") as found:
        assert await found.read() == DATA
    with pytest.raises(NotImplementedError):
        fs.cat_file("key")  # would wait for its own thread


def test_without_a_loop_it_works_anywhere(tmp_path: Path) -> None:
    import fsspec.asyn  # noqa: PLC0415 - what this is about

    store = rindle.open_store((tmp_path / "store").as_uri())
    fs = store.as_fsspec()
    with fs.open("key", "wb") as file:
        file.write(DATA)
    assert fs.cat_file("key") == DATA
    assert (tmp_path / "store/key").read_bytes() == DATA
    fsspec.asyn.sync(fs.loop, store.aclose)


def test_a_file_system_keeps_its_store_open() -> None:
    fs = rindle.sync.open_store("memory://").as_fsspec()
    gc.collect()
    fs.pipe("key", b"bytes")
    assert fs.cat("key") == b"bytes"
    fs.owner.close()


# Those for whom it is


def test_arrow_writes_and_reads_a_dataset(fs: Any) -> None:
    try:
        import pyarrow as pa  # noqa: PLC0415 - which is not there everywhere
        from pyarrow import dataset, parquet  # noqa: PLC0415
    except ModuleNotFoundError:
        missing("pyarrow", "there is no pyarrow: pip install pyarrow")
    table = pa.table({"number": list(range(10_000)), "half": [number % 2 for number in range(10_000)]})
    parquet.write_table(table, "one.parquet", filesystem=fs)
    assert parquet.read_table("one.parquet", filesystem=fs).equals(table)
    dataset.write_dataset(table, "many", filesystem=fs, format="parquet", partitioning=["half"])
    assert fs.find("many") != []
    found = dataset.dataset("many", filesystem=fs, partitioning=["half"]).to_table()
    assert sorted(found["number"].to_pylist()) == list(range(10_000))
