import json
import sys
from urllib.parse import urlsplit

import pytest
from google.auth.credentials import AnonymousCredentials

from rindle.errors import ConfigurationError
from rindle.objectstore.gcs import GCSOptions, GCSStore
from rindle.objectstore.gcs.options import parse_url
from rindle.objectstore.urls import open_store
from tests.gcs import SIGNER, service_account


def parsed(url: str) -> GCSOptions:
    return parse_url(urlsplit(url))


def test_a_bucket_is_enough() -> None:
    assert parsed("gs://bucket") == GCSOptions(bucket="bucket")


def test_every_option_has_its_parameter() -> None:
    url = (
        "gs://bucket/a%20prefix/b/?endpoint=http%3A%2F%2F127.0.0.1:4443&anonymous=true&user_project=payer"
        "&storage_class=NEARLINE&kms_key_name=projects/p/locations/l/keyRings/r/cryptoKeys/k&versions=true&tags=false"
        "&min_part_size=1000&attempts=7&connections=10&connect_timeout=1.5&read_timeout=90"
    )
    assert parsed(url) == GCSOptions(
        bucket="bucket",
        prefix="a prefix/b",
        endpoint="http://127.0.0.1:4443",
        anonymous=True,
        user_project="payer",
        storage_class="NEARLINE",
        kms_key_name="projects/p/locations/l/keyRings/r/cryptoKeys/k",
        versions=True,
        tags=False,
        min_part_size=1000,
        attempts=7,
        connections=10,
        connect_timeout=1.5,
        read_timeout=90,
    )


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("gs://", "needs a bucket"),
        ("gs:///prefix", "needs a bucket"),
        ("gs://No", "needs a bucket's name"),
        ("gs://bucket?storageclass=x", "did you mean storage_class?"),
        ("gs://bucket?credentials=x", "takes no parameter credentials"),
        ("gs://bucket?anonymous=true&anonymous=false", "anonymous twice"),
        ("gs://bucket?user_project=", "user_project of gs:// must be given, or left out"),
        ("gs://bucket?anonymous=perhaps", "anonymous of gs:// must be true or false"),
        ("gs://bucket?attempts=0", "attempts of gs:// must be a whole number"),
        ("gs://bucket?read_timeout=1m", "read_timeout of gs:// must be a number of seconds"),
        ("gs://bucket?endpoint=storage.googleapis.com", "endpoint must be a URL"),
        ("gs://bucket?endpoint=https://host/path", "endpoint must be a URL"),
        ("gs://bucket/a//b", "the prefix of the keys"),
        ("gs://bucket#x", "nothing after '#'"),
    ],
)
def test_what_is_wrong_with_a_url_is_said(url: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        open_store(url)
    assert said in str(caught.value)


def test_credentials_in_a_url_are_refused_and_not_repeated() -> None:
    with pytest.raises(ConfigurationError) as caught:
        open_store("gs://key:hidden@bucket")
    assert "hidden" not in str(caught.value)
    assert "GOOGLE_APPLICATION_CREDENTIALS" in str(caught.value)


@pytest.mark.parametrize("secret", ["hidden", "{}", "[]", '"hidden"', json.dumps({"client_email": "hidden"})])
def test_a_secret_that_is_no_key_is_refused_and_not_repeated(secret: str) -> None:
    with pytest.raises(ConfigurationError, match="not the key of a service account") as caught:
        open_store("gs://bucket", secret=secret)
    assert "hidden" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_who_asks_is_said_once() -> None:
    with pytest.raises(ConfigurationError, match="one of a secret, credentials, and anonymous"):
        GCSOptions(bucket="bucket", anonymous=True, credentials=AnonymousCredentials())  # type: ignore[no-untyped-call]


async def test_a_url_opens_a_store_without_asking_anybody_and_shows_no_secret() -> None:
    secret = service_account("https://oauth2.googleapis.com/token")
    async with open_store("gs://bucket/prefix", secret=secret) as store:
        assert isinstance(store, GCSStore)
        assert repr(store) == "GCSStore(bucket='bucket', prefix='prefix')"
        assert store.part_limits.min_size == 5 << 20
        assert store.capabilities.signed_urls
        assert store._bucket.connection.identity.signer == SIGNER
        assert "PRIVATE KEY" not in repr([store, store.options, vars(store), vars(store._bucket.connection)])


async def test_whether_credentials_that_are_not_found_yet_can_sign_is_not_promised() -> None:
    async with open_store("gs://bucket") as store:
        assert not store.capabilities.signed_urls


def test_without_its_libraries_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rindle.objectstore.gcs", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'rindle-uploads\[gcs\]'"):
        open_store("gs://bucket")
