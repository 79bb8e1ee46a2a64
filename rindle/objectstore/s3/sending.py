"""Requests with bodies, without what the SDK does around them: that costs more than a small body does.

The SDK says where the bucket is, how requests to it are signed, and what its API's parameters are called in HTTP. With
that the first attempt is one request, made and signed here and sent on the SDK's own connections. If it goes well,
the SDK hears nothing of it. If not, what came of it is laid before the SDK as its own first attempt: errors, further
attempts, redirects and slowing down are its business alone. It gets all of them for a while when a service is in
trouble or wants to be asked elsewhere, and always where something is asked for that is not known here.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from botocore.awsrequest import AWSPreparedRequest
from botocore.exceptions import BotoCoreError, HTTPClientError

from rindle.clock import utc_now
from rindle.objectstore.s3.client import Answer, AttemptedBody, Client, Connection
from rindle.objectstore.s3.signing import ALGORITHM, sign, spell_query

_OK = 200
_REFUSALS = range(401, 429)  # answers to what was asked. Others are about how, where or when it was: the SDK's business
_REST = 60.0  # seconds in which the SDK alone deals with a service in trouble
_ASK_FIRST = 1 << 20  # bytes from which on a service is asked whether it wants them
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the bucket is: ``path`` before the key. ``region``: for which requests are signed."""

    origin: str
    host: str
    path: str
    region: str


@dataclass(frozen=True, slots=True)
class _Operation:
    """An operation of S3's API in HTTP: what parameters are in requests, and what headers of an answer are called."""

    method: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    prefixes: Mapping[str, str]
    answers: Mapping[str, str]

    def spell(self, parameters: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, str]] | None:
        """Query and headers; None if a parameter would have to be said in another way."""
        query: dict[str, str] = {}
        headers: dict[str, str] = {}
        for name, value in parameters.items():
            if name in self.query:
                query[self.query[name]] = _spell(value)
            elif name in self.headers:
                headers[self.headers[name]] = _spell(value)
            elif name in self.prefixes:
                headers |= {f"{self.prefixes[name]}{key.lower()}": _spell(each) for key, each in value.items()}
            else:
                return None
        return (query, headers) if all(value.isascii() for value in headers.values()) else None

    def read(self, headers: Mapping[str, str]) -> Answer:
        """An answer as the SDK gives it, as far as it is in headers."""
        return {name: headers[header] for name, header in self.answers.items() if header in headers}


class Sender:
    """Sends bodies to one bucket."""

    def __init__(self, connection: Connection, bucket: str) -> None:
        self._connection = connection
        self._bucket = bucket
        self._place: _Place | None = None
        self._operations: dict[str, _Operation] = {}
        self._rests_until = 0.0

    async def send(self, operation: str, key: str, body: AttemptedBody, parameters: Mapping[str, Any]) -> Answer:
        """One call with a body, by the SDK's name for it, and the answer. What the SDK raises is raised as it is."""
        client = await self._connection.client()
        if asyncio.get_running_loop().time() >= self._rests_until:
            answer = await self._attempt(client, operation, key, body, parameters)
            if answer is not None:
                return answer
        said: Answer = await getattr(client, operation)(Bucket=self._bucket, Key=key, Body=body, **parameters)
        return said

    async def _attempt(
        self, client: Client, name: str, key: str, body: AttemptedBody, parameters: Mapping[str, Any]
    ) -> Answer | None:
        operation = self._find_operation(client, name)
        spelt = operation.spell(parameters)
        place = await self._find_place(client)
        if spelt is None or place is None:
            return None
        query, headers = spelt
        url, signed = await self._sign(operation.method, place, key, query, headers)
        signed["user-agent"] = "rindle"
        if len(body) >= _ASK_FIRST:
            signed["expect"] = "100-continue"
        request = AWSPreparedRequest(operation.method, url, signed, body, stream_output=False)
        body.offer()
        try:
            # The SDK's own: with its TLS, proxies, timeouts and connections.
            response = await client._endpoint.http_session.send(request)  # noqa: SLF001
        except HTTPClientError as error:
            if not body.failed.done():
                self._rest()
            body.attempted = error
            return None
        finally:
            body.settle()
        if response.status_code == _OK:
            return operation.read(response.headers)
        if response.status_code not in _REFUSALS:
            self._rest()
        body.attempted = response
        return None

    def _rest(self) -> None:
        self._rests_until = asyncio.get_running_loop().time() + _REST
        self._place = None

    async def _sign(
        self, method: str, place: _Place, key: str, query: Mapping[str, str], headers: Mapping[str, str]
    ) -> tuple[str, dict[str, str]]:
        path, spelt = quote(place.path + key, safe="/"), spell_query(query)
        keys = await self._connection.keys()
        named = {"host": place.host, **headers, **self._connection.headers}
        signed = sign(method, path, spelt, named, keys=keys, region=place.region, now=utc_now())
        return f"{place.origin}{path}" + (f"?{spelt}" if spelt else ""), signed

    async def _find_place(self, client: Client) -> _Place | None:
        """As the SDK would go about it; None where that is another way than the usual."""
        if self._place is None:
            try:
                url = await client.generate_presigned_url("put_object", Params={"Bucket": self._bucket, "Key": "k"})
            except BotoCoreError:
                return None  # no credentials, no endpoint: the SDK will say it
            parts = urlsplit(url)
            query = parse_qs(parts.query)
            if query.get("X-Amz-Algorithm") != [ALGORITHM] or "X-Amz-S3session-Token" in query:
                return None
            *_, region, service, _ = query["X-Amz-Credential"][0].split("/")
            if service != "s3":
                return None
            usual = parts.port == _PORTS[parts.scheme]
            self._place = _Place(
                origin=f"{parts.scheme}://{parts.netloc}",
                host=parts.netloc.removesuffix(f":{parts.port}") if usual else parts.netloc,
                path=parts.path.removesuffix("k"),
                region=region,
            )
        return self._place

    def _find_operation(self, client: Client, name: str) -> _Operation:
        if name not in self._operations:
            model = client.meta.service_model.operation_model(client.meta.method_to_api_mapping[name])
            said = {
                location: {
                    parameter: shape.serialization["name"]
                    for parameter, shape in model.input_shape.members.items()
                    if shape.serialization.get("location") == location
                }
                for location in ("querystring", "header", "headers")
            }
            self._operations[name] = _Operation(
                method=model.http["method"],
                query=said["querystring"],
                headers={parameter: header.lower() for parameter, header in said["header"].items()},
                prefixes={parameter: prefix.lower() for parameter, prefix in said["headers"].items()},
                answers={
                    parameter: shape.serialization["name"].lower()
                    for parameter, shape in model.output_shape.members.items()
                    if shape.serialization.get("location") == "header"
                },
            )
        return self._operations[name]


def _spell(value: str | int | bool) -> str:  # noqa: FBT001 - it is one of many
    return str(value).lower() if isinstance(value, bool) else str(value)
