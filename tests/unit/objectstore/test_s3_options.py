import sys
from urllib.parse import urlsplit

import pytest

from rindle.errors import ConfigurationError
from rindle.objectstore.s3 import S3Options, S3Store
from rindle.objectstore.s3.options import parse_url
from rindle.objectstore.urls import open_store


def parsed(url: str) -> S3Options:
    return parse_url(urlsplit(url))


def test_a_bucket_is_enough() -> None:
    assert parsed("s3://bucket") == S3Options(bucket="bucket")
    assert parsed("s3://bucket/") == S3Options(bucket="bucket")


def test_every_option_has_its_parameter() -> None:
    url = (
        "s3://bucket/a%20prefix/b/?region=eu-central-1&endpoint=https%3A%2F%2Fs3.example.org:9000&path_style=false"
        "&profile=backup&storage_class=STANDARD_IA&sse=aws:kms&kms_key_id=alias/rindle&bucket_key=true"
        "&checksums=none&conditions=put,complete&versions=true&tags=false&uniform_parts=true&min_part_size=1000"
        "&max_part_size=100000&attempts=7&connections=10&connect_timeout=1.5&read_timeout=90"
    )
    assert parsed(url) == S3Options(
        bucket="bucket",
        prefix="a prefix/b",
        region="eu-central-1",
        endpoint="https://s3.example.org:9000",
        path_style=False,
        profile="backup",
        storage_class="STANDARD_IA",
        sse="aws:kms",
        kms_key_id="alias/rindle",
        bucket_key=True,
        checksums="none",
        conditions=frozenset({"put", "complete"}),
        versions=True,
        tags=False,
        uniform_parts=True,
        min_part_size=1000,
        max_part_size=100000,
        attempts=7,
        connections=10,
        connect_timeout=1.5,
        read_timeout=90,
    )
    assert parsed("s3://bucket?conditions=none").conditions == frozenset()
    assert parsed("s3://bucket?conditions=auto").conditions is None


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("s3://", "needs a bucket"),
        ("s3:///prefix", "needs a bucket"),
        ("s3://bucket?regoin=x", "did you mean region?"),
        ("s3://bucket?storageclass=x", "did you mean storage_class?"),
        ("s3://bucket?access_key=x", "takes no parameter access_key"),
        ("s3://bucket?region=a&region=b", "region twice"),
        ("s3://bucket?region=", "region of s3:// must be given, or left out"),
        ("s3://bucket?path_style=perhaps", "path_style of s3:// must be true or false"),
        ("s3://bucket?sse=kms", "sse of s3:// must be one of AES256, aws:kms"),
        ("s3://bucket?checksums=md5", "checksums of s3:// must be one of auto, crc64nvme, none"),
        ("s3://bucket?conditions=put,get", "conditions of s3:// must be auto, none, or some of put, update"),
        ("s3://bucket?attempts=0", "attempts of s3:// must be a whole number"),
        ("s3://bucket?attempts=\u00b2", "attempts of s3:// must be a whole number"),
        ("s3://bucket?read_timeout=1m", "read_timeout of s3:// must be a number of seconds"),
        ("s3://bucket?read_timeout=inf", "read_timeout of s3:// must be a number of seconds"),
        ("s3://bucket?kms_key_id=x", "needs sse=aws:kms"),
        ("s3://bucket?kms_key_id=x&sse=AES256", "needs sse=aws:kms"),
        ("s3://bucket?min_part_size=2&max_part_size=1", "not larger than max_part_size"),
        ("s3://bucket?endpoint=s3.example.org", "endpoint must be a URL"),
        ("s3://bucket?endpoint=ftp://s3.example.org", "endpoint must be a URL"),
        ("s3://bucket?endpoint=https://s3.example.org/path", "endpoint must be a URL"),
        ("s3://bucket?endpoint=https://s3.example.org:port", "endpoint must be a URL"),
        ("s3://bucket/a//b", "the prefix of the keys"),
        ("s3://bucket/../b", "the prefix of the keys"),
        ("s3://bucket#x", "nothing after '#'"),
    ],
)
def test_what_is_wrong_with_a_url_is_said(url: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        open_store(url)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "s3://key:secret@bucket",
        "s3://secret@bucket",
        "s3://bucket?secret_key=secret",
        "s3://bucket?endpoint=https://key:secret@host",
    ],
)
def test_credentials_are_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        open_store(url)
    assert "secret@" not in str(caught.value)
    assert "=secret" not in str(caught.value)


async def test_a_url_opens_a_store_without_asking_anybody() -> None:
    async with open_store("s3://bucket/prefix?region=eu-central-1&endpoint=http://127.0.0.1:1") as store:
        assert isinstance(store, S3Store)
        assert repr(store) == "S3Store(bucket='bucket', prefix='prefix')"
        assert store.part_limits.min_size == 5 << 20


@pytest.mark.parametrize(
    ("options", "style"),
    [
        (S3Options(bucket="b"), "auto"),
        (S3Options(bucket="b", endpoint="https://s3.example.org"), "path"),
        (S3Options(bucket="b", endpoint="https://s3.example.org", path_style=False), "auto"),
        (S3Options(bucket="b", path_style=True), "path"),
    ],
)
def test_the_bucket_is_in_the_path_where_there_is_an_endpoint(options: S3Options, style: str) -> None:
    assert options.addressing_style == style


def test_without_the_sdk_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rindle.objectstore.s3", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'rindle-uploads\[s3\]'"):
        open_store("s3://bucket")
