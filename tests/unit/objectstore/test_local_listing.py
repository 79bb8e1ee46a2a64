import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rindle.objectstore.local import LocalStore


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
async def store(root: Path) -> AsyncIterator[LocalStore]:
    async with LocalStore(root) as store:
        yield store


@pytest.fixture
def read_directories(monkeypatch: pytest.MonkeyPatch, root: Path) -> list[str]:
    """Which directories were read, relative to the root."""
    seen: list[str] = []
    scandir = os.scandir

    def noted(path: Path) -> "os._ScandirIterator[str]":
        seen.append(str(path.relative_to(root)))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", noted)
    return seen


def place(root: Path, *keys: str) -> None:
    for key in keys:
        (root / key).parent.mkdir(parents=True, exist_ok=True)
        (root / key).touch()


async def keys(store: LocalStore, prefix: str = "") -> list[str]:
    return [meta.key async for meta in store.list(prefix)]


async def test_only_regular_files_with_the_names_of_keys_are_listed(store: LocalStore, root: Path) -> None:
    place(root, "a/file", "b/.rindle/file", ".rindle/tmp/x", ".RINDLE/x", ".rindle-not", "a/new\nline", "a/de\x7fl")
    os.mkfifo(root / "a/fifo")
    (root / "a/link").symlink_to(root / "a/file")
    (root / "b/linked").symlink_to(root / "a")
    (root / "a/empty/of/files").mkdir(parents=True)
    os.mknod(os.fsencode(root) + b"/a/not utf-8 \xff")
    assert await keys(store) == [".rindle-not", "a/file", "b/.rindle/file"]
    page = await store.list_with_delimiter("a/")
    assert ([meta.key for meta in page.objects], page.prefixes) == (["a/file"], ())
    assert await keys(store, ".rindle") == [".rindle-not"]
    for prefix in (".rindle/", ".rindle/tmp/", "b/linked/", "b/linked/f"):
        assert await keys(store, prefix) == []


async def test_what_is_listed_can_be_read(store: LocalStore, root: Path) -> None:
    place(root, "/".join(["x" * 250] * 5), "short")
    assert await keys(store) == ["short"]  # the other is too long for a key


@pytest.mark.parametrize("prefix", ["../", "../outside", "a/../../outside", "/", "./a", "a//", "..", "a/./"])
async def test_a_prefix_never_leads_out_of_the_root(store: LocalStore, root: Path, prefix: str) -> None:
    place(root, "a/b", "../outside/file", "../outside.txt")
    assert await keys(store, prefix) == []


async def test_only_directories_that_can_hold_the_prefix_are_read(
    store: LocalStore, root: Path, read_directories: list[str]
) -> None:
    place(root, "a/b/c/1", "a/bb/1", "a/x/1", "b/1", "c/1")
    assert await keys(store, "a/b") == ["a/b/c/1", "a/bb/1"]
    assert read_directories == ["a", "a/b", "a/b/c", "a/bb"]
    read_directories.clear()
    assert await keys(store, "nowhere/far/below") == []
    assert read_directories == ["nowhere/far"]


async def test_only_directories_after_the_start_are_read(
    store: LocalStore, root: Path, read_directories: list[str]
) -> None:
    place(root, "a/1", "b/1", "b/2", "c/1", "c/d/1", "d/1")
    page = await store.list_page(start_after="b/1", limit=2)
    assert [meta.key for meta in page.objects] == ["b/2", "c/1"]
    assert read_directories == [".", "b", "c", "c/d"]  # c/d to know that there is more
    read_directories.clear()
    page = await store.list_page(token=page.next_token)
    assert [meta.key for meta in page.objects] == ["c/d/1", "d/1"]
    assert read_directories == [".", "c", "c/d", "d"]


async def test_a_folded_directory_is_read_up_to_its_first_object(
    store: LocalStore, root: Path, read_directories: list[str]
) -> None:
    place(root, "a/1/1", "a/2/1", "a/3/1")
    assert (await store.list_page(delimiter=True)).prefixes == ("a/",)
    assert read_directories == [".", "a", "a/1"]


async def test_a_file_that_goes_while_the_directory_is_listed_is_left_out(
    store: LocalStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place(root, "a/1", "a/2", "b/1")
    scandir = os.scandir

    def lose(path: Path) -> "os._ScandirIterator[str]":
        if path == root / "b":
            (root / "b/1").unlink()
            (root / "b").rmdir()
        found = scandir(path)
        if path == root / "a":
            (root / "a/1").unlink()
        return found

    monkeypatch.setattr(os, "scandir", lose)
    assert await keys(store) == ["a/2"]
