"""One bucket: every call to the service goes through here, with the key's prefix on and foreign errors translated."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

from rindle.objectstore.payload import Payload
from rindle.objectstore.s3.client import Answer, AttemptedBody, Connection
from rindle.objectstore.s3.errors import STORE, translated
from rindle.objectstore.s3.options import S3Options
from rindle.objectstore.s3.sending import Sender
from rindle.objectstore.s3.values import spell_checksum
from rindle.objectstore.transfer import checksum, transmit

MULTIPART_CHECKSUMS: Mapping[str, str] = {"ChecksumAlgorithm": "CRC64NVME", "ChecksumType": "FULL_OBJECT"}


class Bucket:
    """The calls of S3's API on one bucket, by the SDK's names, under the store's prefix.

    ``consistent``: every call sees all that was written before, where the service wants to be asked for that.
    ``checksums``: the service checks bodies against their CRC-64/NVME.
    """

    def __init__(self, options: S3Options, *, consistent: bool) -> None:
        self.options = options
        self.root = f"{options.prefix}/" if options.prefix else ""
        self.service = options.service
        self.checksums = self.service.checksums == "crc64nvme"
        self._connection = Connection(options, consistent=consistent)
        self._sender = Sender(self._connection, options.bucket)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._connection.aclose()

    async def call(self, operation: str, key: str | None = None, **parameters: Any) -> Answer:  # noqa: ANN401 - the SDK has no types
        """One call, about an object if there is a key."""
        if key is not None:
            parameters["Key"] = self.root + key
        with translated(key):
            client = await self._connection.client()
            answer: Answer = await getattr(client, operation)(Bucket=self.options.bucket, **parameters)
            return answer

    async def pages(self, operation: str, key: str | None = None, **parameters: Any) -> AsyncIterator[Answer]:  # noqa: ANN401 - the SDK has no types
        """All pages of a listing, fetched as they are read."""
        if key is not None:
            parameters["Key"] = self.root + key
        with translated(key):
            client = await self._connection.client()
            async for page in client.get_paginator(operation).paginate(Bucket=self.options.bucket, **parameters):
                yield page

    async def send(self, operation: str, key: str, payload: Payload, **parameters: Any) -> Answer:  # noqa: ANN401 - the SDK has no types
        """One call with a body. What the payload raises comes through as it is, and nothing is written."""
        if self.checksums:
            parameters["ChecksumCRC64NVME"] = spell_checksum(await checksum(payload, store=STORE, key=key))
        patience = self.options.read_timeout
        body = AttemptedBody(payload, store=STORE, key=key, digest=not self.checksums, patience=patience)
        if payload.size == 0:
            async for _ in body.checked():
                pass
            return await self.call(operation, key, Body=b"", **parameters)
        return await transmit(body, self._send(operation, key, body, parameters))

    async def _send(self, operation: str, key: str, body: AttemptedBody, parameters: Mapping[str, Any]) -> Answer:
        with translated(key):
            return await self._sender.send(operation, self.root + key, body, parameters)

    async def sign(self, operation: str, key: str, *, seconds: float) -> str:
        """A URL that does one call."""
        parameters = {"Bucket": self.options.bucket, "Key": self.root + key}
        with translated(key):
            client = await self._connection.client()
            url: str = await client.generate_presigned_url(operation, Params=parameters, ExpiresIn=int(seconds))
            return url

    def copy_source(self, key: str) -> Mapping[str, str]:
        """An object as a copy names what it is a copy of."""
        return {"Bucket": self.options.bucket, "Key": self.root + key}

    def spell_e_tag(self, e_tag: str) -> str:
        """An e_tag as a condition of a write names it."""
        return e_tag if self.service.bare_e_tags else f'"{e_tag}"'

    def storage_parameters(self) -> dict[str, Any]:
        """How what is written is to be kept; for every call that makes an object, or begins one."""
        options = self.options
        parameters = {
            "StorageClass": options.storage_class,
            "ServerSideEncryption": options.sse,
            "SSEKMSKeyId": options.kms_key_id,
            "BucketKeyEnabled": options.bucket_key or None,
        }
        return {name: value for name, value in parameters.items() if value is not None}

    @property
    def part_checksums(self) -> Mapping[str, str]:
        """What the beginning of a multipart says of the checksums that its parts will have."""
        return MULTIPART_CHECKSUMS if self.checksums else {}
