"""The MockServer's `/metrics` page in Prometheus' text format (version 0.0.4)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from realm_mocks.server.records import RequestRecord


def metrics_text(in_flight: int, records: Iterable[RequestRecord]) -> str:
    """Requests by outcome, tokens sent, and the requests being answered now."""
    kept = list(records)
    outcomes = Counter(record.outcome for record in kept if record.outcome != "running")
    tokens = sum(len(record.sent_ns) for record in kept)
    lines = [
        "# HELP mock_requests_in_flight Chat requests being answered now.",
        "# TYPE mock_requests_in_flight gauge",
        f"mock_requests_in_flight {in_flight}",
        "# HELP mock_requests_total Chat requests by outcome.",
        "# TYPE mock_requests_total counter",
        *(f'mock_requests_total{{outcome="{name}"}} {outcomes[name]}' for name in sorted(outcomes)),
        "# HELP mock_streamed_tokens_total Token events handed to sockets.",
        "# TYPE mock_streamed_tokens_total counter",
        f"mock_streamed_tokens_total {tokens}",
    ]
    return "\n".join(lines) + "\n"
