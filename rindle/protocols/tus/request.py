"""From the head of a tus request to a command. Whatever is wrong with it is said here, before any byte is read."""

import base64
import binascii
import re
from dataclasses import dataclass, replace

from rindle.protocols.base import RequestHead
from rindle.protocols.errors import (
    BodyForbiddenError,
    MalformedHeaderError,
    MalformedRequestError,
    MethodNotAllowedError,
    UnsupportedMediaTypeError,
    UnsupportedVersionError,
)
from rindle.protocols.tus.metadata import find_content_type, find_filename, parse_metadata
from rindle.uploads.checksum import Checksum
from rindle.uploads.commands import AppendBytes, ConcatenateUploads, CreateUpload, TerminateUpload
from rindle.uploads.errors import UploadNotFoundError
from rindle.uploads.ids import is_upload_id

VERSION = "1.0.0"
BODY_TYPE = "application/offset+octet-stream"
COLLECTION_METHODS = ("OPTIONS", "POST")
UPLOAD_METHODS = ("OPTIONS", "HEAD", "PATCH", "DELETE")

# int() would take signs, underscores, spaces and the digits of every script.
_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
_MAX_NUMBER = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Discover:
    """What can this server do?"""


@dataclass(frozen=True, slots=True)
class Inspect:
    """Where does this upload stand?"""

    upload_id: str
    owner: str


@dataclass(frozen=True, slots=True)
class CreateAndAppend:
    """Make an upload, and take its first bytes from the same request."""

    create: CreateUpload
    checksum: Checksum | None


Command = Discover | Inspect | CreateUpload | CreateAndAppend | ConcatenateUploads | AppendBytes | TerminateUpload


def effective_method(head: RequestHead) -> str:
    """X-HTTP-Method-Override wins over the method of the request line, whatever that is (tus 1.0, "Headers")."""
    return (head.headers.find("X-HTTP-Method-Override") or head.method).upper()


def parse(head: RequestHead) -> Command:
    """The command that this request means; a ProtocolError or UploadNotFoundError if it means none."""
    method = effective_method(head)
    allowed = COLLECTION_METHODS if head.upload_id is None else UPLOAD_METHODS
    if method not in allowed:
        raise MethodNotAllowedError(allowed)
    if method == "OPTIONS":
        return Discover()
    if head.upload_id is None:
        _check_version(head)
        return _parse_creation(head)
    if method != "HEAD":
        _check_version(head)
    if not is_upload_id(head.upload_id):
        raise UploadNotFoundError(None)
    if method == "HEAD":
        return Inspect(head.upload_id, head.owner)
    if method == "DELETE":
        return TerminateUpload(upload_id=head.upload_id, owner=head.owner)
    return _parse_append(head, head.upload_id)


def _check_version(head: RequestHead) -> None:
    version = head.headers.find("Tus-Resumable")
    if version != VERSION:
        said = "is missing" if version is None else "names another version"
        msg = f"Tus-Resumable {said}; this server speaks {VERSION}."
        raise UnsupportedVersionError(msg)


def _parse_creation(head: RequestHead) -> Command:
    headers = head.headers
    metadata = headers.find("Upload-Metadata") or ""
    pairs = parse_metadata(metadata)
    concat = headers.find("Upload-Concat")
    body_length = head.body_length
    if concat is not None and concat != "partial":
        return replace(
            _parse_concatenation(head, concat),
            metadata=metadata,
            filename=find_filename(pairs),
            content_type=find_content_type(pairs),
        )
    brings_body = _has_body_type(head) and body_length != 0
    if brings_body:
        _check_coding(head)
    create = CreateUpload(
        owner=head.owner,
        length=_parse_length(head),
        metadata=metadata,
        filename=find_filename(pairs),
        content_type=find_content_type(pairs),
        partial=concat is not None,
        concat=concat,
        body_length=body_length if brings_body else None,
    )
    return CreateAndAppend(create, _parse_checksum(head)) if brings_body else create


def _parse_length(head: RequestHead) -> int | None:
    length = _parse_number(head, "Upload-Length")
    deferred = head.headers.find("Upload-Defer-Length")
    if deferred not in (None, "1"):
        raise MalformedHeaderError("Upload-Defer-Length", "the only value is 1")
    if (length is None) == (deferred is None):
        msg = "Give either Upload-Length, or Upload-Defer-Length: 1."
        raise MalformedRequestError(msg)
    return length


def _parse_concatenation(head: RequestHead, concat: str) -> ConcatenateUploads:
    kind, _, urls = concat.partition(";")
    if kind != "final" or not urls:
        raise MalformedHeaderError("Upload-Concat", "must be 'partial', or 'final;' and the URLs of partial uploads")
    if "upload-length" in head.headers or "upload-defer-length" in head.headers:
        msg = "The length of a final upload follows from its partial uploads: leave Upload-Length out."
        raise MalformedRequestError(msg)
    if head.body_length != 0:
        msg = "A final upload takes no bytes of its own: send no body."
        raise BodyForbiddenError(msg)
    # Only the id counts: no URL is ever fetched, and whose upload it is the row says.
    sources = [url.rsplit("/", 1)[-1] for url in urls.split(" ")]
    # A list with commas would read as one long URL, and lose all uploads but the last.
    if "," in urls or not all(is_upload_id(source) for source in sources):
        raise MalformedHeaderError("Upload-Concat", "must name partial uploads of this server, one space between them")
    return ConcatenateUploads(owner=head.owner, sources=sources, concat=concat)


def _parse_append(head: RequestHead, upload_id: str) -> AppendBytes:
    if not _has_body_type(head):
        msg = f"The Content-Type must be {BODY_TYPE}."
        raise UnsupportedMediaTypeError(msg)
    _check_coding(head)
    offset = _parse_number(head, "Upload-Offset")
    if offset is None:
        raise MalformedHeaderError("Upload-Offset", "is missing; ask for it with HEAD")
    return AppendBytes(
        upload_id=upload_id,
        owner=head.owner,
        offset=offset,
        body_length=head.body_length,
        length=_parse_number(head, "Upload-Length"),
        checksum=_parse_checksum(head),
    )


def _has_body_type(head: RequestHead) -> bool:
    return (head.headers.find("Content-Type") or "").lower() == BODY_TYPE


def _check_coding(head: RequestHead) -> None:
    if (head.headers.find("Content-Encoding") or "identity") != "identity":
        msg = "Offsets count the bytes that are stored: send them without a Content-Encoding."
        raise UnsupportedMediaTypeError(msg)


def _parse_number(head: RequestHead, name: str) -> int | None:
    text = head.headers.find(name)
    if text is None:
        return None
    if not _NUMBER.fullmatch(text) or int(text) > _MAX_NUMBER:
        raise MalformedHeaderError(name, f"must be a whole number of bytes from 0 to {_MAX_NUMBER}")
    return int(text)


def _parse_checksum(head: RequestHead) -> Checksum | None:
    text = head.headers.find("Upload-Checksum")
    if text is None:
        return None
    algorithm, _, encoded = text.partition(" ")
    try:
        return Checksum(algorithm, base64.b64decode(encoded, validate=True))
    except (binascii.Error, ValueError) as error:
        fault = str(error) if encoded else "must be an algorithm, a space and the digest in base64"
        raise MalformedHeaderError("Upload-Checksum", fault) from error
