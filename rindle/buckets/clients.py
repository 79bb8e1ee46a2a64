"""The SDK's clients for buckets and for who may use them: made here and nowhere else."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, cast

from aioboto3 import Session
from aiobotocore.config import AioConfig
from typing_extensions import override

from rindle.buckets.errors import translated, translated_iam
from rindle.buckets.services import FORCE_HEADER, SERVICES, Named, Service, is_aws, service_at, tigris_iam
from rindle.errors import ConfigurationError
from rindle.objectstore.errors import StoreUnavailableError
from rindle.objectstore.s3.client import Client, new_session, refuse_dtd

Answer = Mapping[str, Any]

# The SDK has no headers for one call. A context is one task's, so no other deletion ever gets this one.
_forced: ContextVar[bool] = ContextVar("_forced", default=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminOptions:
    """Where the service is. What is not said is what the SDK finds: in ``AWS_…`` variables, its files, or AWS itself.

    Credentials come by the SDK's own ways. ``iam_endpoint`` need not be said for AWS and for Tigris. ``service``: how
    it is spoken to, where that cannot be told from the endpoint: Tigris is known by its domains, any other is taken for
    one that does as AWS does.
    """

    endpoint: str | None = None
    iam_endpoint: str | None = None
    region: str | None = None
    profile: str | None = None
    service: Named | None = None
    path_style: bool | None = None
    attempts: int = 4
    connect_timeout: float = 5
    read_timeout: float = 60


class Clients:
    """A client for S3, and clients for IAM, made when they are first needed. For one event loop."""

    def __init__(self, options: AdminOptions) -> None:
        self._options = options
        self._stack = AsyncExitStack()
        self._making = asyncio.Lock()
        self._session: Session | None = None
        self._made: dict[str, Client] = {}
        self._closed = False

    async def service(self) -> Service:
        """Whose service it is."""
        return self._service_at((await self._s3()).meta.endpoint_url)

    async def region(self) -> str:
        """Where buckets are made."""
        return cast(str, (await self._s3()).meta.region_name)

    async def partition(self) -> str:
        """What comes first in ARNs: ``aws``, elsewhere ``aws-cn`` or ``aws-us-gov``."""
        return cast(str, (await self._s3()).meta.partition)

    async def call(self, operation: str, bucket: str, **parameters: Any) -> Answer:  # noqa: ANN401 - the SDK has no types
        """One call of S3's about a bucket."""
        with translated(bucket):
            answer: Answer = await getattr(await self._s3(), operation)(Bucket=bucket, **parameters)
            return answer

    async def delete_with_content(self, bucket: str) -> None:
        """Delete a bucket whose service empties it when it is told to."""
        reset = _forced.set(True)
        try:
            await self.call("delete_bucket", bucket)
        finally:
            _forced.reset(reset)

    async def pages(self, operation: str, bucket: str | None, **parameters: Any) -> AsyncIterator[Answer]:  # noqa: ANN401 - the SDK has no types
        """All pages of one of S3's listings, fetched as they are read."""
        asked = parameters if bucket is None else {"Bucket": bucket, **parameters}
        with translated(bucket or ""):
            paginator = (await self._s3()).get_paginator(operation)
            async for page in paginator.paginate(**asked):
                yield page

    async def call_iam(self, operation: str, *, once: bool = False, **parameters: Any) -> Answer:  # noqa: ANN401 - the SDK has no types
        """One call of IAM's. ``once``: it is not sent again when there is no answer, as it would then be done twice."""
        with translated_iam():
            answer: Answer = await getattr(await self._iam(once=once), operation)(**parameters)
            return answer

    async def require_iam(self) -> None:
        """ConfigurationError when it is not known where IAM is."""
        await self._iam()

    async def items_iam(self, operation: str, name: str, **parameters: Any) -> AsyncIterator[Answer]:  # noqa: ANN401 - the SDK has no types
        """Everything in one of IAM's listings that is under a name in its pages."""
        with translated_iam():
            paginator = (await self._iam()).get_paginator(operation)
            async for page in paginator.paginate(**parameters):
                for item in page.get(name, ()):
                    yield item

    async def aclose(self) -> None:
        """Close all connections; harmless when done twice."""
        async with self._making:
            self._closed = True
            await self._stack.aclose()

    def _service_at(self, endpoint: str) -> Service:
        named = self._options.service
        return service_at(endpoint) if named is None else SERVICES[named]

    async def _s3(self) -> Client:
        with translated(""):
            async with self._making:
                return await self._made_s3()

    async def _made_s3(self) -> Client:
        if "s3" not in self._made:
            client = await self._make("s3", self._options.endpoint, self._options.region, self._options.attempts)
            client.meta.events.register_first(
                "before-call.s3", _add_headers(self._service_at(client.meta.endpoint_url))
            )
            self._made["s3"] = client
        return self._made["s3"]

    async def _iam(self, *, once: bool = False) -> Client:
        key = "iam once" if once else "iam"
        async with self._making:
            if key not in self._made:
                s3 = (await self._made_s3()).meta
                endpoint = self._options.iam_endpoint or tigris_iam(s3.endpoint_url)
                client = await self._make("iam", endpoint, s3.region_name, 1 if once else self._options.attempts)
                if is_aws(client.meta.endpoint_url) and not is_aws(s3.endpoint_url):
                    msg = (
                        f"where {s3.endpoint_url} keeps its users and keys is not known, and AWS is not to be asked: "
                        "say its IAM endpoint. Not every service has one"
                    )
                    raise ConfigurationError(msg)
                self._made[key] = client
            return self._made[key]

    async def _make(self, service: str, endpoint: str | None, region: str | None, attempts: int) -> Client:
        if self._closed:
            msg = "the admin is closed"
            raise StoreUnavailableError(msg, store=service)
        if self._session is None:
            self._session = new_session(aws_profile=self._options.profile, region=None)
        making = self._session.client(
            service, region_name=region, endpoint_url=endpoint, config=self._configuration(attempts)
        )
        client = await self._stack.enter_async_context(making)
        client.meta.events.register_first(f"before-parse.{service}", refuse_dtd)
        return client

    def _configuration(self, attempts: int) -> AioConfig:
        endpoint = self._options.endpoint
        by_path = self._options.path_style
        if by_path is None:
            by_path = endpoint is not None and self._service_at(endpoint).path_style
        return cast(
            AioConfig,
            AioConfig(
                signature_version="v4",
                connect_timeout=self._options.connect_timeout,
                read_timeout=self._options.read_timeout,
                retries={"mode": "standard", "total_max_attempts": attempts},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                s3={"addressing_style": "path" if by_path else "auto"},
            ),
        )


def _add_headers(service: Service) -> Any:  # noqa: ANN401 - the SDK has no types
    def add(params: dict[str, Any], **_: object) -> None:
        params["headers"].update(service.headers)
        if _forced.get():
            params["headers"][FORCE_HEADER] = "true"

    return add


class _HideSecrets(logging.Filter):
    """The SDK's parser logs answers as they come, at DEBUG. The one that has a new key is not shown."""

    @override
    def filter(self, record: logging.LogRecord) -> bool:
        if "SecretAccessKey" in record.getMessage():
            record.msg, record.args = "(an answer with a secret)", ()
        return True


logging.getLogger("botocore.parsers").addFilter(_HideSecrets())
