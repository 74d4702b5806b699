"""What /metrics says: Prometheus text, names as in Realm's interface, on a registry of our own.

No label takes a value from a client: tenants come from the key file, models from what is loaded, statuses
and error types from lists here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from realm_reference.engine import StepRecord
from realm_reference.server.errors import AUTHENTICATION, ApiError

if TYPE_CHECKING:
    from realm_reference.server.telemetry.record import RequestRecord

# Text format 0.0.4 has no creation times; the library would make up a gauge for each series.
disable_created_metrics()  # type: ignore[no-untyped-call]

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_REQUEST_BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_TTFT_BUCKETS: Final = (0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 60)
_TOKEN_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 5)
_BATCH_BUCKETS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)

_ERROR_TYPES: Final = {
    400: "validation_error",
    401: "authentication_error",
    403: "authorization_error",
    404: "not_found",
    405: "validation_error",
    408: "timeout",
    413: "validation_error",
    415: "validation_error",
    422: "validation_error",
    429: "rate_limit",
    500: "internal_error",
    503: "service_unavailable",
    504: "timeout",
}


def error_type(error: ApiError) -> str:
    """The `error_type` label of a failure: one of a fixed list."""
    if error.code == "out_of_memory":
        return "out_of_memory"
    if error.code == "model_not_found":
        return "model_unavailable"
    if error.type == AUTHENTICATION:
        return "authentication_error"
    return _ERROR_TYPES.get(error.status, "other")


class Traces(Protocol):
    """Makes a trace of a request that has ended."""

    def record(self, mine: RequestRecord, status: int, method: str | None, route: str | None) -> None:
        """Called once for each request, on the event loop; must be quick and must not raise."""


class Metrics:
    """All counters, gauges and histograms of one server."""

    def __init__(self, traces: Traces | None = None) -> None:
        """`traces` gets each request at its end."""
        self.traces = traces
        self.registry = r = CollectorRegistry()
        self.requests = Counter("realm_requests", "Requests received.", registry=r)
        self.success = Counter("realm_requests_success", "Requests answered in full.", registry=r)
        self.errors = Counter("realm_requests_errors", "Requests that failed.", ["error_type"], registry=r)
        self.by_status = Counter(
            "realm_requests_by_status",
            "Requests by HTTP status; 499 is a client that closed the connection.",
            ["status_code"],
            registry=r,
        )
        self.duration = Histogram(
            "realm_request_duration_seconds",
            "From the request's head to the end of its answer.",
            buckets=_REQUEST_BUCKETS,
            registry=r,
        )
        self._usage(r)
        self._latency(r)
        self._build(r)
        Gauge("realm_memory_usage_bytes", "Resident memory of this process.", registry=r).set_function(
            resident_bytes
        )

    def _build(self, r: CollectorRegistry) -> None:
        Info("realm_build", "The version that runs.", registry=r).info({"version": version("realm-harness")})

    def _usage(self, r: CollectorRegistry) -> None:
        self.input_tokens = Counter("realm_usage_input_tokens", "Prompt tokens.", ["tenant"], registry=r)
        self.output_tokens = Counter("realm_usage_output_tokens", "Generated tokens.", ["tenant"], registry=r)
        self.tenant_requests = Counter("realm_usage_requests", "Generations.", ["tenant"], registry=r)
        self.model_tokens = Counter(
            "realm_usage_tokens", "Prompt and generated tokens.", ["model"], registry=r
        )
        self.generated = Counter("realm_tokens_generated", "Generated tokens, as they are made.", registry=r)

    def _latency(self, r: CollectorRegistry) -> None:
        self.ttft = Histogram(
            "realm_time_to_first_token_seconds",
            "From the request's head to its first generated token.",
            buckets=_TTFT_BUCKETS,
            registry=r,
        )
        self.inter_token = Histogram(
            "realm_inter_token_seconds",
            "Between two generated tokens of a request.",
            buckets=_TOKEN_BUCKETS,
            registry=r,
        )
        self.queue = Histogram(
            "realm_queue_seconds", "Waiting for a guest.", buckets=_TTFT_BUCKETS, registry=r
        )
        self.step = Histogram(
            "realm_engine_step_seconds", "One step of the engine.", buckets=_TOKEN_BUCKETS, registry=r
        )
        self.step_queue = Histogram(
            "realm_engine_queue_seconds", "Work waiting for its step.", buckets=_TOKEN_BUCKETS, registry=r
        )
        self.step_rows = Histogram(
            "realm_engine_batch_rows",
            "Token positions that went through the engine in one step.",
            buckets=_BATCH_BUCKETS,
            registry=r,
        )

        self.step_sequences = Histogram(
            "realm_engine_batch_sequences",
            "Sequences that were in one step of the engine.",
            buckets=_BATCH_BUCKETS,
            registry=r,
        )

    def watch(self, name: str, help_text: str, value: Callable[[], float]) -> None:
        """A gauge that asks `value` when it is scraped."""
        Gauge(name, help_text, registry=self.registry).set_function(value)

    def watch_total(self, name: str, help_text: str, value: Callable[[], float]) -> None:
        """A counter, named without its `_total`, that asks `value` when it is scraped."""
        self.registry.register(_Total(name, help_text, value))

    def observe_step(self, record: StepRecord) -> None:
        """The engine's observer."""
        self.step.observe(record.seconds)
        self.step_queue.observe(record.queued_seconds)
        self.step_rows.observe(record.rows)
        self.step_sequences.observe(record.sequences)

    def render(self) -> bytes:
        """The exposition, text format 0.0.4."""
        return generate_latest(self.registry)


class _Total(Collector):
    """A counter whose number somebody else keeps."""

    def __init__(self, name: str, help_text: str, value: Callable[[], float]) -> None:
        self._name, self._help, self._value = name, help_text, value

    def collect(self) -> Iterator[Metric]:
        """One sample."""
        yield CounterMetricFamily(self._name, self._help, value=self._value())


def resident_bytes() -> float:
    """Resident set size, from /proc where there is one, else the peak that getrusage gives."""
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    except OSError:
        import resource  # not on every platform, and only needed where /proc is missing

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0
    return float(pages * os.sysconf("SC_PAGE_SIZE"))
