"""The server's own /metrics beside what its clients saw.

The result's `server`, None where there is no such page:

- `names`: whose names its metrics bear; `url`; `scrapes`, their number
- `latencies`: for `ttft_ms`, `itl_ms`, `e2e_ms` and `queue_ms`, as far as the server has them:
  `server` {count, mean, p50 [low, high], p99 [low, high]}, a histogram's bounds round the quantile, `high`
  None above the last; `clients` {count, mean, p50, p99} or None where no client can see it; `difference` of
  the means, clients less server; `agrees`, None where it cannot be told
- `counts`: for `tokens`, `prompt_tokens`, `requests`: {server, clients, agrees}
- `over_time`: of each scrape `at_s` and, None where it has them not, `running`, `waiting`, `cache_share` and
  `resident_mb`
- `findings`: a sentence for each disagreement

A server sees a request later than its client sends it, and its client the answer later than it is sent: the
clients' latency may be longer by a round trip. More than that, or less, is a finding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

from realm_loadtests.figures.metricnames import COUNTS, GAUGES, LATENCIES
from realm_loadtests.figures.metricpages import History, Seconds
from realm_loadtests.records.measures import Latency, Measures
from realm_loadtests.records.records import Record
from realm_loadtests.records.scrapes import Scrape

SLACK: Final = 0.05
"""The share of a latency by which two clocks of it may differ whatever the instrument's error."""
SAME: Final = 0.02
"""The share by which two counts of the same requests may differ: some are open at a scrape."""
_TITLES: Final = {"ttft": "time to first token", "itl": "time between tokens", "e2e": "time of an answer"}
_QUANTILES: Final = {"p50": 0.5, "p99": 0.99}


@dataclass(frozen=True)
class _Clients:
    """What the clients saw of one latency, in milliseconds, and how far off their instrument may be."""

    count: int
    mean: float
    p50: float
    p99: float
    error: float
    round_trip: float

    def agree(self, mine: float, low: float, high: float) -> bool:
        """Whether a figure of theirs goes with the server's, which lies from `low` to `high`."""
        slack = self.error + SLACK * mine
        return low - slack <= mine <= high + slack + self.round_trip

    def to_json(self) -> dict[str, Any]:
        """What the result says of them."""
        values = {name: round(getattr(self, name), 3) for name in ("mean", *_QUANTILES)}
        return {"count": self.count, **values}


def compare(
    scrapes: Sequence[Scrape],
    measures: Measures,
    records: Sequence[Record],
    error_ms: Mapping[str, float],
) -> dict[str, Any] | None:
    """Build the result's `server`; `error_ms` is the instrument's p99 error of `ttft` and `itl`."""
    history = History.of(scrapes)
    if history is None:
        return None
    counts, findings = _counts(history, measures)
    alone = not findings
    latencies = {}
    for name in LATENCIES:
        theirs = history.latency(name)
        if theirs is None:
            continue
        clients = _clients(name, measures, records, error_ms)
        latencies[f"{name}_ms"] = compared = _latency(theirs, clients, alone)
        if compared["agrees"] is False and clients:
            findings.append(_sentence(_TITLES[name], compared, clients))
    if history.restarts:
        findings.append(f"its counters fell {history.restarts} times: it was started again in the run")
    return {
        "names": history.names,
        "url": scrapes[0].url,
        "scrapes": len(scrapes),
        "latencies": latencies,
        "counts": counts,
        "over_time": _over_time(history),
        "findings": findings,
    }


def _counts(history: History, measures: Measures) -> tuple[dict[str, Any], list[str]]:
    """The counts of both, and what makes them those of different requests."""
    completed_all = measures.completed == measures.requests
    by_usage = measures.counted_by["usage"] == measures.completed
    clients = {
        "tokens": measures.tokens if completed_all and by_usage else None,
        "prompt_tokens": measures.prompt_tokens if completed_all and by_usage else None,
        "requests": measures.requests,
    }
    found: dict[str, Any] = {}
    for name in COUNTS:
        server = history.increase(name)
        if server is not None:
            found[name] = {"server": round(server), "clients": clients[name], "agrees": None}
    findings = []
    if requests := found.get("requests"):
        fewest = measures.completed * (1 - SAME) - 1
        requests["agrees"] = fewest <= requests["server"] <= measures.requests * (1 + SAME) + 1
        if not requests["agrees"]:
            findings.append(
                f"it counted {requests['server']} requests, its clients sent {measures.requests}: others use "
                "it too, or the page is another server's, so that latencies are not compared"
            )
    tokens = found.get("tokens")
    if tokens and tokens["clients"] is not None and not findings:
        # One a request: some servers count the token that ends a text, which is in no usage.
        tokens["agrees"] = abs(tokens["server"] - tokens["clients"]) <= measures.completed
        if not tokens["agrees"]:
            findings.append(
                f"it counted {tokens['server']} generated tokens, and told its clients of {tokens['clients']}"
            )
    return found, findings


def _clients(
    name: str, measures: Measures, records: Sequence[Record], error_ms: Mapping[str, float]
) -> _Clients | None:
    """The clients' view, from the sending, as a server cannot know of an earlier start."""
    seen: Latency | None = getattr(measures, name, None)
    if measures.late.count:
        seen = {"ttft": measures.ttft_sent, "e2e": measures.e2e_sent}.get(name, seen)
    if seen is None or not seen.count:
        return None
    connects = [record.connect_us for record in records if record.connect_us]
    p50, p99 = (value / 1000 for value in seen.quantiles_us(list(_QUANTILES.values())))
    return _Clients(
        seen.count,
        seen.mean_us / 1000,
        p50,
        p99,
        # An answer's end is as uncertain as its beginning.
        error=error_ms["itl" if name == "itl" else "ttft"],
        round_trip=median(connects) / 1000 if connects and name != "itl" else 0.0,
    )


def _latency(theirs: Seconds, clients: _Clients | None, comparable: bool) -> dict[str, Any]:
    """One latency, of both."""
    bounds = {name: theirs.quantile_ms(rank) for name, rank in _QUANTILES.items()}
    server = {
        "count": round(theirs.count),
        "mean": round(theirs.mean_ms, 3),
        **{name: [_finite(low), _finite(high)] for name, (low, high) in bounds.items()},
    }
    if clients is None:
        return {"server": server, "clients": None, "difference": None, "agrees": None}
    agrees = None
    if comparable and abs(theirs.count - clients.count) <= SAME * clients.count + 1:
        agrees = clients.agree(clients.mean, theirs.mean_ms, theirs.mean_ms) and all(
            clients.agree(getattr(clients, name), *ends) for name, ends in bounds.items()
        )
    return {
        "server": server,
        "clients": clients.to_json(),
        "difference": round(clients.mean - theirs.mean_ms, 3),
        "agrees": agrees,
    }


def _sentence(title: str, compared: Mapping[str, Any], clients: _Clients) -> str:
    mean, (low, high) = compared["server"]["mean"], compared["server"]["p99"]
    top = "more" if high is None else f"{high:g}"
    explained = clients.error + SLACK * clients.mean + clients.round_trip
    return (
        f"{title}: by its metrics {mean:.4g} ms in the mean and {low:g} to {top} ms at p99; by "
        f"its clients {clients.mean:.4g} and {clients.p99:.4g} ms, and the instrument's error and a round "
        f"trip explain {explained:.2g} ms"
    )


def _over_time(history: History) -> list[dict[str, float | None]]:
    gauges = {name: history.gauge(name) for name in GAUGES}
    resident = [None if value is None else round(value / 1e6, 1) for value in gauges.pop("resident_bytes")]
    columns = {"at_s": history.at_s, **gauges, "resident_mb": resident}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _finite(value: float) -> float | None:
    return round(value, 3) if math.isfinite(value) else None
