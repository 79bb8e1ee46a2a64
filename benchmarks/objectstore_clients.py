"""The ways to an S3 endpoint that are compared: each with the same connections, checks and signatures where it can."""

from abc import ABC, abstractmethod
from base64 import b64encode
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Self

import aioboto3
import obstore.store
from aiobotocore.config import AioConfig
from awscrt.checksums import crc64nvme
from s3fs import S3FileSystem
from typing_extensions import override

from rindle.objectstore.s3 import S3Options, S3Store

ACCESS_KEY_ID = SECRET_ACCESS_KEY = "test"
REGION = "us-east-1"
PARALLEL = 4


@dataclass(frozen=True)
class Place:
    """Where the objects are."""

    endpoint: str
    bucket: str


class Client(ABC):
    """Objects in and out, as simply as the library has it."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stack.aclose()

    @abstractmethod
    async def open(self) -> None:
        """Be ready for calls."""

    @abstractmethod
    async def put(self, key: str, data: bytes) -> None:
        """Write an object in one call."""

    @abstractmethod
    async def get(self, key: str) -> bytes:
        """Read an object, all of it."""

    @abstractmethod
    async def list(self, prefix: str) -> int:
        """List all objects below a prefix with their sizes, and count them."""


class Rindle(Client):
    """rindle's store."""

    @override
    async def open(self) -> None:
        options = S3Options(
            bucket=self.place.bucket,
            endpoint=self.place.endpoint,
            region=REGION,
            checksums="crc64nvme",
            conditions=frozenset(),
        )
        self._store = await self.stack.enter_async_context(S3Store(options))

    @override
    async def put(self, key: str, data: bytes) -> None:
        await self._store.put(key, data)

    @override
    async def get(self, key: str) -> bytes:
        return await (await self._store.get(key)).read()

    @override
    async def list(self, prefix: str) -> int:
        return sum([meta.size >= 0 async for meta in self._store.list(prefix)])


def sdk_settings() -> dict[str, Any]:
    """As rindle sets its SDK, which is how it costs least."""
    return {
        "signature_version": "s3v4",
        "max_pool_connections": 64,
        "tcp_keepalive": True,
        "connect_timeout": 5,
        "read_timeout": 60,
        "retries": {"mode": "adaptive", "total_max_attempts": 4},
        "request_checksum_calculation": "when_required",
        "response_checksum_validation": "when_required",
        "s3": {"payload_signing_enabled": False, "addressing_style": "path"},
    }


class Aioboto3(Client):
    """The SDK, used directly by somebody who knows it: settings as rindle's, and the same checksum with every body."""

    @override
    async def open(self) -> None:
        session = aioboto3.Session(
            aws_access_key_id=ACCESS_KEY_ID,
            aws_secret_access_key=SECRET_ACCESS_KEY,
            region_name=REGION,
        )
        client = session.client("s3", endpoint_url=self.place.endpoint, config=AioConfig(**sdk_settings()))
        self.client = await self.stack.enter_async_context(client)

    @override
    async def put(self, key: str, data: bytes) -> None:
        checksum = b64encode(crc64nvme(data).to_bytes(8, "big")).decode()
        await self.client.put_object(Bucket=self.place.bucket, Key=key, Body=data, ChecksumCRC64NVME=checksum)

    @override
    async def get(self, key: str) -> bytes:
        answer = await self.client.get_object(Bucket=self.place.bucket, Key=key)
        async with answer["Body"] as body:
            data: bytes = await body.read()
            return data

    @override
    async def list(self, prefix: str) -> int:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.place.bucket, Prefix=prefix)
        return sum([said["Size"] >= 0 async for page in pages for said in page.get("Contents", ())])


class Aioboto3Default(Aioboto3):
    """The SDK as it comes."""

    @override
    async def open(self) -> None:
        session = aioboto3.Session(
            aws_access_key_id=ACCESS_KEY_ID,
            aws_secret_access_key=SECRET_ACCESS_KEY,
            region_name=REGION,
        )
        self.client = await self.stack.enter_async_context(session.client("s3", endpoint_url=self.place.endpoint))

    @override
    async def put(self, key: str, data: bytes) -> None:
        await self.client.put_object(Bucket=self.place.bucket, Key=key, Body=data)


class Obstore(Client):
    """object_store, in Rust. It can neither send parts of a multipart from several processes nor this checksum."""

    @override
    async def open(self) -> None:
        self._store = obstore.store.S3Store(
            self.place.bucket,
            endpoint=self.place.endpoint,
            region=REGION,
            access_key_id=ACCESS_KEY_ID,
            secret_access_key=SECRET_ACCESS_KEY,
            unsigned_payload=True,
            client_options={"allow_http": True},
        )

    @override
    async def put(self, key: str, data: bytes) -> None:
        await self._store.put_async(key, data, use_multipart=False)

    @override
    async def get(self, key: str) -> bytes:
        return bytes(await (await self._store.get_async(key)).bytes_async())

    @override
    async def list(self, prefix: str) -> int:
        return sum([meta["size"] >= 0 async for batch in self._store.list(prefix) for meta in batch])


class S3fs(Client):
    """fsspec's file system, on the same SDK with the same settings. It sends no checksum.

    Its methods for asynchronous code are those with an underscore.
    """

    @override
    async def open(self) -> None:
        self._files = S3FileSystem(
            asynchronous=True,
            key=ACCESS_KEY_ID,
            secret=SECRET_ACCESS_KEY,
            endpoint_url=self.place.endpoint,
            client_kwargs={"region_name": REGION},
            config_kwargs=sdk_settings(),
            use_listings_cache=False,
            skip_instance_cache=True,
        )
        session = await self._files.set_session()
        self.stack.push_async_callback(session.close)

    @override
    async def put(self, key: str, data: bytes) -> None:
        await self._files._pipe_file(f"{self.place.bucket}/{key}", data)  # noqa: SLF001 - see above

    @override
    async def get(self, key: str) -> bytes:
        data: bytes = await self._files._cat_file(f"{self.place.bucket}/{key}")  # noqa: SLF001 - see above
        return data

    @override
    async def list(self, prefix: str) -> int:
        found = await self._files._lsdir(f"{self.place.bucket}/{prefix.rstrip('/')}", refresh=True)  # noqa: SLF001 - see above
        return sum(meta["size"] >= 0 for meta in found)


CLIENTS: dict[str, type[Client]] = {
    "rindle": Rindle,
    "aioboto3": Aioboto3,
    "aioboto3 as it comes": Aioboto3Default,
    "obstore": Obstore,
    "s3fs": S3fs,
}
