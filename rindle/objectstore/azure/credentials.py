"""From a secret to what the SDK takes for it, and to what can be signed with it."""

import asyncio
import base64
import binascii
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from urllib.parse import parse_qs, urlsplit

from azure.core.credentials import AzureNamedKeyCredential, AzureSasCredential
from azure.core.credentials_async import AsyncTokenCredential
from azure.storage.blob import BlobSasPermissions, UserDelegationKey, generate_blob_sas
from azure.storage.blob.aio import BlobServiceClient

from rindle.clock import utc_now
from rindle.errors import ConfigurationError
from rindle.objectstore.azure.options import AzureOptions

Credential = AzureNamedKeyCredential | AzureSasCredential | AsyncTokenCredential

_DEVELOPMENT = (
    "DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey="
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==;"
    "BlobEndpoint=http://127.0.0.1:10000/devstoreaccount1"
)
_CLOUD = "core.windows.net"
_SCOPE = "https://storage.azure.com/.default"
_HOUR = timedelta(hours=1)
_LONGEST_DELEGATION = timedelta(days=7)
_SLACK = timedelta(minutes=5)
"""By which a key for signing outlives what is signed with it, whatever the clocks say."""


@dataclass(frozen=True, slots=True)
class Account:
    """Where the account is, and what opens it."""

    url: str
    name: str
    credential: Credential = field(repr=False)

    @property
    def can_sign(self) -> bool:
        """Whether URLs can be signed: a SAS token has only what it was given."""
        return not isinstance(self.credential, AzureSasCredential)

    @property
    def signs_by_delegation(self) -> bool:
        """Whether that is done with a key that the account lends for a while."""
        return self.can_sign and not isinstance(self.credential, AzureNamedKeyCredential)


def find_account(options: AzureOptions) -> Account:
    """The account that the options name. ConfigurationError says what is missing, and never the secret."""
    secret = (options.secret or "").strip()
    settings = _connection_settings(secret)
    if settings is not None:
        return _from_connection_string(settings, options)
    url = options.endpoint or (options.account and f"https://{options.account}.blob.{_CLOUD}")
    if not url:
        msg = "az:// needs the storage account: write az://container?account=name, or give a connection string"
        raise ConfigurationError(msg)
    name = options.account or _name_in(url)
    return Account(url.rstrip("/"), name, _credential(secret, name, options))


def _credential(secret: str, name: str, options: AzureOptions) -> Credential:
    if not secret:
        return options.credential or _default_credential()
    if options.credential is not None:
        msg = "give az:// a secret or a credential, not both"
        raise ConfigurationError(msg)
    if _is_sas(secret):
        return AzureSasCredential(secret.lstrip("?"))
    if _is_key(secret):
        return AzureNamedKeyCredential(name, secret)
    msg = "the secret of az:// is neither an account key, nor a connection string, nor a SAS token"
    raise ConfigurationError(msg)


def _default_credential() -> AsyncTokenCredential:
    try:
        from azure.identity.aio import DefaultAzureCredential  # noqa: PLC0415 - seldom needed, and not always there
    except ModuleNotFoundError as error:
        msg = (
            "az:// needs a secret (an account key, a connection string or a SAS token, in RINDLE_STORE_SECRET); "
            "or, for managed identities and the like: pip install azure-identity"
        )
        raise ConfigurationError(msg) from error
    return DefaultAzureCredential()


def _connection_settings(secret: str) -> dict[str, str] | None:
    """What a connection string says, by name; None if it is none."""
    if secret.lower().rstrip(";") == "usedevelopmentstorage=true":
        secret = _DEVELOPMENT
    settings = {name.lower(): value for name, _, value in (each.partition("=") for each in secret.split(";")) if name}
    return settings if settings.keys() & {"accountname", "blobendpoint"} else None


def _from_connection_string(settings: dict[str, str], options: AzureOptions) -> Account:
    named = settings.get("accountname")
    if options.account and named and options.account != named:
        msg = f"az:// names the account {options.account}, and the connection string another one"
        raise ConfigurationError(msg)
    protocol = settings.get("defaultendpointsprotocol", "https")
    at_home = f"{protocol}://{named}.blob.{settings.get('endpointsuffix', _CLOUD)}"
    url = (options.endpoint or settings.get("blobendpoint") or at_home).rstrip("/")
    name = named or options.account or _name_in(url)
    secret = settings.get("accountkey") or settings.get("sharedaccesssignature", "")
    if not secret:
        msg = "the connection string of az:// has neither an AccountKey nor a SharedAccessSignature"
        raise ConfigurationError(msg)
    return Account(url, name, _credential(secret, name, options))


def _name_in(url: str) -> str:
    """The account in a URL: the first word of the host's name; in the path where the host has only a number."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    return parts.path.strip("/") or host.partition(".")[0]


def _is_sas(secret: str) -> bool:
    return "sig" in parse_qs(secret.lstrip("?"))


def _is_key(secret: str) -> bool:
    try:
        return bool(base64.b64decode(secret, validate=True))
    except binascii.Error:
        return False


class Signer:
    """Signs what lets its holder do something to one blob for a while, with the account's key or one that it lends."""

    def __init__(self, account: Account, container: str, service: BlobServiceClient) -> None:
        self._account = account
        self._container = container
        self._service = service
        self._asking = asyncio.Lock()
        self._lent: tuple[datetime, UserDelegationKey] | None = None

    async def sas(self, name: str, permission: BlobSasPermissions, expires_in: timedelta = _HOUR) -> str:
        """A SAS token for one blob."""
        expiry = utc_now() + expires_in
        credential = self._account.credential
        if isinstance(credential, AzureSasCredential):
            return credential.signature
        key = credential.named_key.key if isinstance(credential, AzureNamedKeyCredential) else None
        lent = None if key else await self._borrow(expiry)
        return generate_blob_sas(
            self._account.name,
            self._container,
            name,
            account_key=key,
            user_delegation_key=lent,
            permission=permission,
            expiry=expiry,
        )

    async def _borrow(self, until: datetime) -> UserDelegationKey:
        async with self._asking:
            if self._lent is None or self._lent[0] < until:
                now = utc_now()
                end = min(until + _HOUR, now + _LONGEST_DELEGATION)
                self._lent = (end, await self._service.get_user_delegation_key(now - _SLACK, end))
            return self._lent[1]

    async def source_authorization(self) -> str | None:
        """What authorizes the service to read a blob that it copies, where that is no SAS token: a bearer's token."""
        credential = self._account.credential
        if isinstance(credential, AzureNamedKeyCredential | AzureSasCredential):
            return None
        return f"Bearer {(await credential.get_token(_SCOPE)).token}"
