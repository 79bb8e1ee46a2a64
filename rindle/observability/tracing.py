"""OpenTelemetry spans, by its API alone: whoever runs the process brings the SDK, or nothing is recorded.

The only module that knows the API. Where it is not installed, or nobody has set a provider, spans cost nothing.
Attributes name the upload and say sizes and numbers; no key, path, header or message of an error.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext

from rindle.errors import RindleError

try:
    from opentelemetry import propagate, trace
    from opentelemetry.trace import SpanKind, Status, StatusCode
except ImportError:
    _INSTALLED = False
else:
    _INSTALLED = True
    _tracer = trace.get_tracer("rindle")

Attribute = str | int
_NOTHING = nullcontext()


def span(name: str, **attributes: Attribute) -> AbstractContextManager[None]:
    """A step of a request, as a child of the span that is current. Attributes get the prefix ``rindle.``."""
    return _step(name, attributes) if _is_wanted() else _NOTHING


def request_span(method: str, headers: Iterable[tuple[bytes, bytes]]) -> AbstractContextManager[None]:
    """A request. If the host has no span for it, it continues the trace that the request names (W3C Trace Context)."""
    return _request(method, headers) if _is_wanted() else _NOTHING


def describe_request(*, status: int | None, upload_id: str | None) -> None:
    """Say on the span of a request how it was answered, and which upload it was about."""
    if not _is_wanted():
        return
    current = trace.get_current_span()
    if upload_id is not None:
        current.set_attribute("rindle.upload_id", upload_id)
    if status is not None:
        current.set_attribute("http.response.status_code", status)
        if status >= 500:  # noqa: PLR2004 - the server's own errors
            current.set_status(Status(StatusCode.ERROR))


def _is_wanted() -> bool:
    return _INSTALLED and not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


@contextmanager
def _step(name: str, attributes: Mapping[str, Attribute]) -> Iterator[None]:
    # Not the API's own way with exceptions: it records their messages, and those name keys and hosts.
    with _tracer.start_as_current_span(
        name, attributes=_prefixed(attributes), record_exception=False, set_status_on_exception=False
    ) as current:
        try:
            yield
        except Exception as error:
            current.set_attribute("error.type", error.code if isinstance(error, RindleError) else type(error).__name__)
            current.set_status(Status(StatusCode.ERROR))
            raise


@contextmanager
def _request(method: str, headers: Iterable[tuple[bytes, bytes]]) -> Iterator[None]:
    nested = trace.get_current_span().get_span_context().is_valid
    carrier = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}
    with _tracer.start_as_current_span(
        f"rindle {method}",
        context=None if nested else propagate.extract(carrier),
        kind=SpanKind.INTERNAL if nested else SpanKind.SERVER,
        attributes={"http.request.method": method},
        record_exception=False,
        set_status_on_exception=False,
    ):
        yield


def _prefixed(attributes: Mapping[str, Attribute]) -> dict[str, Attribute]:
    return {f"rindle.{name}": value for name, value in attributes.items()}
