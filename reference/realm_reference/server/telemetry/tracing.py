"""OpenTelemetry traces: a request, its wait for a guest, its generation, and some of the engine's steps.

The spans of a request are made at its end, from the times that its record and its generations hold anyway. So
nothing is threaded through the layers below, and a request that is not traced costs nothing. OpenTelemetry is
an extra, and imported only where it is asked for.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

from realm_reference.orchestration import Generation
from realm_reference.server.telemetry.record import RequestRecord

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.trace import Span

SERVICE_NAME: Final = "realm"
_PATH: Final = "/v1/traces"


class TracingUnavailable(Exception):
    """Traces are asked for and cannot be made; one line with the remedy."""


@contextmanager
def exported(endpoint: str, ratio: float) -> Iterator[Tracing]:
    """Traces that are sent to an OTLP/HTTP collector; what is left is sent at the end.

    Raises TracingUnavailable without the extra.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise TracingUnavailable("--otlp-endpoint needs: pip install 'realm-harness[otel]'") from None
    if not endpoint.startswith(("http://", "https://")):
        raise TracingUnavailable(
            f"--otlp-endpoint {endpoint!r} is no URL; it begins with http:// or https://"
        )
    url = endpoint if endpoint.endswith(_PATH) else endpoint.rstrip("/") + _PATH
    tracing = Tracing(BatchSpanProcessor(OTLPSpanExporter(endpoint=url)), ratio)
    try:
        yield tracing
    finally:
        tracing.close()


class Tracing:
    """Makes the spans. Of the requests that bring no decision with them, `ratio` are traced."""

    def __init__(self, processor: SpanProcessor, ratio: float = 1.0) -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

        resource = Resource.create(
            {"service.name": SERVICE_NAME, "service.version": version("realm-harness")}
        )
        self._provider = TracerProvider(
            resource=resource, sampler=ParentBased(TraceIdRatioBased(ratio)), shutdown_on_exit=False
        )
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("realm_reference.server")

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()

    def record(self, mine: RequestRecord, status: int, method: str | None, route: str | None) -> None:
        """The trace of a request that has just ended."""
        from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

        now = time.perf_counter_ns()
        end = time.time_ns()
        to_unix = end - now
        span = self._tracer.start_span(
            f"{method} {route}" if method else str(route),
            context=_parent(mine),
            kind=SpanKind.SERVER,
            start_time=mine.started_ns + to_unix,
        )
        if span.is_recording():
            _describe(span, mine, status, method, route)
            if status >= 500:
                span.set_status(Status(StatusCode.ERROR, mine.error.message if mine.error else None))
            inside = set_span_in_context(span)
            for index, generation in enumerate(mine.generations):
                self._generation(generation, index, mine, inside, to_unix, end)
        span.end(end)

    def _generation(
        self, generation: Generation, index: int, mine: RequestRecord, inside: Context, to_unix: int, end: int
    ) -> None:
        from opentelemetry.trace import set_span_in_context

        queued = generation.created_ns + to_unix
        waited = generation.queue_seconds
        began = end if waited is None else min(end, queued + round(waited * 1e9))
        self._tracer.start_span("queue", inside, start_time=queued).end(began)
        if waited is None:
            return  # it never had a guest
        span = self._tracer.start_span(
            "generation", inside, start_time=began, attributes={"realm.choice": index}
        )
        if mine.ttft_seconds is not None:
            first = mine.started_ns + to_unix + round(mine.ttft_seconds * 1e9)
            span.add_event("first token", timestamp=first)
        steps = set_span_in_context(span)
        for step in list(generation.steps):
            begun = step.begun_ns + to_unix
            attributes = {"realm.rows": step.rows, "realm.queued_seconds": step.queued_seconds}
            step_span = self._tracer.start_span("step", steps, start_time=begun, attributes=attributes)
            step_span.end(begun + round(step.seconds * 1e9))
        span.end(end)


def _parent(mine: RequestRecord) -> Context:
    """The trace that the client has begun (W3C traceparent), if it has; never this process's own."""
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier = {} if mine.traceparent is None else {"traceparent": mine.traceparent}
    return TraceContextTextMapPropagator().extract(carrier, Context())


def _describe(span: Span, mine: RequestRecord, status: int, method: str | None, route: str | None) -> None:
    """Attributes as the semantic conventions name them; never a prompt, an output or a key."""
    attributes: dict[str, str | int | None] = {
        "http.request.method": method,
        "http.route": route,
        "http.response.status_code": status,
        "realm.request_id": mine.request_id,
        "realm.tenant": mine.caller.tenant,
        "gen_ai.usage.input_tokens": mine.prompt_tokens or None,
        "gen_ai.usage.output_tokens": mine.completion_tokens or None,
        "realm.finish": mine.finish,
        "error.type": mine.error.code if mine.error else None,
    }
    span.set_attributes({name: value for name, value in attributes.items() if value is not None})
