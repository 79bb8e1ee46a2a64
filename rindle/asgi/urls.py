"""Which resource a request means, and how a client is told where its upload is."""

import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote

from starlette.types import Scope

from rindle.protocols.base import Headers

_HOST = re.compile(r"[A-Za-z0-9._~-]+(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?", re.ASCII)
_PREFIX = re.compile(r"(/[A-Za-z0-9._~%-]+)+/?", re.ASCII)
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


@dataclass(frozen=True, slots=True, kw_only=True)
class UrlOptions:
    """How Locations are made.

    ``relative``: the path alone, right behind every proxy that does not rewrite paths. ``absolute``: with scheme and
    host. ``public_url``: the collection's URL as clients see it, used as it is. ``trust_forwarded``: believe
    Forwarded and X-Forwarded-*; only behind a proxy that sets or removes them.
    """

    location: Literal["relative", "absolute"]
    public_url: str | None
    trust_forwarded: bool


@dataclass(frozen=True, slots=True)
class Target:
    """``base``: the path of the collection. ``upload_id``: what follows it, None for the collection itself."""

    base: str
    upload_id: str | None


def find_target(scope: Scope, path: str) -> Target | None:
    """The resource, whether the app serves ``path`` itself, is routed to, or is mounted anywhere; None if neither."""
    root = scope.get("root_path", "")
    full = scope["path"]
    inner = full[len(root) :] if f"{full}/".startswith(f"{root}/") else full
    if inner == path or inner.startswith(f"{path}/"):
        return _target(root + path, inner[len(path) :])
    return _target(root, inner) if root else None


def _target(base: str, rest: str) -> Target:
    return Target(base, rest[1:] or None)


def collection_url(scope: Scope, headers: Headers, target: Target, options: UrlOptions) -> str:
    """What an upload's id is appended to, with a slash, to make its Location."""
    if options.public_url is not None:
        return options.public_url.rstrip("/")
    forwarded = _forwarded(headers) if options.trust_forwarded else _NOT_FORWARDED
    path = forwarded.prefix + quote(target.base)
    if options.location == "relative":
        return path
    scheme = forwarded.scheme or scope.get("scheme", "http")
    host = forwarded.host or _valid_host(headers.find("Host")) or _server(scope)
    return f"{scheme}://{host.removesuffix(_DEFAULT_PORTS.get(scheme, ' '))}{path}"


@dataclass(frozen=True, slots=True)
class _Forwarded:
    scheme: str | None = None
    host: str | None = None
    prefix: str = ""


_NOT_FORWARDED = _Forwarded()


def _forwarded(headers: Headers) -> _Forwarded:
    """What the nearest proxy says: Forwarded (RFC 7239) before the older X-Forwarded-*."""
    pairs = (pair.partition("=") for pair in _first(headers.join("Forwarded")).split(";"))
    standard = {name.strip().lower(): value.strip().strip('"') for name, _, value in pairs}
    scheme = (standard.get("proto") or _first(headers.join("X-Forwarded-Proto"))).lower()
    host = standard.get("host") or _first(headers.join("X-Forwarded-Host"))
    prefix = _first(headers.join("X-Forwarded-Prefix"))
    return _Forwarded(
        scheme=scheme if scheme in _DEFAULT_PORTS else None,
        host=_valid_host(host),
        prefix=prefix.rstrip("/") if _PREFIX.fullmatch(prefix) else "",
    )


def _first(value: str) -> str:
    return value.partition(",")[0].strip()


def _valid_host(host: str | None) -> str | None:
    return host if host and _HOST.fullmatch(host) else None


def _server(scope: Scope) -> str:
    host, port = scope.get("server") or ("localhost", None)
    return host if port is None else f"{host}:{port}"
