from pathlib import Path

import pytest

from rindle.errors import ConfigurationError
from rindle.objectstore.base import MultipartStore
from rindle.objectstore.local import LocalStore
from rindle.objectstore.memory import MemoryStore
from rindle.objectstore.urls import open_store


async def test_memory_is_opened() -> None:
    async with open_store("memory://") as store:
        assert isinstance(store, MemoryStore)


@pytest.mark.parametrize("form", ["file://{path}", "file://localhost{path}", "FILE://{path}"])
async def test_a_directory_is_opened(form: str, tmp_path: Path) -> None:
    async with open_store(form.format(path=tmp_path / "made")) as store:
        assert isinstance(store, MultipartStore)
        await store.put("key", b"bytes")
    assert (tmp_path / "made/key").read_bytes() == b"bytes"


async def test_the_path_of_a_url_is_decoded(tmp_path: Path) -> None:
    async with open_store((tmp_path / "a b%é#?").as_uri()) as store:
        assert isinstance(store, LocalStore)
        await store.put("key", b"bytes")
    assert (tmp_path / "a b%é#?" / "key").exists()


def test_opening_reads_and_writes_nothing(tmp_path: Path) -> None:
    open_store(f"file://{tmp_path}/root")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["file://./data", "file:./data", "file:data", "file://data", "file://", "file://~/x"])
def test_a_relative_path_is_refused_with_the_absolute_one(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    with pytest.raises(ConfigurationError, match=r"absolute path .* write file:///"):
        open_store(url)


def test_the_mend_for_a_relative_path_is_the_one_that_was_meant(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match=f"write {tmp_path.as_uri()}/data$"):
        open_store("file://./data")


@pytest.mark.parametrize(
    ("url", "hint"),
    [("fiel:///data", "file"), ("mem://", "memory"), ("files:///data", "file"), ("Memroy://", "memory")],
)
def test_a_scheme_that_is_misspelt_is_told_the_nearest(url: str, hint: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"but for file://, memory://, s3://; did you mean {hint}://\?"):
        open_store(url)


def test_an_unknown_scheme_is_told_the_known_ones_and_never_the_url() -> None:
    with pytest.raises(ConfigurationError, match=r"but for file://, memory://, s3://$") as caught:
        open_store("gopher://user:secret@host/x")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["/srv/data", "data", "", "memory", "C:\\data"])
def test_what_is_no_url_is_told_how_to_be_one(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"memory://|file:///path/to/it"):
        open_store(url)


def test_parameters_are_refused_by_name() -> None:
    with pytest.raises(ConfigurationError, match="leave out fsync, mode"):
        open_store("file:///data?fsync=off&mode=")
    with pytest.raises(ConfigurationError, match="leave out size"):
        open_store("memory://?size=3")
    with pytest.raises(ConfigurationError, match="nothing after '#'"):
        open_store("file:///data#x")


@pytest.mark.parametrize("url", ["memory://name", "memory:///path"])
def test_memory_has_no_name(url: str) -> None:
    with pytest.raises(ConfigurationError, match="write memory://"):
        open_store(url)
