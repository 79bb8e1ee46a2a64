"""One bucket: the calls of both APIs on it, under the store's prefix."""

import json
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree as ET

import aiohttp
from yarl import URL

from rindle.objectstore.errors import NotFoundError, StoreUnavailableError
from rindle.objectstore.gcs.bodies import ObjectBody, PartBody, checksum
from rindle.objectstore.gcs.connection import Answer, Call, Connection, Headers, Query
from rindle.objectstore.gcs.errors import STORE, Refusal, code_of, translated
from rindle.objectstore.gcs.options import GCSOptions
from rindle.objectstore.gcs.values import checksum_of, spell_checksum
from rindle.objectstore.headers import unquoted
from rindle.objectstore.payload import Payload
from rindle.objectstore.transfer import RequestBody
from rindle.objectstore.types import PartMeta

Resource = Mapping[str, Any]

_LONG = 600.0  # seconds that the service may need to assemble an object, of which it says nothing meanwhile
_SERVER_ERROR = 500
_LISTED = "items(name,size,updated,generation),prefixes,nextPageToken"


class Bucket:
    """What can be asked of a bucket and its objects."""

    def __init__(self, options: GCSOptions) -> None:
        self.options = options
        self.root = f"{options.prefix}/" if options.prefix else ""
        self.connection = Connection(options)
        self._patience = options.read_timeout
        self._json = f"/storage/v1/b/{options.bucket}/o"
        self._upload = f"/upload/storage/v1/b/{options.bucket}/o"
        self._xml = f"/{options.bucket}"

    async def aclose(self) -> None:
        """Close all connections."""
        await self.connection.aclose()

    def url(self, key: str) -> URL:
        """The object's own URL."""
        return self.connection.url(self._path(key))

    def _path(self, key: str) -> str:
        return f"{self._xml}/{quote(self.root + key)}"

    def _resource_path(self, key: str) -> str:
        return f"{self._json}/{quote(self.root + key, safe='')}"

    # The JSON API

    async def insert(self, key: str, payload: Payload, resource: Resource, *, generation: str | None) -> Resource:
        """Write an object whole, over this generation (``"0"``: over none); the service checks its CRC-32C."""
        crc32c = spell_checksum(await checksum(payload, key=key))
        said = {**resource, **self._kept, "name": self.root + key, "crc32c": crc32c}
        boundary = secrets.token_hex(16)
        call = Call(
            method="POST",
            path=self._upload,
            key=key,
            query={"uploadType": "multipart", "ifGenerationMatch": generation, "kmsKeyName": self.options.kms_key_name},
            headers={"Content-Type": f"multipart/related; boundary={boundary}"},
            body=lambda: ObjectBody(said, payload, boundary=boundary, key=key, patience=self._patience),
        )
        try:
            return _read_json(await self.connection.ask(call))
        except NotFoundError as error:
            await self._require_bucket(error)
            raise

    async def rewrite(
        self, source: str, source_generation: str, target: str, resource: Resource, *, generation: str | None
    ) -> Resource:
        """Copy one generation of an object, in as many calls as the service takes for it; the last one writes."""
        token: str | None = None
        while True:
            call = Call(
                method="POST",
                path=f"{self._resource_path(source)}/rewriteTo{self._resource_path(target).removeprefix('/storage/v1')}",
                key=target,
                query={
                    "sourceGeneration": source_generation,
                    "ifGenerationMatch": generation,
                    "destinationKmsKeyName": self.options.kms_key_name,
                    "rewriteToken": token,
                },
                headers={"Content-Type": "application/json"},
                body=lambda: json.dumps({**resource, **self._kept}).encode(),
                read_timeout=_LONG,
            )
            answer = _read_json(await self.connection.ask(call))
            if answer.get("done", True):
                found: Resource = answer["resource"]
                return found
            token = answer["rewriteToken"]

    async def patch_metadata(self, key: str, metadata: Mapping[str, str | None]) -> None:
        """Change some metadata of an object; None removes it."""
        body = json.dumps({"metadata": dict(metadata)}).encode()
        await self.connection.ask(
            Call(
                method="PATCH",
                path=self._resource_path(key),
                key=key,
                headers={"Content-Type": "application/json"},
                body=lambda: body,
            )
        )

    async def delete(self, key: str) -> None:
        """Remove an object."""
        await self.connection.ask(Call(method="DELETE", path=self._resource_path(key), key=key))

    async def list_page(
        self, prefix: str, *, delimiter: bool, start: str | None, token: str | None, limit: int
    ) -> Resource:
        """One page of objects from the name ``start`` on."""
        query = {
            "prefix": self.root + prefix,
            "delimiter": "/" if delimiter else None,
            "startOffset": None if start is None else self.root + start,
            "pageToken": token,
            "maxResults": str(limit),
            "fields": _LISTED,
        }
        return _read_json(await self.connection.ask(Call(method="GET", path=self._json, query=query)))

    async def get_lifecycle(self) -> Sequence[Resource]:
        """The rules of the bucket by which the service removes things."""
        call = Call(method="GET", path=self._json.removesuffix("/o"), query={"fields": "lifecycle"})
        rules: Sequence[Resource] = _read_json(await self.connection.ask(call)).get("lifecycle", {}).get("rule", ())
        return rules

    @property
    def _kept(self) -> Resource:
        return {} if self.options.storage_class is None else {"storageClass": self.options.storage_class}

    # The XML API

    async def head(self, key: str, generation: str | None = None) -> Headers:
        """What there is to know of an object."""
        call = Call(method="HEAD", path=self._path(key), key=key, query={"generation": generation})
        try:
            return (await self.connection.ask(call)).headers
        except NotFoundError as error:
            await self._require_bucket(error)
            raise

    async def get(self, key: str, generation: str | None, headers: Headers) -> aiohttp.ClientResponse:
        """Open an object for reading."""
        call = Call(method="GET", path=self._path(key), key=key, query={"generation": generation}, headers=headers)
        try:
            return await self.connection.open(call)
        except NotFoundError as error:
            await self._require_bucket(error)
            raise

    async def _require_bucket(self, error: NotFoundError) -> None:
        """Not every answer says whether it is the object that is not there, or the whole bucket."""
        if code_of(error) != "NoSuchKey":
            await self.list_page("", delimiter=False, start=None, token=None, limit=1)

    async def create_multipart(self, key: str, headers: Headers) -> str:
        """Begin a multipart upload of an object with these attributes; its id."""
        options = self.options
        kept = {
            "x-goog-storage-class": options.storage_class,
            "x-goog-encryption-kms-key-name": options.kms_key_name,
        }
        given = {**headers, **{name: value for name, value in kept.items() if value is not None}}
        call = Call(method="POST", path=self._path(key), key=key, query={"uploads": ""}, headers=given)
        return _text(self._read_xml(await self.connection.ask(call), key), "UploadId")

    async def put_part(self, key: str, upload_id: str, number: int, payload: Payload) -> str:
        """Store a part; its e_tag. StoreUnavailableError when other bytes have arrived than were sent."""
        bodies: list[PartBody] = []

        def body() -> RequestBody | bytes:
            bodies.append(PartBody(payload, key=key, patience=self._patience))
            return bodies[-1] if payload.size else b""

        if payload.size == 0:
            await checksum(payload, key=key)
        query = {"partNumber": str(number), "uploadId": upload_id}
        answer = await self.connection.ask(Call(method="PUT", path=self._path(key), key=key, query=query, body=body))
        e_tag = unquoted(answer.headers.get("ETag"))
        if e_tag is None or checksum_of(answer.headers) not in {None, bodies[-1].crc32c}:
            msg = f"part {number} has not arrived as it was sent"
            raise StoreUnavailableError(msg, store=STORE, key=key)
        return e_tag

    async def list_parts(self, key: str, upload_id: str) -> AsyncIterator[PartMeta]:
        """All parts, by number, fetched as they are read."""
        marker: str | None = None
        while True:
            query = {"uploadId": upload_id, "part-number-marker": marker}
            answer = await self.connection.ask(Call(method="GET", path=self._path(key), key=key, query=query))
            page = self._read_xml(answer, key)
            for part in page.iterfind("{*}Part"):
                yield PartMeta(
                    part_number=int(_text(part, "PartNumber")),
                    size=int(_text(part, "Size")),
                    e_tag=_text(part, "ETag").strip('"'),
                )
            if page.findtext("{*}IsTruncated") != "true":
                return
            marker = _text(page, "NextPartNumberMarker")

    async def complete_multipart(self, key: str, upload_id: str, parts: Sequence[PartMeta]) -> Headers:
        """Make the object of parts."""
        root = ET.Element("CompleteMultipartUpload")
        for part in parts:
            named = ET.SubElement(root, "Part")
            ET.SubElement(named, "PartNumber").text = str(part.part_number)
            ET.SubElement(named, "ETag").text = f'"{part.e_tag}"'
        body = ET.tostring(root, encoding="utf-8", xml_declaration=True)
        call = Call(
            method="POST",
            path=self._path(key),
            key=key,
            query={"uploadId": upload_id},
            headers={"Content-Type": "application/xml"},
            body=lambda: body,
            read_timeout=_LONG,
        )
        answer = await self.connection.ask(call)
        self._read_xml(answer, key)
        return answer.headers

    async def abort_multipart(self, key: str, upload_id: str) -> None:
        """Drop a multipart upload."""
        query = {"uploadId": upload_id}
        await self.connection.ask(Call(method="DELETE", path=self._path(key), key=key, query=query))

    async def list_multiparts(self, prefix: str) -> AsyncIterator[tuple[str, str, str]]:
        """Key, id and beginning of all multipart uploads that are unfinished, fetched as they are read."""
        markers: Query = {}
        while True:
            query = {"uploads": "", "prefix": self.root + prefix, **markers}
            page = self._read_xml(await self.connection.ask(Call(method="GET", path=self._xml, query=query)), None)
            for found in page.iterfind("{*}Upload"):
                key = _text(found, "Key").removeprefix(self.root)
                yield key, _text(found, "UploadId"), _text(found, "Initiated")
            if page.findtext("{*}IsTruncated") != "true":
                return
            markers = {
                "key-marker": _text(page, "NextKeyMarker"),
                "upload-id-marker": _text(page, "NextUploadIdMarker"),
            }

    @staticmethod
    def _read_xml(answer: Answer, key: str | None) -> ET.Element:
        """What an answer says. An assembly that takes its time may begin as a success and be none."""
        with translated(key):
            try:
                root = ET.fromstring(answer.body)  # noqa: S314 - the service's own; it has no entities
            except ET.ParseError as error:
                msg = "the service's answer is not XML"
                raise StoreUnavailableError(msg, store=STORE, key=key) from error
            if root.tag.rpartition("}")[2] == "Error":
                raise Refusal.of(_SERVER_ERROR, answer.body, key)
            return root


def _read_json(answer: Answer) -> Resource:
    try:
        found: Resource = json.loads(answer.body)
    except ValueError as error:
        msg = "the service's answer is not JSON"
        raise StoreUnavailableError(msg, store=STORE) from error
    return found


def _text(element: ET.Element, name: str) -> str:
    found = element.findtext(f"{{*}}{name}")
    if not found:
        msg = f"the service's answer says no {name}"
        raise StoreUnavailableError(msg, store=STORE)
    return found
