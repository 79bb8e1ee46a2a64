"""An S3 endpoint that costs next to nothing: it takes what it is sent, digests it, and forgets it.

``python -m benchmarks.sink --port 0`` prints the URL under which it listens. It answers what upload servers ask of S3:
create, put, part, list of parts, complete, abort, get, head, delete. Objects too small to be a part are kept, since
servers read their own bookkeeping back; nothing else is, so that uploads of any size need no memory. What was written
is known by size and CRC-64/NVME, and every call is counted, under the bucket's name:

- ``POST /-/take?bucket=b``: the calls, and the objects written, since the last time, as JSON;
- ``POST /-/forget?bucket=b``: empty the bucket;
- ``POST /-/latency?ms=30``: answer every call of S3 so much later.

It looks at no signature, and at one condition of writing: a body whose ``x-amz-checksum-crc64nvme`` is another's is
refused, as S3 does.
"""

import argparse
import asyncio
import base64
import json
import re
import secrets
import ssl
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import httptools
import uvloop
from awscrt.checksums import combine_crc64nvme
from typing_extensions import override

from rindle.objectstore.payload import crc64nvme

_BUFFER = 256 * 1024
_LEAST_PART = 5 << 20
_DATE = "Mon, 01 Jan 2024 00:00:00 GMT"
_ISO_DATE = "2024-01-01T00:00:00.000Z"
_XML = '<?xml version="1.0" encoding="UTF-8"?>\n'
_KEPT_HEADERS = ("content-type", "x-amz-meta-")
_CHECKSUM = "x-amz-checksum-crc64nvme"
_NAMED_PART = re.compile(rb"<PartNumber>\s*(\d+)\s*</PartNumber>")
_NAMED_KEY = re.compile(rb"<Key>([^<]+)</Key>")


class S3Error(Exception):
    """A call is refused, with S3's code for it."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status = status
        self.code = code


@dataclass(slots=True)
class Stored:
    """An object, or a part. ``body``: None if it was not kept."""

    size: int
    crc: int
    body: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def e_tag(self) -> str:
        return f'"{self.size:016x}{self.crc:016x}"'


@dataclass(slots=True)
class Multipart:
    """One that is under way."""

    key: str
    headers: dict[str, str]
    parts: dict[int, Stored] = field(default_factory=dict)


@dataclass(slots=True)
class Bucket:
    """Objects, multiparts by their id; how often what was called, and what was written, since somebody asked."""

    objects: dict[str, Stored] = field(default_factory=dict)
    multiparts: dict[str, Multipart] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    written: list[Stored] = field(default_factory=list)

    def write(self, key: str, stored: Stored) -> None:
        self.objects[key] = stored
        self.written.append(stored)


@dataclass(slots=True)
class Request:
    """A request whose body is here, digested."""

    method: str
    key: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    content: Stored

    @property
    def kept_headers(self) -> dict[str, str]:
        return {name: value for name, value in self.headers.items() if name.startswith(_KEPT_HEADERS)}


@dataclass(slots=True)
class Response:
    """What is said in return. ``size``: of the body that a HEAD is not given."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    size: int | None = None


class Service:
    """Calls, by the names that S3 has for them."""

    def __init__(self) -> None:
        self.latency = 0.0
        self.buckets: defaultdict[str, Bucket] = defaultdict(Bucket)

    def answer(self, name: str, request: Request) -> Response:
        """Do what is asked, count it, and say what came of it."""
        operation = _operation(request)
        bucket = self.buckets[name]
        try:
            _check_digest(request)
            response = _CALLS.get(operation, _refuse)(bucket, name, request)
            bucket.calls[operation] += 1
        except S3Error as error:
            bucket.calls[f"{operation} {error.code}"] += 1
            body = f"{_XML}<Error><Code>{error.code}</Code><Message>{error.code}</Message></Error>".encode()
            response = Response(error.status, {"Content-Type": "application/xml"}, body)
        return response

    def control(self, action: str, query: Mapping[str, str]) -> Response:
        """What the benchmark itself asks."""
        match action:
            case "take":
                bucket = self.buckets[query["bucket"]]
                written = [[stored.size, stored.crc] for stored in bucket.written]
                report = {"calls": bucket.calls, "written": written}
                bucket.calls, bucket.written = Counter(), []
                return Response(body=json.dumps(report).encode())
            case "forget":
                self.buckets.pop(query["bucket"], None)
                return Response()
            case "latency":
                self.latency = float(query["ms"]) / 1000
                return Response()
            case _:
                return Response(404)


def _operation(request: Request) -> str:
    query = request.query
    names = _OBJECT_OPERATIONS if request.key else _BUCKET_OPERATIONS
    for marker in ("uploads", "uploadId", "delete", "list-type"):
        if marker in query and (request.method, marker) in names:
            return names[request.method, marker]
    return names.get((request.method, ""), request.method)


_OBJECT_OPERATIONS = {
    ("PUT", "uploadId"): "UploadPart",
    ("PUT", ""): "PutObject",
    ("POST", "uploads"): "CreateMultipartUpload",
    ("POST", "uploadId"): "CompleteMultipartUpload",
    ("GET", "uploadId"): "ListParts",
    ("GET", ""): "GetObject",
    ("HEAD", ""): "HeadObject",
    ("DELETE", "uploadId"): "AbortMultipartUpload",
    ("DELETE", ""): "DeleteObject",
}
_BUCKET_OPERATIONS = {
    ("GET", "list-type"): "ListObjectsV2",
    ("GET", "uploads"): "ListMultipartUploads",
    ("POST", "delete"): "DeleteObjects",
}


def _check_digest(request: Request) -> None:
    said = request.headers.get(_CHECKSUM)
    if (
        said is not None
        and request.method == "PUT"
        and base64.b64decode(said) != request.content.crc.to_bytes(8, "big")
    ):
        raise S3Error(400, "BadDigest")
    decoded = request.headers.get("x-amz-decoded-content-length")
    if decoded is not None and int(decoded) != request.content.size:
        raise S3Error(400, "IncompleteBody")


def _refuse(_bucket: Bucket, _name: str, _request: Request) -> Response:
    raise S3Error(501, "NotImplemented")


def _put_object(bucket: Bucket, _: str, request: Request) -> Response:
    stored = request.content
    stored.headers = request.kept_headers
    bucket.write(request.key, stored)
    return Response(headers={"ETag": stored.e_tag})


def _get_object(bucket: Bucket, _: str, request: Request) -> Response:
    stored = _find(bucket, request.key)
    if stored.body is None or "range" in request.headers:
        raise S3Error(501, "NotImplemented")
    return Response(headers=_describe(stored), body=stored.body)


def _head_object(bucket: Bucket, _: str, request: Request) -> Response:
    stored = _find(bucket, request.key)
    return Response(headers=_describe(stored), size=stored.size)


def _describe(stored: Stored) -> dict[str, str]:
    return {"ETag": stored.e_tag, "Last-Modified": _DATE, "Accept-Ranges": "bytes", **stored.headers}


def _find(bucket: Bucket, key: str) -> Stored:
    stored = bucket.objects.get(key)
    if stored is None:
        raise S3Error(404, "NoSuchKey")
    return stored


def _delete_object(bucket: Bucket, _: str, request: Request) -> Response:
    bucket.objects.pop(request.key, None)
    return Response(204)


def _delete_objects(bucket: Bucket, _: str, request: Request) -> Response:
    for key in _NAMED_KEY.findall(request.content.body or b""):
        bucket.objects.pop(key.decode(), None)
    return _xml("DeleteResult", "")


def _create_multipart(bucket: Bucket, name: str, request: Request) -> Response:
    multipart_id = secrets.token_hex(16)
    bucket.multiparts[multipart_id] = Multipart(request.key, request.kept_headers)
    named = f"<Bucket>{name}</Bucket><Key>{escape(request.key)}</Key>"
    return _xml("InitiateMultipartUploadResult", f"{named}<UploadId>{multipart_id}</UploadId>")


def _upload_part(bucket: Bucket, _: str, request: Request) -> Response:
    if "x-amz-copy-source" in request.headers:
        raise S3Error(501, "NotImplemented")
    multipart = _find_multipart(bucket, request)
    part = multipart.parts[int(request.query["partNumber"])] = request.content
    checked = {name: value for name, value in request.headers.items() if name == _CHECKSUM}
    return Response(headers={"ETag": part.e_tag, **checked})


def _list_parts(bucket: Bucket, name: str, request: Request) -> Response:
    multipart = _find_multipart(bucket, request)
    after = int(request.query.get("part-number-marker") or 0)
    most = int(request.query.get("max-parts") or 1000)
    numbers = sorted(number for number in multipart.parts if number > after)
    listed = numbers[:most]
    parts = "".join(_spell_part(number, multipart.parts[number]) for number in listed)
    truncated = str(len(listed) < len(numbers)).lower()
    marker = listed[-1] if listed else after
    head = f"<Bucket>{name}</Bucket><Key>{escape(request.key)}</Key><UploadId>{request.query['uploadId']}</UploadId>"
    paging = f"<NextPartNumberMarker>{marker}</NextPartNumberMarker><IsTruncated>{truncated}</IsTruncated>"
    return _xml("ListPartsResult", head + paging + parts)


def _spell_part(number: int, part: Stored) -> str:
    named = f"<PartNumber>{number}</PartNumber><LastModified>{_ISO_DATE}</LastModified>"
    return f"<Part>{named}<ETag>{escape(part.e_tag)}</ETag><Size>{part.size}</Size></Part>"


def _complete_multipart(bucket: Bucket, name: str, request: Request) -> Response:
    multipart = _find_multipart(bucket, request)
    numbers = [int(number) for number in _NAMED_PART.findall(request.content.body or b"")]
    if not numbers or any(number not in multipart.parts for number in numbers):
        raise S3Error(400, "InvalidPart")
    if numbers != sorted(set(numbers)):
        raise S3Error(400, "InvalidPartOrder")
    parts = [multipart.parts[number] for number in numbers]
    if any(part.size < _LEAST_PART for part in parts[:-1]):
        raise S3Error(400, "EntityTooSmall")
    whole = Stored(0, 0, headers=multipart.headers)
    for part in parts:
        whole.crc = combine_crc64nvme(whole.crc, part.crc, part.size)
        whole.size += part.size
    bucket.write(request.key, whole)
    del bucket.multiparts[request.query["uploadId"]]
    named = f"<Bucket>{name}</Bucket><Key>{escape(request.key)}</Key>"
    return _xml("CompleteMultipartUploadResult", f"{named}<ETag>{escape(whole.e_tag)}</ETag>")


def _abort_multipart(bucket: Bucket, _: str, request: Request) -> Response:
    _find_multipart(bucket, request)
    del bucket.multiparts[request.query["uploadId"]]
    return Response(204)


def _find_multipart(bucket: Bucket, request: Request) -> Multipart:
    multipart = bucket.multiparts.get(request.query["uploadId"])
    if multipart is None or multipart.key != request.key:
        raise S3Error(404, "NoSuchUpload")
    return multipart


def _list_objects(bucket: Bucket, name: str, request: Request) -> Response:
    prefix = request.query.get("prefix", "")
    most = int(request.query.get("max-keys") or 1000)
    after = request.query.get("start-after", "")
    keys = sorted(key for key in bucket.objects if key.startswith(prefix) and key > after)[:most]
    contents = "".join(_spell_object(key, bucket.objects[key]) for key in keys)
    return _xml("ListBucketResult", f"<Name>{name}</Name><IsTruncated>false</IsTruncated>{contents}")


def _spell_object(key: str, stored: Stored) -> str:
    named = f"<Key>{escape(key)}</Key><LastModified>{_ISO_DATE}</LastModified>"
    return f"<Contents>{named}<ETag>{escape(stored.e_tag)}</ETag><Size>{stored.size}</Size></Contents>"


def _list_multiparts(bucket: Bucket, name: str, request: Request) -> Response:
    prefix = request.query.get("prefix", "")
    uploads = "".join(
        f"<Upload><Key>{escape(multipart.key)}</Key><UploadId>{multipart_id}</UploadId>"
        f"<Initiated>{_ISO_DATE}</Initiated></Upload>"
        for multipart_id, multipart in bucket.multiparts.items()
        if multipart.key.startswith(prefix)
    )
    return _xml("ListMultipartUploadsResult", f"<Bucket>{name}</Bucket><IsTruncated>false</IsTruncated>{uploads}")


def _xml(element: str, content: str) -> Response:
    text = f'{_XML}<{element} xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{content}</{element}>'
    return Response(headers={"Content-Type": "application/xml"}, body=text.encode())


_CALLS: Mapping[str, Callable[[Bucket, str, Request], Response]] = {
    "PutObject": _put_object,
    "GetObject": _get_object,
    "HeadObject": _head_object,
    "DeleteObject": _delete_object,
    "DeleteObjects": _delete_objects,
    "CreateMultipartUpload": _create_multipart,
    "UploadPart": _upload_part,
    "ListParts": _list_parts,
    "CompleteMultipartUpload": _complete_multipart,
    "AbortMultipartUpload": _abort_multipart,
    "ListObjectsV2": _list_objects,
    "ListMultipartUploads": _list_multiparts,
}


class Body:
    """The bytes of one request, as they come; ``keep`` them while they are few."""

    def __init__(self, *, keep: bool) -> None:
        self._size = 0
        self._crc = 0
        self._keep = keep
        self._kept: list[bytes] = []

    def take(self, data: bytes) -> None:
        self._size += len(data)
        self._crc = crc64nvme(data, self._crc)
        if self._keep and self._size < _LEAST_PART:
            self._kept.append(data)
        else:
            self._keep = False
            self._kept.clear()

    def finish(self) -> Stored:
        return Stored(self._size, self._crc, b"".join(self._kept) if self._keep else None)


class AwsChunks:
    """Takes the SDKs' own framing (aws-chunked) off a body: sizes in hex, signatures and trailers that nobody reads."""

    def __init__(self, body: Body) -> None:
        self._body = body
        self._line = b""
        self._left = 0
        self._ended = False

    def take(self, data: bytes) -> None:
        while data and not self._ended:
            if self._left:
                piece, data = data[: self._left], data[self._left :]
                self._left -= len(piece)
                self._body.take(piece)
                continue
            line, end, rest = (self._line + data).partition(b"\r\n")
            if not end:
                self._line = line
                return
            self._line, data = b"", rest
            if line:  # an empty one ends the bytes before it
                self._left = int(line.partition(b";")[0], 16)
                self._ended = self._left == 0

    def finish(self) -> Stored:
        return self._body.finish()


class Exchange(asyncio.BufferedProtocol):
    """One connection: requests in, responses out, one after another."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._buffer = memoryview(bytearray(_BUFFER))
        self._url = b""
        self._headers: dict[str, str] = {}
        self._body: Body | AwsChunks = Body(keep=False)

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    @override
    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    @override
    def buffer_updated(self, nbytes: int) -> None:
        self._parser.feed_data(self._buffer[:nbytes])

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        assert self._transport is not None
        body = Body(keep=b"partNumber=" not in self._url)
        framed = self._headers.get("x-amz-content-sha256", "").startswith("STREAMING-")
        self._body = AwsChunks(body) if framed else body
        if "expect" in self._headers:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, data: bytes) -> None:
        self._body.take(data)

    def on_message_complete(self) -> None:
        parts = urlsplit(self._url.decode("latin-1"))
        query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        bucket, _, key = parts.path.removeprefix("/").partition("/")
        method = self._parser.get_method().decode()
        request = Request(method, unquote(key), query, self._headers, self._body.finish())
        self._url, self._headers = b"", {}
        if bucket == "-":
            self._respond(request, self._service.control(key, query))
        elif self._service.latency:
            asyncio.get_running_loop().call_later(self._service.latency, self._answer, bucket, request)
        else:
            self._answer(bucket, request)

    def _answer(self, bucket: str, request: Request) -> None:
        self._respond(request, self._service.answer(bucket, request))

    def _respond(self, request: Request, response: Response) -> None:
        assert self._transport is not None
        size = len(response.body) if response.size is None else response.size
        headers = {"Server": "sink", "Date": _DATE, "x-amz-request-id": "1", **response.headers}
        if response.status != 204:  # noqa: PLR2004 - no content, no length
            headers["Content-Length"] = str(size)
        lines = [f"HTTP/1.1 {response.status} -", *(f"{name}: {value}" for name, value in headers.items())]
        body = b"" if request.method == "HEAD" else response.body
        self._transport.write("\r\n".join([*lines, "", ""]).encode("latin-1") + body)


async def serve(port: int, certificate: str | None) -> None:
    """Listen on this machine, and say where, until the process is ended."""
    service = Service()
    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Exchange(service), "127.0.0.1", port, ssl=context, backlog=1024)
    scheme = "http" if context is None else "https"
    print(f"listening on {scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


def main(arguments: Iterable[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sink", description="An S3 endpoint that keeps nothing.")
    parser.add_argument("--port", type=int, default=0, help="0 takes any free one")
    parser.add_argument("--certificate", help="a PEM file with certificate and key: speak TLS")
    options = parser.parse_args(None if arguments is None else list(arguments))
    uvloop.run(serve(options.port, options.certificate))


if __name__ == "__main__":
    main()
