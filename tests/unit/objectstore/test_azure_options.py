import sys
from urllib.parse import urlsplit

import pytest
from azure.core.credentials import AzureNamedKeyCredential, AzureSasCredential
from azure.identity.aio import DefaultAzureCredential

from rindle.errors import ConfigurationError
from rindle.objectstore.azure import AzureOptions, AzureStore
from rindle.objectstore.azure.credentials import Account, find_account
from rindle.objectstore.azure.options import parse_url
from rindle.objectstore.urls import open_store

KEY = "a2V5IG9mIGFuIGFjY291bnQ="
SAS = "sv=2026-02-06&ss=b&srt=co&sp=rwdlac&se=2030-01-01T00:00:00Z&sig=c2lnbmF0dXJl"
CLOUD = "https://account.blob.core.windows.net"


def parsed(url: str) -> AzureOptions:
    return parse_url(urlsplit(url))


def account(secret: str | None, name: str | None = None) -> Account:
    return find_account(AzureOptions(container="container", secret=secret, account=name))


def test_a_container_and_its_account_are_enough() -> None:
    assert parsed("az://container?account=name") == AzureOptions(container="container", account="name")


def test_every_option_has_its_parameter() -> None:
    url = (
        "az://container/a%20prefix/b/?account=name&endpoint=http%3A%2F%2F127.0.0.1:10000/name&tier=Cool"
        "&encryption_scope=scope&versions=true&tags=false&attempts=7&connections=10&connect_timeout=1.5&read_timeout=90"
    )
    assert parsed(url) == AzureOptions(
        container="container",
        prefix="a prefix/b",
        account="name",
        endpoint="http://127.0.0.1:10000/name",
        tier="Cool",
        encryption_scope="scope",
        versions=True,
        tags=False,
        attempts=7,
        connections=10,
        connect_timeout=1.5,
        read_timeout=90,
    )


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("az://?account=name", "needs a container"),
        ("az://No-Container?account=name", "needs a container's name"),
        ("az://container?acount=name", "did you mean account?"),
        ("az://container?account_key=secret", "takes no parameter account_key"),
        ("az://container?account=name&account=other", "account twice"),
        ("az://container?account=", "account of az:// must be given, or left out"),
        ("az://container?account=my_account", "the name of a storage account"),
        ("az://container?account=name&tier=Archive", "tier of az:// must be one of Hot, Cool, Cold"),
        ("az://container?account=name&tags=perhaps", "tags of az:// must be true or false"),
        ("az://container?account=name&attempts=0", "attempts of az:// must be a whole number"),
        ("az://container?account=name&read_timeout=1m", "read_timeout of az:// must be a number of seconds"),
        ("az://container?endpoint=account.blob.core.windows.net", "endpoint must be a URL"),
        ("az://container?endpoint=https://host/path?sig=secret", "endpoint must be a URL"),
        ("az://container/a//b?account=name", "the prefix of the keys"),
        ("az://container", "needs the storage account"),
        ("az://container?account=name#x", "nothing after '#'"),
    ],
)
def test_what_is_wrong_with_a_url_is_said(url: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        open_store(url, secret=KEY)
    assert said in str(caught.value)


@pytest.mark.parametrize("url", ["az://name:secret@container", "az://container?account=name&key=secret"])
def test_credentials_in_a_url_are_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        open_store(url)
    assert "secret" not in str(caught.value).replace("RINDLE_STORE_SECRET", "")


def test_a_secret_may_be_a_key() -> None:
    found = account(KEY, "account")
    assert (found.url, found.name, found.can_sign, found.signs_by_delegation) == (CLOUD, "account", True, False)
    assert isinstance(found.credential, AzureNamedKeyCredential)
    assert tuple(found.credential.named_key) == ("account", KEY)


@pytest.mark.parametrize("secret", [SAS, f"?{SAS}"])
def test_a_secret_may_be_a_sas_token(secret: str) -> None:
    found = account(secret, "account")
    assert isinstance(found.credential, AzureSasCredential)
    assert (found.credential.signature, found.can_sign) == (SAS, False)


@pytest.mark.parametrize(
    ("secret", "url", "name"),
    [
        (f"DefaultEndpointsProtocol=https;AccountName=account;AccountKey={KEY}", CLOUD, "account"),
        (f"AccountName=account;AccountKey={KEY};EndpointSuffix=core.chinacloudapi.cn;", None, "account"),
        (f"AccountName=a;AccountKey={KEY};BlobEndpoint=http://127.0.0.1:1/a;", "http://127.0.0.1:1/a", "a"),
        (f"BlobEndpoint={CLOUD}/;SharedAccessSignature={SAS}", CLOUD, "account"),
        ("UseDevelopmentStorage=true", "http://127.0.0.1:10000/devstoreaccount1", "devstoreaccount1"),
    ],
)
def test_a_secret_may_be_a_connection_string(secret: str, url: str | None, name: str) -> None:
    found = account(secret)
    assert (found.url, found.name) == (url or "https://account.blob.core.chinacloudapi.cn", name)


async def test_without_a_secret_azure_identity_looks() -> None:
    found = account(None, "account")
    assert isinstance(found.credential, DefaultAzureCredential)
    assert (found.can_sign, found.signs_by_delegation) == (True, True)
    await found.credential.close()


@pytest.mark.parametrize(
    ("secret", "name", "said"),
    [
        ("not a key!", "account", "neither an account key"),
        ("AccountName=account", None, "neither an AccountKey nor a SharedAccessSignature"),
        (f"AccountName=account;AccountKey={KEY}", "other", "the connection string another one"),
    ],
)
def test_what_is_wrong_with_a_secret_is_said_without_it(secret: str, name: str | None, said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        account(secret, name)
    assert said in str(caught.value)
    assert KEY not in str(caught.value)


def test_without_azure_identity_a_secret_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "azure.identity.aio", None)
    with pytest.raises(ConfigurationError, match=r"RINDLE_STORE_SECRET.*pip install azure-identity"):
        open_store("az://container?account=name")


def test_without_the_sdk_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rindle.objectstore.azure", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'rindle-uploads\[azure\]'"):
        open_store("az://container?account=name")


async def test_a_url_opens_a_store_without_asking_anybody_and_shows_no_secret() -> None:
    async with open_store("az://container/prefix?account=account", secret=KEY) as store:
        assert isinstance(store, AzureStore)
        assert repr(store) == "AzureStore(container='container', prefix='prefix')"
        shown = repr([store, store.options, store._connection.account, vars(store)])
        assert KEY not in shown
