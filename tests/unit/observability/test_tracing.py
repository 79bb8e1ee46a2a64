import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from starlette.types import Receive, Scope, Send

from rindle.bootstrap import create_app
from rindle.objectstore.errors import NotFoundError
from rindle.observability.tracing import span
from tests.acceptance.process import environment
from tests.http import OCTETS, id_of
from tests.serving import RunningServer, serving_host

PART = 64 * 1024
PARENT = ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")


@pytest.fixture(scope="module")
def exporter() -> InMemorySpanExporter:
    """A process has one provider, for ever: the first that is set."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


@pytest.fixture
def spans(exporter: InMemorySpanExporter) -> Iterator[Callable[[], Sequence[ReadableSpan]]]:
    exporter.clear()
    yield exporter.get_finished_spans
    exporter.clear()


Spans = Callable[[], Sequence[ReadableSpan]]


def attributes(one: ReadableSpan) -> Mapping[str, Any]:
    return dict(one.attributes or {})


def tree(spans: Sequence[ReadableSpan]) -> list[str]:
    """Names with those of their parents before them, in the order of their beginnings."""
    by_id = {one.context.span_id: one for one in spans if one.context}

    def path(one: ReadableSpan) -> str:
        parent = by_id.get(one.parent.span_id) if one.parent else None
        return f"{path(parent)}/{one.name}" if parent else one.name

    return [path(one) for one in sorted(spans, key=lambda one: one.start_time or 0)]


async def test_the_steps_of_a_request(server: RunningServer, spans: Spans) -> None:
    await server.client.post(("Upload-Length", str(PART + 5)), OCTETS, PARENT, body=bytes(PART + 5))
    await server.tap.ended_all(1)
    (upload,) = await server.uploads()
    found = [one for one in spans() if attributes(one).get("rindle.upload_id") == upload.id]
    assert tree(found) == [
        "rindle POST",
        "rindle POST/rindle.claim",
        "rindle POST/rindle.store_part",
        "rindle POST/rindle.commit",
        "rindle POST/rindle.store_part",
        "rindle POST/rindle.commit",
        "rindle POST/rindle.finish",
        "rindle POST/rindle.finish/rindle.commit",
    ]
    request = found[-1]
    assert request.name == "rindle POST"
    assert (request.kind, attributes(request)) == (
        SpanKind.SERVER,
        {"http.request.method": "POST", "http.response.status_code": 201, "rindle.upload_id": upload.id},
    )
    assert request.parent is not None
    assert f"{request.parent.trace_id:032x}" in PARENT[1]
    stored = [attributes(one) for one in found if one.name == "rindle.store_part"]
    assert [(one["rindle.part_number"], one["rindle.size"]) for one in stored] == [(1, PART), (2, 5)]


async def test_within_a_hosts_span_ours_is_a_child(server: RunningServer, spans: Spans) -> None:
    app = create_app(server.parts.settings)

    async def host(scope: Scope, receive: Receive, send: Send) -> None:
        with trace.get_tracer("host").start_as_current_span("host"):
            await app(scope, receive, send)

    async with serving_host(host, lifespan="off") as client:
        await client.request("OPTIONS", "/files", [PARENT])
    await app.aclose()
    (ours,) = [one for one in spans() if one.name == "rindle OPTIONS"]
    (theirs,) = [one for one in spans() if one.name == "host"]
    assert ours.parent == theirs.context
    assert ours.kind is SpanKind.INTERNAL


async def test_a_request_that_fails(server: RunningServer, spans: Spans) -> None:
    lost = await server.client.create(10, body=b"hello")
    await server.change_row(lost, "tail_node = 'another'")
    assert (await server.client.patch(lost, 5, b"world")).status == 503
    await server.tap.ended_all(2)
    (request,) = [one for one in spans() if one.name == "rindle PATCH"]
    assert request.status.status_code is StatusCode.ERROR
    assert attributes(request)["rindle.upload_id"] == id_of(lost)


def test_of_an_error_only_the_code_is_told(spans: Spans) -> None:
    with pytest.raises(NotFoundError), span("rindle.x"):
        raise NotFoundError("no such object", store="s3", key="a/secret")
    with pytest.raises(ZeroDivisionError), span("rindle.y"):
        _ = 1 / 0
    known, foreign = spans()
    assert attributes(known) == {"error.type": "object_not_found"}
    assert attributes(foreign) == {"error.type": "ZeroDivisionError"}
    for one in (known, foreign):
        assert one.status.status_code is StatusCode.ERROR
        assert not one.status.description
        assert not one.events


def test_without_the_api_nothing_is_done() -> None:
    code = """
import contextlib, sys
sys.modules["opentelemetry"] = None
from rindle.observability.tracing import describe_request, request_span, span
assert isinstance(span("x", upload_id="a"), contextlib.nullcontext)
assert span("x") is request_span("PATCH", [])
describe_request(status=204, upload_id=None)
import rindle.bootstrap
"""
    subprocess.run([sys.executable, "-c", code], check=True, env=environment(), timeout=60)
