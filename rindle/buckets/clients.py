"""The SDK's clients for buckets and for who may use them: made here and nowhere else."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from contextvars import ContextVar
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, cast

from aioboto3 import Session
from aiobotocore.config import AioConfig
from typing_extensions import override

from rindle.buckets.errors import translated, translated_iam
from rindle.buckets.services import FORCE_HEADER, Service, is_aws, profile_at, service_of, tigris_iam
from rindle.errors import ConfigurationError
from rindle.objectstore.errors import StoreUnavailableError
from rindle.objectstore.s3.client import Client, new_session, refuse_dtd
from rindle.objectstore.s3.profiles import PROFILES

Answer = Mapping[str, Any]

# The SDK has no headers for one call. A context is one task's, so no other deletion ever gets this one.
_forced: ContextVar[bool] = ContextVar("_forced", default=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminOptions:
    """Where the service is. What is not said is what the SDK finds: in ``AWS_…`` variables, its files, or AWS itself.

    Credentials come by the SDK's own ways; ``aws_profile``: which profile of ``~/.aws`` has them. ``iam_endpoint`` need
    not be said for AWS and for Tigris. ``profile``: which service it is, one of
    :data:`~rindle.objectstore.s3.profiles.PROFILES`, where that cannot be told from the endpoint; AWS and Tigris are
    known by their domains.
    """

    endpoint: str | None = None
    iam_endpoint: str | None = None
    region: str | None = None
    profile: str | None = None
    aws_profile: str | None = None
    path_style: bool | None = None
    attempts: int = 4
    connect_timeout: float = 5
    read_timeout: float = 60

    def __post_init__(self) -> None:
        if self.profile is not None and self.profile not in PROFILES:
            nearest = get_close_matches(self.profile, PROFILES, n=1, cutoff=0)[0]
            msg = f"there is no such profile of a service; did you mean {nearest}? (One of ~/.aws is an aws_profile.)"
            raise ConfigurationError(msg)


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
        return service_of(self._profile_at((await self._s3()).meta.endpoint_url))

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

    def _profile_at(self, endpoint: str) -> str:
        return self._options.profile or profile_at(endpoint)

    async def _s3(self) -> Client:
        with translated(""):
            async with self._making:
                return await self._made_s3()

    async def _made_s3(self) -> Client:
        if "s3" not in self._made:
            endpoint = self._options.endpoint
            client: Client = None
            if endpoint is None:
                client = await self._make("s3", None, self._options.region)
                endpoint = client.meta.endpoint_url
            profile = PROFILES[self._profile_at(endpoint)]
            # One that the SDK has found in a variable is spoken to as if it had been said.
            if client is None or not is_aws(endpoint):
                region = self._options.region or profile.region
                client = await self._make("s3", endpoint, region, by_path=profile.path_style)
            client.meta.events.register_first("before-call.s3", _add_headers(profile.consistent_headers))
            self._made["s3"] = client
        return self._made["s3"]

    async def _iam(self, *, once: bool = False) -> Client:
        key = "iam once" if once else "iam"
        async with self._making:
            if key not in self._made:
                s3 = (await self._made_s3()).meta
                endpoint = self._options.iam_endpoint or tigris_iam(s3.endpoint_url)
                attempts = 1 if once else self._options.attempts
                client = await self._make("iam", endpoint, s3.region_name, attempts=attempts)
                if is_aws(client.meta.endpoint_url) and not is_aws(s3.endpoint_url):
                    msg = (
                        f"where {s3.endpoint_url} keeps its users and keys is not known, and AWS is not to be asked: "
                        "say its IAM endpoint. Not every service has one"
                    )
                    raise ConfigurationError(msg)
                self._made[key] = client
            return self._made[key]

    async def _make(
        self,
        service: str,
        endpoint: str | None,
        region: str | None,
        *,
        by_path: bool | None = None,
        attempts: int | None = None,
    ) -> Client:
        if self._closed:
            msg = "the admin is closed"
            raise StoreUnavailableError(msg, store=service)
        if self._session is None:
            self._session = new_session(aws_profile=self._options.aws_profile, region=None)
        config = self._configuration(by_path, attempts or self._options.attempts)
        making = self._session.client(service, region_name=region, endpoint_url=endpoint, config=config)
        client = await self._stack.enter_async_context(making)
        client.meta.events.register_first(f"before-parse.{service}", refuse_dtd)
        return client

    def _configuration(self, by_path: bool | None, attempts: int) -> AioConfig:  # noqa: FBT001 - None is an answer too
        asked = self._options.path_style
        style = {None: "auto", True: "path", False: "virtual"}[by_path if asked is None else asked]
        return cast(
            AioConfig,
            AioConfig(
                signature_version="v4",
                connect_timeout=self._options.connect_timeout,
                read_timeout=self._options.read_timeout,
                retries={"mode": "standard", "total_max_attempts": attempts},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                s3={"addressing_style": style},
            ),
        )


def _add_headers(headers: Mapping[str, str]) -> Callable[..., None]:
    def add(params: dict[str, Any], **_: object) -> None:
        params["headers"].update(headers)
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
