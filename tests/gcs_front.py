"""What Cloud Storage has and its emulator lacks, in front of the emulator: multipart uploads of the XML API.

As Google documents them: https://cloud.google.com/storage/docs/multipart-uploads. Parts lie in memory until an upload
is completed; then the emulator gets the object. Copies ask for a generation here, which the emulator does not look at;
whoever has a service account's key gets a token; and objects that are put or removed by the XML API are so without a
word of JSON. All else goes through, and can be made to fail on the way.
"""

import asyncio
import hashlib
import json
import secrets
from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import parse_qsl, quote, unquote, urlsplit
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

from awscrt import checksums
from typing_extensions import override

from tests.s3_proxy import Request, S3Proxy

TOKENS = "/token"

_PAGE = 3
"""Of parts and of uploads; small, so that tests turn pages."""

_RESOURCE = {
    "content-type": "contentType",
    "content-disposition": "contentDisposition",
    "content-encoding": "contentEncoding",
    "content-language": "contentLanguage",
    "cache-control": "cacheControl",
}


@dataclass
class _Upload:
    bucket: str
    name: str
    headers: dict[str, str]
    initiated: str
    parts: dict[int, tuple[str, bytes]] = field(default_factory=dict)


@dataclass
class GCSFront(S3Proxy):
    min_part_size: int = 5000
    token: str = "a token"
    _uploads: dict[str, _Upload] = field(default_factory=dict)
    _copying: asyncio.Lock = field(default_factory=asyncio.Lock)

    @override
    async def _forward(self, request: Request) -> bytes:
        parts = urlsplit(request.target)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        if parts.path == TOKENS:
            return _answer(200, json.dumps({"access_token": self.token, "expires_in": 3600}).encode())
        bucket, _, name = (unquote(piece) for piece in parts.path.removeprefix("/").partition("/"))
        if "uploads" in query or "uploadId" in query:
            if any(header.startswith("x-goog-if-") for header in request.headers):
                return _refusal(400, "NotImplemented")
            return await self._answer(request, bucket, name, query)
        if "/rewriteTo/" in parts.path and "ifGenerationMatch" in query:
            return await self._copy(request, parts.path.partition("/rewriteTo")[2], query["ifGenerationMatch"])
        answer = await super()._forward(request)
        if request.method in {"PUT", "DELETE"} and not parts.path.startswith("/storage/") and _is_done(answer):
            return _answer(200 if request.method == "PUT" else 204, b"")
        return answer

    async def _copy(self, request: Request, target: str, generation: str) -> bytes:
        async with self._copying:
            if await self._generation(target) != generation:
                return _answer(412, b'{"error": {"code": 412, "errors": [{"reason": "conditionNotMet"}]}}')
            return await super()._forward(request)

    async def _generation(self, path: str) -> str:
        headers = {"host": "127.0.0.1"}
        answer = await super()._forward(Request("GET", f"/storage/v1{path}", headers, b""))
        return str(json.loads(answer.partition(b"\r\n\r\n")[2]).get("generation", "0"))

    async def _answer(self, request: Request, bucket: str, name: str, query: dict[str, str]) -> bytes:
        if "uploads" in query:
            return self._list(bucket, query) if request.method == "GET" else self._create(request, bucket, name)
        upload_id = query["uploadId"]
        upload = self._uploads.get(upload_id)
        if upload is None or (upload.bucket, upload.name) != (bucket, name):
            return _refusal(404, "NoSuchUpload")
        match request.method:
            case "PUT":
                return _put_part(upload, int(query["partNumber"]), request)
            case "GET":
                return _list_parts(upload, int(query.get("part-number-marker", 0)))
            case "POST":
                return await self._complete(upload_id, upload, request.body)
            case _:
                del self._uploads[upload_id]
                return _answer(204, b"")

    def _create(self, request: Request, bucket: str, name: str) -> bytes:
        upload_id = secrets.token_urlsafe(30)
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        self._uploads[upload_id] = _Upload(bucket, name, request.headers, now)
        return _xml("InitiateMultipartUploadResult", {"Bucket": bucket, "Key": name, "UploadId": upload_id})

    def _list(self, bucket: str, query: dict[str, str]) -> bytes:
        after = (query.get("key-marker", ""), query.get("upload-id-marker", "\U0010ffff"))
        found = sorted(
            (upload.name, upload_id, upload.initiated)
            for upload_id, upload in self._uploads.items()
            if upload.bucket == bucket and upload.name.startswith(query.get("prefix", ""))
        )
        left = [each for each in found if each[:2] > after]
        named = [{"Key": name, "UploadId": id_, "Initiated": initiated} for name, id_, initiated in left[:_PAGE]]
        said = {"IsTruncated": str(len(left) > _PAGE).lower()}
        if named:
            said |= {"NextKeyMarker": named[-1]["Key"], "NextUploadIdMarker": named[-1]["UploadId"]}
        return _xml("ListMultipartUploadsResult", said, ("Upload", named))

    async def _complete(self, upload_id: str, upload: _Upload, body: bytes) -> bytes:
        named = [
            (int(part.findtext("PartNumber", "")), part.findtext("ETag", "").strip('"'))
            for part in ET.fromstring(body).iterfind("Part")
        ]
        found = [upload.parts.get(number, ("", b"")) for number, _ in named]
        if [e_tag for e_tag, _ in found] != [e_tag for _, e_tag in named]:
            return _refusal(400, "InvalidPart")
        if any(len(data) < self.min_part_size for _, data in found[:-1]):
            return _refusal(400, "EntityTooSmall")
        resource: dict[str, object] = {_RESOURCE[n]: value for n, value in upload.headers.items() if n in _RESOURCE}
        metadata = {n: value for n, value in upload.headers.items() if n.startswith("x-goog-meta-")}
        resource["metadata"] = {n.removeprefix("x-goog-meta-"): value for n, value in metadata.items()}
        answer = await self._insert(upload, resource, b"".join(data for _, data in found))
        if not _is_done(answer):
            return _refusal(500, "InternalError")
        del self._uploads[upload_id]
        # As Google: without the generation.
        return _xml("CompleteMultipartUploadResult", {"Bucket": upload.bucket, "Key": upload.name, "ETag": '"x-1"'})

    async def _insert(self, upload: _Upload, resource: dict[str, object], data: bytes) -> bytes:
        said = json.dumps(resource).encode()
        kind = str(resource.get("contentType", "application/octet-stream")).encode()
        body = b"--b-o-u-n-d\r\nContent-Type: application/json\r\n\r\n" + said
        body += b"\r\n--b-o-u-n-d\r\nContent-Type: " + kind + b"\r\n\r\n" + data + b"\r\n--b-o-u-n-d--\r\n"
        headers = {
            "host": "127.0.0.1",
            "content-type": "multipart/related; boundary=b-o-u-n-d",
            "content-length": str(len(body)),
        }
        name = quote(upload.name, safe="")
        target = f"/upload/storage/v1/b/{upload.bucket}/o?uploadType=multipart&name={name}"
        return await super()._forward(Request("POST", target, headers, body))


def _is_done(answer: bytes) -> bool:
    return answer.startswith(b"HTTP/1.1 2")


def _put_part(upload: _Upload, number: int, request: Request) -> bytes:
    e_tag = hashlib.md5(request.body, usedforsecurity=False).hexdigest()
    crc32c = b64encode(checksums.crc32c(request.body).to_bytes(4, "big")).decode()
    upload.parts[number] = (e_tag, request.body)
    return _answer(200, b"", f'ETag: "{e_tag}"', f"x-goog-hash: crc32c={crc32c}")


def _list_parts(upload: _Upload, marker: int) -> bytes:
    left = sorted((number, *part) for number, part in upload.parts.items() if number > marker)
    named = [{"PartNumber": str(n), "ETag": f'"{e_tag}"', "Size": str(len(data))} for n, e_tag, data in left[:_PAGE]]
    said = {"IsTruncated": str(len(left) > _PAGE).lower()}
    if named:
        said["NextPartNumberMarker"] = named[-1]["PartNumber"]
    return _xml("ListPartsResult", said, ("Part", named))


def _xml(root: str, said: dict[str, str], listed: tuple[str, Iterable[dict[str, str]]] = ("", ())) -> bytes:
    tag, each = listed
    inside = _elements(said) + "".join(f"<{tag}>{_elements(one)}</{tag}>" for one in each)
    text = f'<?xml version="1.0" encoding="UTF-8"?><{root} xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{inside}</{root}>'
    return _answer(200, text.encode())


def _elements(said: dict[str, str]) -> str:
    return "".join(f"<{name}>{escape(value)}</{name}>" for name, value in said.items())


def _refusal(status: int, code: str) -> bytes:
    return _answer(status, f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>no</Message></Error>".encode())


def _answer(status: int, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} Some", "Connection: close", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body
