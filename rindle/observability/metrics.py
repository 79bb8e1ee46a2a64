"""Prometheus metrics: an :class:`Observer` that counts, and what a scrape is answered with.

The only module that knows the client library. Where several processes of one machine share ``PROMETHEUS_MULTIPROC_DIR``
they count into files there, and whichever is scraped answers for all of them.
"""

import asyncio
import atexit
import errno
import math
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    make_asgi_app,
    start_http_server,
    write_to_textfile,
)
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.values import MutexValue, ValueClass
from typing_extensions import override

from rindle.errors import ConfigurationError, RindleError
from rindle.observability.context import current_request
from rindle.observability.observer import Observer, Outcome

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
OTHER = "other"

_PATCH_SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3600)
_PART_SECONDS = (0.03, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)
_LOCK_SECONDS = (0.01, 0.1, 0.5, 1, 2, 5, 10)
_TAIL_REASONS = ("elsewhere", "missing", "short", "corrupt")
_ALERTING_CODES = ("database_unavailable", "internal_error", "lease_lost", "store_full", "upload_locked")
_OF_REAP = ("rindle_reaper_last_success_timestamp_seconds", "rindle_orphaned_multipart_uploads")


@dataclass(frozen=True, slots=True)
class Description:
    """One metric, as a scrape names it."""

    name: str
    kind: str
    labels: tuple[str, ...]
    text: str


class Metrics(Observer):
    """Counts what it is told, for one process.

    ``store`` is the kind of store that parts go to, a label. ``registry``: where the host keeps its own metrics, and
    exposes these with them; without one they have a registry of their own, which :attr:`app` and :meth:`serving`
    expose. ConfigurationError if ``PROMETHEUS_MULTIPROC_DIR`` cannot be used.
    """

    def __init__(self, *, store: str, registry: CollectorRegistry | None = None) -> None:
        self.registry = CollectorRegistry() if registry is None else registry
        self._exposed = self.registry
        self._shared = ValueClass is not MutexValue
        if self._shared:
            self._exposed = _shared_registry()
        elif registry is None:
            ProcessCollector(registry=self.registry)
        self.descriptions: list[Description] = []
        """What there is, in the order in which it is made."""
        self._store = store
        self._make_request_metrics()
        self._make_upload_metrics()
        self._make_byte_metrics()
        self._make_store_metrics()
        self._make_tail_metrics()
        self._make_reaper_metrics()
        build = self._gauge("build_info", "The version that runs; always 1.", "version", mode="max")
        build.labels(version("rindle-uploads")).set(1)

    # What is answered

    @property
    def app(self) -> Any:  # noqa: ANN401 - an ASGI app, of which this room knows nothing
        """Answers a scrape over ASGI, whatever the path."""
        return make_asgi_app(self._exposed)

    @asynccontextmanager
    async def serving(self, host: str, port: int) -> AsyncIterator[int]:
        """Answer scrapes on a port of their own, in a thread, while the block runs; the port that it is.

        ConfigurationError if there is no listening there.
        """
        try:
            server, thread = start_http_server(port, host, self._exposed)
        except (OSError, OverflowError) as error:
            in_use = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
            why = "it is in use" if in_use else str(getattr(error, "strerror", None) or error)
            msg = f"cannot serve metrics on {host} port {port}: {why}; choose another with --metrics-port"
            raise ConfigurationError(msg) from error
        try:
            yield server.server_port
        finally:
            await asyncio.to_thread(server.shutdown)
            thread.join()
            server.server_close()

    def write_file(self, path: Path) -> None:
        """Write what is to be known of a reaper that cannot be scraped, for node_exporter's textfile collector.

        Atomic: the file is the old one or the new one. ConfigurationError if it cannot be written.
        """
        try:
            write_to_textfile(str(path), self.registry.restricted_registry(_OF_REAP))
        except OSError as error:
            msg = f"the file for metrics {path} cannot be written: {error.strerror}; choose another with --metrics-file"
            raise ConfigurationError(msg) from error

    # Requests

    def _make_request_metrics(self) -> None:
        self._requests = self._counter(
            "http_requests", "Requests for uploads, by how they were answered.", "method", "code"
        )
        self._errors = self._counter("errors", "Requests that were answered with an error of rindle's.", "code")
        self._codes = frozenset(kind.code for kind in _kinds_below(RindleError))
        for code in _ALERTING_CODES:  # an increase is only seen of what has been there before
            self._errors.labels(code)

    @override
    def request_answered(self, method: str, status: int | None) -> None:
        known = method if method in METHODS else OTHER
        self._requests.labels(known, "none" if status is None else str(status)).inc()

    @override
    def error_answered(self, code: str) -> None:
        self._errors.labels(code if code in self._codes else OTHER).inc()

    # Uploads

    def _make_upload_metrics(self) -> None:
        self._created = self._counter(
            "uploads_created", "Uploads that were made, partial ones and concatenations too.", "protocol", "store"
        )
        self._finished = self._counter(
            "uploads_finished", "Uploads whose object stands at its place, without partial ones.", "store"
        )
        self._terminated = self._counter(
            "uploads_terminated",
            "Uploads that ended without an object: by their client's wish, or by the error that lost their bytes.",
            "reason",
        )
        self._expired = self._counter("uploads_expired", "Uploads that were dropped because their time was over.")
        self._fenced = self._counter("fence_rejections", "Commits that were refused: another writer had been there.")
        self._finished.labels(self._store)
        self._terminated.labels("client")
        self._terminated.labels("tus_tail_missing")

    @override
    def upload_created(self) -> None:
        request = current_request()
        self._created.labels("none" if request is None else request.protocol, self._store).inc()

    @override
    def upload_finished(self) -> None:
        self._finished.labels(self._store).inc()

    @override
    def upload_terminated(self, reason: str) -> None:
        self._terminated.labels(reason).inc()

    @override
    def upload_expired(self) -> None:
        self._expired.inc()

    @override
    def fence_rejected(self) -> None:
        self._fenced.inc()

    # Bytes

    def _make_byte_metrics(self) -> None:
        self._received = self._counter(
            "bytes_received", "Bytes of bodies that arrived, also those that were not kept.", "protocol"
        )
        self._active = self._gauge("active_patches", "Appends under way.", mode="livesum")
        self._patches = self._histogram("patch_duration_seconds", "How long appends took.", _PATCH_SECONDS)
        self._parts = self._histogram(
            "part_upload_seconds",
            "How long it took to store a part, or an object that is a single one.",
            _PART_SECONDS,
            "store",
            "outcome",
        )
        self._lock_waits = self._histogram(
            "lock_wait_seconds", "How long appends waited for another one of their upload to end.", _LOCK_SECONDS
        )
        self._buffered = self._gauge(
            "buffered_bytes", "Bytes of the memory budget that bodies take, or may take any moment.", mode="livesum"
        )

    @override
    @contextmanager
    def appending(self) -> Iterator[None]:
        self._active.inc()
        try:
            with self._patches.time():
                yield
        finally:
            self._active.dec()

    @override
    @contextmanager
    def storing_part(self) -> Iterator[None]:
        began = perf_counter()
        outcome = "cancelled"
        try:
            yield
            outcome = "done"
        except Exception:
            outcome = "failed"
            raise
        finally:
            self._parts.labels(self._store, outcome).observe(perf_counter() - began)

    @override
    @contextmanager
    def waiting_for_lock(self) -> Iterator[None]:
        with self._lock_waits.time():
            yield

    @override
    def bytes_received(self, size: int) -> None:
        request = current_request()
        self._received.labels("none" if request is None else request.protocol).inc(size)

    @override
    def memory_used(self, size: int) -> None:
        self._buffered.set(size)

    # The store

    def _make_store_metrics(self) -> None:
        self._store_seconds = self._histogram(
            "store_operation_seconds",
            "How long calls of the store took, reads until their first byte.",
            _PART_SECONDS,
            "store",
            "operation",
        )
        self._store_errors = self._counter(
            "store_errors", "Calls of the store that failed, by the class of error.", "store", "operation", "error"
        )
        self._errors_by_name = frozenset(kind.__name__ for kind in _kinds_below(RindleError)) | {"CancelledError"}

    @override
    def store_called(self, operation: str, *, seconds: float, error: str | None) -> None:
        self._store_seconds.labels(self._store, operation).observe(seconds)
        if error is not None:
            known = error if error in self._errors_by_name else OTHER
            self._store_errors.labels(self._store, operation, known).inc()

    # Tails

    def _make_tail_metrics(self) -> None:
        self._tail_missing = self._counter(
            "tail_missing", "Requests that found acknowledged bytes elsewhere, missing, short or corrupt.", "reason"
        )
        self._rewound = self._counter("rewinds", "Uploads that went back to their last part: their tail was lost.")
        self._spilled = self._counter("tails_spilled", "Tails moved from this node's disk into the store.")
        self._tail_bytes = self._gauge(
            "tail_bytes", "Bytes of tails on this node's disk, of all processes.", mode="livemostrecent"
        )
        self._tail_free = self._gauge(
            "tail_disk_free_bytes", "Bytes that are free on the disk for tails.", mode="livemostrecent"
        )
        for reason in _TAIL_REASONS:
            self._tail_missing.labels(reason)

    @override
    def tail_missing(self, reason: str) -> None:
        self._tail_missing.labels(reason).inc()

    @override
    def upload_rewound(self) -> None:
        self._rewound.inc()

    @override
    def tail_spilled(self) -> None:
        self._spilled.inc()

    @override
    def tails_measured(self, size: int, free: int) -> None:
        self._tail_bytes.set(size)
        self._tail_free.set(free)

    # The reaper

    def _make_reaper_metrics(self) -> None:
        self._reaper_success = self._gauge(
            "reaper_last_success_timestamp_seconds", "When a run of the reaper last came to its end.", mode="max"
        )
        self._reaped = self._counter("reaper_items", "What runs of the reaper came across.", "kind", "outcome")
        self._orphans = self._gauge(
            "orphaned_multipart_uploads",
            "Multiparts of no upload that the last sweep had to leave in the store; NaN before the first.",
            mode="mostrecent",
        )
        if not self._shared:
            self._orphans.set(math.nan)  # nobody has looked yet

    @override
    def reaped(self, kind: str, outcome: Outcome, count: int = 1) -> None:
        self._reaped.labels(kind, outcome).inc(count)

    @override
    def reaper_succeeded(self, at: datetime) -> None:
        self._reaper_success.set(at.timestamp())

    @override
    def stray_multiparts(self, count: int) -> None:
        self._orphans.set(count)

    # How they are made

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        self._describe(f"{name}_total", "counter", text, labels)
        return Counter(f"rindle_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str, mode: "_Sharing") -> Gauge:
        self._describe(name, "gauge", text, labels)
        return Gauge(f"rindle_{name}", text, labels, registry=self.registry, multiprocess_mode=mode)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        self._describe(name, "histogram", text, labels)
        return Histogram(f"rindle_{name}", text, labels, registry=self.registry, buckets=buckets)

    def _describe(self, name: str, kind: str, text: str, labels: Sequence[str]) -> None:
        self.descriptions.append(Description(f"rindle_{name}", kind, tuple(labels), text))


_Sharing = Literal["max", "livesum", "mostrecent", "livemostrecent"]


def _kinds_below(kind: type[RindleError]) -> Iterator[type[RindleError]]:
    """Rindle's own errors; what a host derives from them is its own affair."""
    if kind.__module__.startswith("rindle."):
        yield kind
    for derived in kind.__subclasses__():
        yield from _kinds_below(derived)


def _shared_registry() -> CollectorRegistry:
    shared = CollectorRegistry()
    try:
        MultiProcessCollector(shared)  # type: ignore[no-untyped-call]
    except ValueError as error:
        msg = f"metrics cannot be shared: {error}; make the folder, and empty it before each start"
        raise ConfigurationError(msg) from error
    atexit.register(_leave)
    return shared


def _leave() -> None:
    mark_process_dead(os.getpid())  # type: ignore[no-untyped-call]
