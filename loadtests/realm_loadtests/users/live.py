"""What a run has seen so far: for the terminal that started it, and for locust's web UI."""

from __future__ import annotations

import json
import math
from typing import Any, Final

from realm_loadtests.records.collector import Collector
from realm_loadtests.records.measures import Latency

TAB: Final = "realm"
LATENCIES: Final = {
    "ttft": "Time to first token",
    "itl": "Between tokens",
    "tpot": "Per output token",
    "e2e": "Whole answer",
}
_RANKS: Final = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}


def state(collector: Collector, users: int) -> dict[str, Any]:
    """The run's counts and percentiles so far; NaN where there are no values. `users` is locust's number."""
    measures = collector.measures
    seen = {
        "elapsed_s": collector.window_s,
        "users": users,
        "open": collector.open,
        "completed": measures.completed,
        "failed": measures.failed,
        "errors": dict(measures.errors.most_common(3)),
        "tokens": measures.tokens,
        "stopping": collector.stopped is not None,
    }
    for name, latency in (("ttft", measures.ttft), ("itl", measures.itl)):
        p50, p99 = latency.quantiles_us([0.5, 0.99])
        seen |= {f"{name}_p50_us": p50, f"{name}_p99_us": p99}
    return seen


def show_in_web_ui(web_ui: Any, collector: Collector) -> None:
    """Give locust's web UI a tab with our percentiles, of every gap and exact to 0.1 %: its own statistics
    know whole requests only, and round. By the hooks that locust has for it.
    """
    columns = {"name": "Latency, ms", "count": "Values", **{rank: rank for rank in _RANKS}}
    structure = [{"key": key, "title": title} for key, title in columns.items()]
    web_ui.template_args |= {
        "extended_tabs": [{"title": "Streaming", "key": TAB}],
        "extended_tables": [{"key": TAB, "structure": structure}],
    }

    def extend(response: Any) -> Any:
        if response.is_json and isinstance(found := response.get_json(), dict) and "stats" in found:
            shown = {"key": TAB, "data": rows(collector)}
            response.set_data(json.dumps(found | {"extended_stats": [shown]}))
        return response

    web_ui.app.after_request(extend)


def rows(collector: Collector) -> list[dict[str, Any]]:
    """A row for each latency, in milliseconds."""
    return [
        {"name": title, "safeName": name, **_row(getattr(collector.measures, name))}
        for name, title in LATENCIES.items()
    ]


def _row(latency: Latency) -> dict[str, Any]:
    values = latency.quantiles_us(list(_RANKS.values()))
    shown = [None if math.isnan(value) else round(value / 1000, 2) for value in values]
    return {"count": latency.count, **dict(zip(_RANKS, shown, strict=True))}
