"""From a result or an error to the head of a tus response."""

import json
from collections.abc import Iterator
from datetime import datetime
from email.utils import format_datetime

from rindle.errors import RindleError
from rindle.protocols.base import RequestHead, ResponseHead
from rindle.protocols.errors import MethodNotAllowedError, NotAuthenticatedError, UnsupportedVersionError
from rindle.protocols.tus.request import VERSION, effective_method
from rindle.protocols.tus.status import RETRY_AFTER, status_of
from rindle.uploads.checksum import CHECKSUM_ALGORITHMS
from rindle.uploads.errors import OffsetMismatchError
from rindle.uploads.model import Upload, UploadState

_COMMON = (("Tus-Resumable", VERSION), ("X-Content-Type-Options", "nosniff"))
_NO_CONTENT = 204


def render_discovery(*, max_size: int, expires: bool) -> ResponseHead:
    """What this server can do; extensions that the configuration rules out are not named."""
    extensions = [
        "creation",
        "creation-with-upload",
        "creation-defer-length",
        "termination",
        "checksum",
        "concatenation",
    ]
    if expires:
        extensions.append("expiration")
    return ResponseHead(
        status=_NO_CONTENT,
        headers=(
            *_COMMON,
            ("Tus-Version", VERSION),
            ("Tus-Extension", ",".join(extensions)),
            ("Tus-Max-Size", str(max_size)),
            ("Tus-Checksum-Algorithm", ",".join(CHECKSUM_ALGORITHMS)),
        ),
    )


def render_created(upload: Upload, location: str) -> ResponseHead:
    """A new upload; a concatenation has no offset before it is done."""
    headers = [*_COMMON, ("Location", location), *_offset(upload), *_expiry(upload)]
    return ResponseHead(status=201, headers=headers)


def render_inspection(upload: Upload) -> ResponseHead:
    """Where an upload stands; never to be cached."""
    headers = [*_COMMON, ("Cache-Control", "no-store"), *_offset(upload), *_length(upload), *_expiry(upload)]
    if upload.metadata:
        headers.append(("Upload-Metadata", upload.metadata))
    if upload.concat is not None:
        headers.append(("Upload-Concat", upload.concat))
    return ResponseHead(status=200, headers=headers)


def render_appended(upload: Upload) -> ResponseHead:
    """The new offset."""
    return ResponseHead(status=_NO_CONTENT, headers=[*_COMMON, *_offset(upload), *_expiry(upload)])


def render_terminated() -> ResponseHead:
    """The upload is gone."""
    return ResponseHead(status=_NO_CONTENT, headers=_COMMON)


def render_error(head: RequestHead, error: RindleError, *, location: str | None = None) -> ResponseHead:
    """An error: a stable code in a header, and for people what was wrong and what to do.

    ``location``: where the upload stands that this request made before it failed.
    """
    method = _method(head)
    status = status_of(error, method=method)
    body, content_type = _error_body(head, error, status) if method != "HEAD" else (b"", None)
    headers = [*_COMMON, ("Rindle-Error", error.code), ("Cache-Control", "no-store")]
    if content_type is not None:
        headers.append(("Content-Type", content_type))
    if status in RETRY_AFTER:
        headers.append(("Retry-After", str(RETRY_AFTER[status])))
    if location is not None:
        headers.append(("Location", location))
    match error:
        case OffsetMismatchError():
            headers.append(("Upload-Offset", str(error.expected)))
        case MethodNotAllowedError():
            headers.append(("Allow", ", ".join(error.allowed)))
        case NotAuthenticatedError():
            headers.append(("WWW-Authenticate", error.challenge))
        case UnsupportedVersionError():
            headers.append(("Tus-Version", VERSION))
    return ResponseHead(status=status, headers=headers, body=body)


def _method(head: RequestHead) -> str:
    try:
        return effective_method(head)
    except RindleError:  # the override itself is what is wrong
        return head.method


def _error_body(head: RequestHead, error: RindleError, status: int) -> tuple[bytes, str]:
    if "json" in head.headers.join("Accept"):
        problem = {
            "type": f"urn:rindle:error:{error.code}",
            "title": error.code.replace("_", " "),
            "status": status,
            "detail": error.public_message,
            "code": error.code,
        }
        return json.dumps(problem).encode(), "application/problem+json"
    return f"{error.code}: {error.public_message}\n".encode(), "text/plain; charset=utf-8"


def _offset(upload: Upload) -> Iterator[tuple[str, str]]:
    if not upload.is_final or upload.state is UploadState.COMPLETE:
        yield "Upload-Offset", str(upload.offset)


def _length(upload: Upload) -> Iterator[tuple[str, str]]:
    if upload.length is None:
        yield "Upload-Defer-Length", "1"
    else:
        yield "Upload-Length", str(upload.length)


def _expiry(upload: Upload) -> Iterator[tuple[str, str]]:
    if upload.expires_at is not None:
        yield "Upload-Expires", _http_date(upload.expires_at)


def _http_date(instant: datetime) -> str:
    return format_datetime(instant, usegmt=True)
