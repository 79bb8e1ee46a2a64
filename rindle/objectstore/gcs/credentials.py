"""Who asks: google-auth's credentials, which know nothing of asyncio, so that threads wait for them."""

import asyncio
import json
from collections.abc import Mapping
from functools import partial
from typing import Protocol, cast

import google.auth
import requests
from google.auth.credentials import AnonymousCredentials, Credentials, Signing, TokenState
from google.auth.transport.requests import Request
from google.oauth2.service_account import Credentials as ServiceAccount

from rindle.errors import ConfigurationError
from rindle.objectstore.gcs.errors import translated
from rindle.objectstore.gcs.options import GCSOptions

_SCOPES = ("https://www.googleapis.com/auth/devstorage.read_write",)


class _Signer(Protocol):
    """google-auth's Signing, with its types."""

    @property
    def signer_email(self) -> str: ...

    def sign_bytes(self, message: bytes) -> bytes: ...


class Identity:
    """The credentials of a store, found when they are first needed and renewed before they run out."""

    def __init__(self, options: GCSOptions) -> None:
        self._options = options
        self._renewing = asyncio.Lock()
        self._session = requests.Session()
        self._credentials: Credentials | None = options.credentials
        if options.secret is not None:
            self._credentials = _read_secret(options.secret)
        elif options.anonymous:
            self._credentials = AnonymousCredentials()  # type: ignore[no-untyped-call]

    @property
    def signer(self) -> str | None:
        """Who signs; None where there is no key for that, or where the credentials are not found yet."""
        found: object = self._credentials
        return cast(_Signer, found).signer_email if isinstance(found, Signing) else None

    def close(self) -> None:
        """Close the connections to those who give credentials; harmless when done twice."""
        self._session.close()

    async def headers(self, *, renew: bool = False) -> Mapping[str, str]:
        """What authorizes a request. ``renew``: what was given before is not good any more."""
        async with self._renewing:
            with translated():
                if self._credentials is None:
                    self._credentials = await asyncio.to_thread(_find_default)
                if isinstance(self._credentials, AnonymousCredentials):
                    return {}
                if renew or self._credentials.token_state is not TokenState.FRESH:
                    await asyncio.to_thread(self._renew, self._credentials)
            return {"Authorization": f"Bearer {self._credentials.token}"}

    def _renew(self, credentials: Credentials) -> None:
        ask = partial(Request(session=self._session), timeout=self._options.read_timeout)
        credentials.refresh(ask)  # type: ignore[no-untyped-call]

    async def sign(self, message: bytes) -> bytes:
        """The signature of :attr:`signer`."""
        with translated():
            return await asyncio.to_thread(cast(_Signer, self._credentials).sign_bytes, message)


def _find_default() -> Credentials:
    found, _ = google.auth.default(scopes=_SCOPES)
    return found


def _read_secret(secret: str) -> Credentials:
    try:
        info = json.loads(secret)
        found = ServiceAccount.from_service_account_info(info, scopes=_SCOPES)  # type: ignore[no-untyped-call]
    except (ValueError, TypeError, AttributeError):
        # Without what was said of it: that may hold pieces of the key.
        msg = "the secret of gs:// is not the key of a service account: give the JSON that Google gave for it"
        raise ConfigurationError(msg) from None
    return cast(Credentials, found)
