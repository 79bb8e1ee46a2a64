"""One container: every call to the service goes through here, with the names' root on and foreign errors translated.

The SDK makes the requests, signs them and reads the answers. It repeats nothing: each call is made again here as a
whole, with its body from the start. Three calls go by the layer below the SDK's public one, which would read a body
into memory before it is sent, and ask for an object piece by piece, each perhaps of another version of it.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from azure.core.pipeline import PipelineResponse
from azure.storage.blob import BlobBlock, BlobProperties, BlobSasPermissions
from azure.storage.blob.aio import BlobClient, BlobPrefix

from rindle.objectstore.azure.connection import Connection
from rindle.objectstore.azure.errors import STORE, translated
from rindle.objectstore.azure.values import spell_checksum, storage_headers
from rindle.objectstore.payload import Payload
from rindle.objectstore.retry import persist
from rindle.objectstore.transfer import RequestBody, checksum, transmit

Headers = Mapping[str, str]
Result = TypeVar("Result")

_COPY_TIMEOUT = 600.0  # seconds in which the service copies within itself and says nothing
_READING = BlobSasPermissions(read=True)


@dataclass(frozen=True, slots=True)
class Download:
    """An answer whose body has not been read; ``close`` cuts its connection."""

    headers: Headers
    body: AsyncIterator[bytes]
    close: Callable[[], None]


class Container:
    """The calls of the blob service on one container, about blobs whose names begin with ``root``."""

    def __init__(self, connection: Connection, root: str) -> None:
        self.root = root
        self._connection = connection
        self._options = connection.options
        self._kept = storage_headers(self._options.tier, self._options.encryption_scope)

    async def call(self, key: str, do: Callable[[BlobClient], Awaitable[Result]]) -> Result:
        """One call about a blob."""

        async def attempt() -> Result:
            with translated(key):
                return await do(await self._blob(key))

        return await persist(attempt, attempts=self._options.attempts)

    async def _blob(self, key: str) -> BlobClient:
        return (await self._connection.clients()).container.get_blob_client(self.root + key)

    async def send(
        self,
        key: str,
        payload: Payload,
        crc64nvme: int,
        do: Callable[[BlobClient, Any, Headers], Awaitable[Result]],
    ) -> Result:
        """One call with a body, whose CRC-64/NVME is in the headers: the service writes nothing else.

        What the payload raises comes through as it is, and nothing is written.
        """
        crc = {"x-ms-content-crc64": spell_checksum(crc64nvme)}

        async def attempt() -> Result:
            body = RequestBody(payload, store=STORE, key=key, digest=False, patience=self._options.read_timeout)
            if payload.size == 0:
                async for _ in body.checked():
                    pass
            with translated(key):
                blob = await self._blob(key)
                return await transmit(body, do(blob, body if payload.size else b"", crc))

        return await persist(attempt, attempts=self._options.attempts)

    # Objects

    async def put_blob(self, key: str, payload: Payload, headers: Headers) -> Headers:
        """Write a blob whole."""

        async def do(blob: BlobClient, body: Any, crc: Headers) -> Headers:  # noqa: ANN401 - the SDK's own type is of files
            upload = blob._client.block_blob.upload  # noqa: SLF001 - see above
            given = {**headers, **self._kept, **crc}
            return cast(Headers, await upload(payload.size, body, headers=given, cls=_headers_of))

        return await self.send(key, payload, await checksum(payload, store=STORE, key=key), do)

    async def get_blob(self, key: str, headers: Headers, version: str | None) -> Download:
        """Open a blob for reading."""

        async def do(blob: BlobClient) -> Download:
            download = blob._client.blob.download  # noqa: SLF001 - see above
            answer = await download(version_id=version, headers=dict(headers), decompress=False, cls=_download_of)
            return cast(Download, answer)

        return await self.call(key, do)

    async def head_blob(self, key: str, version: str | None = None) -> Headers:
        """What there is to know of a blob."""

        async def do(blob: BlobClient) -> Headers:
            head = blob._client.blob.get_properties  # noqa: SLF001 - see above
            return cast(Headers, await head(version_id=version, cls=_headers_of))

        return await self.call(key, do)

    async def delete_blob(self, key: str) -> None:
        """Remove a blob, and snapshots that others have made of it."""
        await self.call(key, lambda blob: blob.delete_blob(delete_snapshots="include"))

    async def list_page(
        self, prefix: str, *, delimiter: bool, start: str | None, token: str | None, limit: int
    ) -> tuple[Sequence[BlobProperties | BlobPrefix], str | None]:
        """One page of blobs from the name ``start`` on, and the token of the next one."""
        given: dict[str, Any] = {"name_starts_with": self.root + prefix, "results_per_page": limit}
        if start is not None:
            given["start_from"] = self.root + start

        async def attempt() -> tuple[Sequence[BlobProperties | BlobPrefix], str | None]:
            with translated():
                container = (await self._connection.clients()).container
                listing = container.walk_blobs(**given) if delimiter else container.list_blobs(**given)
                pages: Any = listing.by_page(token)
                page = await anext(pages)
                return [found async for found in page], pages.continuation_token or None

        return await persist(attempt, attempts=self._options.attempts)

    async def copy_blob(self, source: str, target: str, headers: Headers, *, tags: bool) -> Headers:
        """Copy a blob of at most 256 MiB, with its tags if there are any to be."""
        url, authorization = await self._source(source)
        given = {**headers, **self._kept}

        async def do(blob: BlobClient) -> Headers:
            answer: object = await blob.start_copy_from_url(
                url,
                requires_sync=True,
                source_authorization=authorization,
                tags="COPY" if tags else None,
                headers=dict(given),
                read_timeout=_COPY_TIMEOUT,
                cls=_headers_of,
            )
            return cast(Headers, answer)

        return await self.call(target, do)

    async def get_tags(self, key: str) -> Mapping[str, str]:
        """The tags of a blob."""
        found: Mapping[str, str] = await self.call(key, lambda blob: blob.get_blob_tags())
        return found

    async def put_tags(self, key: str, tags: Mapping[str, str]) -> None:
        """Replace the tags of a blob."""
        await self.call(key, lambda blob: blob.set_blob_tags(dict(tags)))

    # Blocks, which become a blob

    async def put_block(self, key: str, block: str, payload: Payload, crc64nvme: int) -> None:
        """Store a block under its name, beside the blob."""

        async def do(blob: BlobClient, body: Any, crc: Headers) -> None:  # noqa: ANN401 - the SDK's own type is of files
            await blob.stage_block(block, body, payload.size, headers={**crc, **self._scope})

        await self.send(key, payload, crc64nvme, do)

    async def put_block_from(self, key: str, block: str, source: str, span: tuple[int, int], e_tag: str) -> None:
        """Store a block that is a range of another blob, if that is still the one with this e_tag."""
        url, authorization = await self._source(source)
        start, end = span
        headers = {"x-ms-source-if-match": e_tag, **self._scope}
        await self.call(
            key,
            lambda blob: blob.stage_block_from_url(
                block,
                url,
                start,
                end - start,
                source_authorization=authorization,
                headers=dict(headers),
                read_timeout=_COPY_TIMEOUT,
            ),
        )

    async def list_blocks(self, key: str) -> Mapping[str, int]:
        """The sizes of all blocks beside the blob, by name."""
        _, found = await self.call(key, lambda blob: blob.get_block_list("uncommitted"))
        return {block.id: block.size for block in found}

    async def put_block_list(self, key: str, blocks: Sequence[str], headers: Headers) -> Headers:
        """Make a blob of blocks, in order; all others beside it are dropped."""
        named = [BlobBlock(block) for block in blocks]
        given = {**headers, **self._kept}

        async def do(blob: BlobClient) -> Headers:
            answer: object = await blob.commit_block_list(named, headers=dict(given), cls=_headers_of)
            return cast(Headers, answer)

        return await self.call(key, do)

    # Journals

    async def create_journal(self, key: str, headers: Headers) -> None:
        """Make an empty blob that can be appended to."""
        await self.call(key, lambda blob: blob.create_append_blob(headers={**headers, **self._scope}))

    async def append(self, key: str, line: bytes) -> None:
        """Write a line at the end of a journal; perhaps twice."""
        await self.call(key, lambda blob: blob.append_block(line, headers=dict(self._scope)))

    # Signing

    async def sign(self, key: str, permission: BlobSasPermissions, **given: Any) -> str:  # noqa: ANN401 - the signer's
        """The URL of a blob, with what lets its holder do something to it."""
        with translated(key):
            blob = await self._blob(key)
            signer = (await self._connection.clients()).signer
            return f"{blob.url}?{await signer.sas(blob.blob_name, permission, **given)}"

    async def _source(self, key: str) -> tuple[str, str | None]:
        """A blob as a copy names what it is a copy of, and what lets the service read it."""
        with translated(key):
            clients = await self._connection.clients()
            authorization = await clients.signer.source_authorization()
            blob = await self._blob(key)
            if authorization is not None:
                return blob.url, authorization
            return f"{blob.url}?{await clients.signer.sas(blob.blob_name, _READING)}", None

    @property
    def _scope(self) -> Headers:
        return {name: value for name, value in self._kept.items() if name == "x-ms-encryption-scope"}


def _headers_of(response: PipelineResponse[Any, Any], *_: object) -> Headers:
    return cast(Headers, response.http_response.headers)


def _download_of(response: PipelineResponse[Any, Any], body: AsyncIterator[bytes], _: object) -> Download:
    answer = response.http_response
    return Download(answer.headers, body, answer.internal_response.close)
