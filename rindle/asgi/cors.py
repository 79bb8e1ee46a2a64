"""Which web pages may use the uploads, said on every response, errors included, and once."""

from dataclasses import dataclass

from rindle.protocols.base import Headers

_METHODS = "POST, HEAD, PATCH, DELETE, OPTIONS"
_ALLOWED = (
    "Authorization, Content-Type, Tus-Resumable, Upload-Checksum, Upload-Concat, Upload-Defer-Length, "
    "Upload-Length, Upload-Metadata, Upload-Offset, X-HTTP-Method-Override, X-Request-ID, "
    "X-Requested-With"
)
_EXPOSED = (
    "Location, Retry-After, Rindle-Error, Tus-Checksum-Algorithm, Tus-Extension, Tus-Max-Size, "
    "Tus-Resumable, Tus-Version, Upload-Concat, Upload-Defer-Length, Upload-Expires, Upload-Length, "
    "Upload-Metadata, Upload-Offset, X-Request-ID"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CorsOptions:
    """``origins``: exact origins (``https://app.example``), or ``*`` for all, or none to leave CORS to the host.

    ``credentials``: let pages send cookies; only with exact origins.
    """

    origins: tuple[str, ...]
    credentials: bool


def is_preflight(method: str, headers: Headers) -> bool:
    """Whether a browser asks beforehand (Fetch standard, "CORS-preflight request")."""
    return method == "OPTIONS" and "origin" in headers and "access-control-request-method" in headers


def cors_headers(method: str, headers: Headers, options: CorsOptions) -> list[tuple[str, str]]:
    """What to add to a response."""
    if not options.origins:
        return []
    everyone = "*" in options.origins
    result = [] if everyone else [("Vary", "Origin")]
    origin = headers.join("Origin")
    if not origin or not (everyone or origin in options.origins):
        return result
    result.append(("Access-Control-Allow-Origin", "*" if everyone else origin))
    if options.credentials:
        result.append(("Access-Control-Allow-Credentials", "true"))
    if is_preflight(method, headers):
        result += [
            ("Access-Control-Allow-Methods", _METHODS),
            ("Access-Control-Allow-Headers", _ALLOWED),
            ("Access-Control-Max-Age", "86400"),
        ]
    else:
        result.append(("Access-Control-Expose-Headers", _EXPOSED))
    return result
