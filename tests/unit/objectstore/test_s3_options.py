import sys
from dataclasses import fields, replace
from datetime import timedelta
from urllib.parse import urlsplit

import pytest

from rindle.errors import ConfigurationError
from rindle.objectstore.s3 import S3Options, S3Store
from rindle.objectstore.s3.options import parse_url
from rindle.objectstore.s3.profiles import PROFILES
from rindle.objectstore.urls import open_store


def parsed(url: str) -> S3Options:
    return parse_url(urlsplit(url))


def test_a_bucket_is_enough() -> None:
    assert parsed("s3://bucket") == S3Options(bucket="bucket")
    assert parsed("s3://bucket/") == S3Options(bucket="bucket")


def test_every_option_has_its_parameter() -> None:
    url = (
        "s3://bucket/a%20prefix/b/?region=eu-central-1&endpoint=https%3A%2F%2Fs3.example.org:9000&path_style=false"
        "&profile=ceph&aws_profile=backup&storage_class=STANDARD_IA&sse=aws:kms&kms_key_id=alias/rindle&bucket_key=true"
        "&checksums=none&conditions=put,complete&versions=true&tags=false&uniform_parts=true&min_part_size=1000"
        "&max_part_size=100000&attempts=7&connections=10&connect_timeout=1.5&read_timeout=90&bare_e_tags=false"
        "&multipart_tags=true&list_multiparts=false&consecutive_parts=true&exhaustive_parts=false&max_parts=500"
        "&max_object_size=2000000&max_copy_size=3000&multiparts_kept_for=48&consistent=false"
    )
    assert parsed(url) == S3Options(
        bucket="bucket",
        prefix="a prefix/b",
        region="eu-central-1",
        endpoint="https://s3.example.org:9000",
        path_style=False,
        profile="ceph",
        aws_profile="backup",
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
        bare_e_tags=False,
        multipart_tags=True,
        list_multiparts=False,
        consecutive_parts=True,
        exhaustive_parts=False,
        max_parts=500,
        max_object_size=2_000_000,
        max_copy_size=3000,
        multiparts_kept_for=timedelta(hours=48),
        consistent=False,
    )
    for field in fields(S3Options):
        assert field.name in {"bucket", "prefix"} or f"{field.name}=" in url
    assert parsed("s3://bucket?conditions=none").conditions == frozenset()
    assert parsed("s3://bucket?conditions=auto").conditions == "auto"


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
        ("s3://bucket?profile=cef&endpoint=http://a", "did you mean ceph?"),
        ("s3://bucket?profile=R2&endpoint=http://a", "did you mean r2?"),
        ("s3://bucket?profile=default", "an aws_profile"),
        ("s3://bucket?profile=r2", "the profile r2 needs the URL of the service: endpoint="),
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


def test_what_a_service_is_like_is_what_its_profile_says_but_for_what_is_said_otherwise() -> None:
    endpoint = "https://s3.example.org"
    assert S3Options(bucket="b").service == PROFILES["aws"]
    assert S3Options(bucket="b", endpoint=endpoint).service == PROFILES["other"]
    for name, service in PROFILES.items():
        assert S3Options(bucket="b", endpoint=endpoint, profile=name).service == service
    r2 = S3Options(
        bucket="b", endpoint=endpoint, profile="r2", uniform_parts=False, max_parts=7, conditions=frozenset()
    )
    said = replace(PROFILES["r2"], uniform_parts=False, max_parts=7, conditions=frozenset())
    assert r2.service == said
    assert not r2.service.part_limits.uniform
    assert r2.service.part_limits.max_count == 7


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ("", "https://bucket.s3.amazonaws.com/key"),
        ("?path_style=true", "https://s3.amazonaws.com/bucket/key"),
        ("?endpoint=https://s3.example.org", "https://s3.example.org/bucket/key"),
        ("?endpoint=https://s3.example.org&profile=aws", "https://bucket.s3.example.org/key"),
        ("?endpoint=https://s3.example.org&path_style=false", "https://bucket.s3.example.org/key"),
    ],
)
async def test_the_bucket_is_in_the_path_unless_it_is_aws(
    parameters: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    async with open_store(f"s3://bucket{parameters}") as store:
        assert (await store.sign_url("GET", "key", timedelta(minutes=1))).startswith(f"{expected}?")


async def test_a_request_is_signed_for_the_region_of_the_profile_or_the_one_that_is_said() -> None:
    for parameters, region in (("", "auto"), ("&region=weur", "weur")):
        async with open_store(f"s3://bucket?endpoint=https://s3.example.org&profile=r2{parameters}") as store:
            assert f"%2F{region}%2Fs3" in await store.sign_url("GET", "key", timedelta(minutes=1))


def test_without_the_sdk_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rindle.objectstore.s3", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'rindle-uploads\[s3\]'"):
        open_store("s3://bucket")
