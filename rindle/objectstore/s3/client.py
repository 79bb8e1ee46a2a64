"""The SDK's client: made here and nowhere else, and so that bodies are sent without a second copy or hash."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from datetime import datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, cast

import aioboto3
from aiobotocore.awsrequest import AioAWSResponse
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from botocore.awsrequest import AWSPreparedRequest
from botocore.exceptions import HTTPClientError, NoCredentialsError
from botocore.loaders import Loader
from botocore.utils import parse_timestamp

from rindle.objectstore.errors import ObjectStoreError, StoreUnavailableError
from rindle.objectstore.s3.errors import STORE
from rindle.objectstore.s3.options import S3Options
from rindle.objectstore.s3.signing import Keys
from rindle.objectstore.transfer import RequestBody

# The SDK makes the methods of its clients from a description, when it runs: there is nothing to type them against.
Client = Any
Answer = Mapping[str, Any]

# What the SDK reads from its own files, a fifth of a second for each client that does not share it.
_DESCRIPTIONS = Loader()


class AttemptedBody(RequestBody):
    """``attempted``: what came of an attempt that the SDK has not made, and is to take for its own."""

    attempted: AioAWSResponse | HTTPClientError | None = None


class Connection:
    """One client, and its pool of connections, made when it is first needed. For one event loop.

    ``consistent``: its requests ask to see all that was written before, where the service wants to be asked.
    """

    def __init__(self, options: S3Options, *, consistent: bool) -> None:
        self.headers: Mapping[str, str] = options.service.consistent_headers if consistent else {}
        """What every request says besides."""
        self._options = options
        self._consistent = consistent
        self._stack = AsyncExitStack()
        self._making = asyncio.Lock()
        self._client: Client | None = None
        self._session: aioboto3.Session | None = None
        self._closed = False

    async def client(self) -> Client:
        """The client. What the SDK finds wrong with its configuration is raised as it is."""
        async with self._making:
            if self._closed:
                msg = "the store is closed"
                raise StoreUnavailableError(msg, store=STORE)
            if self._client is None:
                service = self._options.service
                region = service.region if self._consistent else service.nearby_region
                self._session = new_session(aws_profile=self._options.aws_profile, region=region)
                client = await self._stack.enter_async_context(_make_client(self._session, self._options))
                if self.headers:
                    client.meta.events.register("before-call.s3", _add_headers(self.headers))
                client.meta.events.register_first("before-send.s3", _lay_before)
                # After the SDK's own pause for a service that throttles, which is not the service's time.
                client.meta.events.register_last("before-send", _offer_body)
                client.meta.events.register_first("needs-retry.s3", _settle_body)
                client.meta.events.register_first("before-parse.s3", refuse_dtd)
                self._client = client
            return self._client

    async def keys(self) -> Keys:
        """What the client signs with, renewed where it is temporary; what the SDK raises is raised as it is."""
        credentials = None if self._session is None else await self._session.get_credentials()
        if credentials is None:
            raise NoCredentialsError
        frozen = await credentials.get_frozen_credentials()
        return Keys(frozen.access_key, frozen.secret_key, frozen.token)

    async def aclose(self) -> None:
        """Close all connections; harmless when done twice."""
        async with self._making:
            self._closed = True
            await self._stack.aclose()


def new_session(*, aws_profile: str | None, region: str | None) -> aioboto3.Session:
    """The SDK's session, from which clients for any of its services are made."""
    inner = AioSession(profile=aws_profile)
    inner.register_component("data_loader", _DESCRIPTIONS)
    inner.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=parse_instant)
    return aioboto3.Session(botocore_session=inner, region_name=region)


def parse_instant(said: str | float) -> datetime:
    """An instant in an answer. The SDK's own way takes any spelling, and half the time of a listing."""
    if isinstance(said, str):
        for parse in (datetime.fromisoformat, parsedate_to_datetime):
            with suppress(ValueError):
                instant = parse(said)
                if instant.tzinfo is not None:
                    return instant
    return cast(datetime, parse_timestamp(said))


def refuse_dtd(response_dict: dict[str, Any], **_: object) -> None:
    """Let no document type declaration reach the SDK's XML parser, which would expand its entities.

    No service sends one with what it was asked for. An error page of a proxy may have one, and is an error without it.
    """
    body = response_dict["body"]
    if isinstance(body, bytes) and b"<!DOCTYPE" in body:
        if response_dict["status_code"] < HTTPStatus.MULTIPLE_CHOICES:
            msg = "the answer has a document type declaration, so it is not read; is the endpoint a service's?"
            raise ObjectStoreError(msg, store=STORE)
        response_dict["body"] = b""


def _make_client(session: aioboto3.Session, options: S3Options) -> AbstractAsyncContextManager[Client]:
    return cast(
        AbstractAsyncContextManager[Client],
        session.client("s3", endpoint_url=options.endpoint, config=_configuration(options)),
    )


def _add_headers(headers: Mapping[str, str]) -> Callable[..., None]:
    def add(params: Mapping[str, dict[str, str]], **_: object) -> None:
        params["headers"].update(headers)

    return add


def _lay_before(request: AWSPreparedRequest, **_: object) -> AioAWSResponse | None:
    """What came of the attempt before the SDK's first, if there was one, stands for that."""
    if not isinstance(request.body, AttemptedBody):
        return None
    attempted, request.body.attempted = request.body.attempted, None
    if isinstance(attempted, HTTPClientError):
        raise attempted
    return attempted


def _offer_body(request: AWSPreparedRequest, **_: object) -> None:
    if isinstance(request.body, RequestBody):
        request.body.offer()


def _settle_body(request_dict: Mapping[str, object], **_: object) -> None:
    body = request_dict["body"]
    if isinstance(body, RequestBody):
        body.settle()


def _configuration(options: S3Options) -> AioConfig:
    return cast(
        AioConfig,
        AioConfig(
            signature_version="s3v4",
            max_pool_connections=options.connections,
            tcp_keepalive=True,
            connect_timeout=options.connect_timeout,
            read_timeout=options.read_timeout,
            # Slows down for a service that throttles; how many attempts there are is bounded by call and by client.
            retries={"mode": "adaptive", "total_max_attempts": options.attempts},
            # These three belong together. Left alone, the SDK reads every body once more for a checksum of its own, or
            # for its signature, which the others do not stop.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"payload_signing_enabled": False, "addressing_style": _addressing_style(options)},
        ),
    )


def _addressing_style(options: S3Options) -> str:
    if options.service.path_style:
        return "path"
    # To the SDK "auto" means the path wherever there is an endpoint.
    return "auto" if options.endpoint is None else "virtual"
