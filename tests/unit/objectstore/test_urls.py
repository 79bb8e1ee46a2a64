from pathlib import Path

import pytest

from rindle.errors import ConfigurationError
from rindle.objectstore.base import MultipartStore
from rindle.objectstore.local import LocalStore
from rindle.objectstore.memory import MemoryStore
from rindle.objectstore.s3 import S3Store
from rindle.objectstore.types import PartLimits
from rindle.objectstore.urls import open_store

S3_LIKE = PartLimits(min_size=5 << 20, max_size=5 << 30, max_count=10_000, max_object_size=5 << 40)


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


async def test_options_go_before_what_the_url_says(tmp_path: Path) -> None:
    async with open_store("memory://", part_limits=S3_LIKE) as store:
        assert isinstance(store, MemoryStore)
        assert store.part_limits is S3_LIKE
    async with open_store(f"file://{tmp_path}/root", threads=1) as store:
        await store.put("key", b"bytes")
    async with open_store("s3://bucket/prefix?attempts=2&region=here", attempts=7, versions=True) as store:
        assert isinstance(store, S3Store)
        options = store.options
        assert (options.bucket, options.prefix, options.region) == ("bucket", "prefix", "here")
        assert (options.attempts, options.versions, store.capabilities.versions) == (7, True, True)


@pytest.mark.parametrize(
    ("url", "option", "nearest"),
    [
        ("memory://", "parts", "part_limits"),
        ("file:///data", "thread", "threads"),
        ("s3://bucket", "end_point", "endpoint"),
        ("s3://bucket", "secret", "bucket"),
    ],
)
def test_an_unknown_option_is_told_the_nearest_and_never_its_value(url: str, option: str, nearest: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"takes no option {option}; did you mean {nearest}\?$"):
        open_store(url, **{option: "hidden"})


def test_options_are_checked_as_those_of_a_url_are() -> None:
    with pytest.raises(ConfigurationError, match="min_part_size"):
        open_store("s3://bucket", min_part_size=0)
