"""The page of metrics: Prometheus can read it, and no client can make it grow."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from secrets import token_hex

from realm_harness.answers import shown
from realm_harness.case import Broken, Unjudged, case, demand
from realm_harness.metricspage import METRICS, Page, fetch, named, scrape
from realm_harness.prompts import HELLO, STORY
from realm_harness.target import Target

DOCUMENTED = (
    *(f"realm_requests{kind}_total" for kind in ("", "_success", "_errors", "_by_status")),
    *(f"realm_usage_{kind}_total" for kind in ("input_tokens", "output_tokens", "tokens", "requests")),
    "realm_request_duration_seconds_count",
    "realm_memory_usage_bytes",
    "realm_tokens_generated_total",
)


@case("CHAT-METRICS-001", clause_id="metrics.text", reason="Prometheus refuses a page of another type")
def test_content_type(target: Target) -> None:
    """The page is labelled as Prometheus text or as OpenMetrics."""
    exchange = fetch(target)
    demand(
        exchange.media_type in ("text/plain", "application/openmetrics-text"),
        f"the Content-Type of {METRICS} is {exchange.header('content-type')!r}",
    )


@case("CHAT-METRICS-002", clause_id="metrics.parses", reason="one bad line costs the whole scrape")
def test_parses(target: Target) -> None:
    """prometheus-client's own parser reads the page to its end."""
    target.ask(HELLO, 4)
    demand(scrape(target).families, f"{METRICS} is empty after a request")


@case("CHAT-METRICS-003", clause_id="metrics.described", reason="a dashboard cannot guess what is a counter")
def test_described(target: Target) -> None:
    """Every metric has its TYPE and its HELP."""
    target.ask(HELLO, 4)
    for family in scrape(target).families:
        demand(family.type != "unknown", f"{family.name} has no TYPE before its samples")
        demand(family.documentation, f"{family.name} has no HELP")


@case("CHAT-METRICS-004", clause_id="metrics.series-once", reason="Prometheus drops one of the two")
def test_series_once(target: Target) -> None:
    """No series stands on the page twice, and no metric is described twice."""
    target.ask(HELLO, 4)
    page = scrape(target)
    demand(not page.repeated, f"on {METRICS} twice: {', '.join(map(named, page.repeated[:3]))}")
    names = [family.name for family in page.families]
    double = sorted({name for name in names if names.count(name) > 1})
    demand(not double, f"{METRICS} describes {', '.join(double[:3])} in two places")


@case("CHAT-METRICS-005", clause_id="metrics.counts", reason="one NaN makes every sum over it NaN")
def test_counts_are_counts(target: Target) -> None:
    """Counters and the counts of histograms are finite and not negative."""
    target.ask(HELLO, 4)
    for series, value in scrape(target).counting().items():
        demand(math.isfinite(value) and value >= 0, f"{named(series)} is {value}")


@case("CHAT-METRICS-006", clause_id="metrics.monotone", reason="a rate over a fall is a made-up restart")
def test_counters_only_rise(target: Target) -> None:
    """Over several requests and scrapes no counter falls and none disappears."""
    before = scrape(target).counting()
    for _ in range(3):
        target.ask(HELLO, 4)
        after = scrape(target).counting()
        for series, value in before.items():
            demand(series in after, f"{named(series)} has gone from the page")
            demand(after[series] >= value, f"{named(series)} fell from {value:g} to {after[series]:g}")
        before = after


@case("CHAT-METRICS-007", clause_id="metrics.buckets", reason="a quantile of other buckets is nonsense")
def test_histograms(target: Target) -> None:
    """Histograms rise bucket by bucket to a +Inf bucket that equals their count, and have a sum."""
    target.raw_stream(STORY, 8)
    page = scrape(target)
    if not page.of_kind("histogram"):
        raise Unjudged(f"{METRICS} has no histogram")
    for family in page.of_kind("histogram"):
        for labels, buckets in _buckets(page, family.name).items():
            _check_buckets(page, family.name, labels, buckets)


Labels = frozenset[tuple[str, str]]


def _buckets(page: Page, name: str) -> dict[Labels, list[tuple[float, float]]]:
    """(bound, value) of each bucket of a histogram in the order of the page, by the other labels."""
    found: dict[Labels, list[tuple[float, float]]] = {
        labels: [] for sample, labels in page.values if sample in (f"{name}_count", f"{name}_sum")
    }
    for (sample, labels), value in page.values.items():
        if sample == f"{name}_bucket":
            bound = dict(labels).get("le", "")
            try:
                at = float(bound)
            except ValueError:
                raise Broken(f"a bucket of {name} has the bound le={bound!r}") from None
            found.setdefault(frozenset(pair for pair in labels if pair[0] != "le"), []).append((at, value))
    return found


def _check_buckets(page: Page, name: str, labels: Labels, buckets: list[tuple[float, float]]) -> None:
    count = page.values.get((f"{name}_count", labels))
    demand(count is not None, f"{named((name, labels))} has no _count")
    demand((f"{name}_sum", labels) in page.values, f"{named((name, labels))} has no _sum")
    bounds = [bound for bound, _ in buckets]
    demand(bounds == sorted(bounds), f"the buckets of {named((name, labels))} are not in order: {bounds}")
    demand(buckets and math.isinf(buckets[-1][0]), f'{named((name, labels))} has no bucket with le="+Inf"')
    demand(
        buckets[-1][1] == count,
        f"{named((name, labels))}: the +Inf bucket is {buckets[-1][1]:g}, the count is {count}",
    )
    for (low, less), (high, more) in pairwise(buckets):
        demand(
            less <= more,
            f"{named((name, labels))} is not cumulative: {less:g} up to {low:g}, {more:g} up to {high:g}",
        )


@case("CHAT-METRICS-014", clause_id="metrics.bounded", reason="a label that clients fill fills the memory")
def test_labels_are_bounded(target: Target) -> None:
    """Made-up models, routes, methods, users, ids and parameters add no series and appear in no label."""
    _send_strange(target, "realmzero")
    scrape(target)
    before = scrape(target).values.keys()
    marks = [f"realm{token_hex(3)}" for _ in range(4)]
    for mark in marks:
        _send_strange(target, mark)
    for series in scrape(target).values:
        demand(
            not re.search("|".join(marks), named(series), re.IGNORECASE),
            f"what a client sent has become a label: {shown(named(series))}",
        )
    new = scrape(target).values.keys() - before
    demand(
        len(new) < len(marks), f"{len(new)} series more, such as {named(next(iter(new), ('', frozenset())))}"
    )


def _send_strange(target: Target, mark: str) -> None:
    target.post({**target.body(HELLO, 1), "model": mark})
    target.post(target.body(HELLO, 1, user=mark))
    target.post(target.body(HELLO, 1, **{mark: mark}))
    target.post([mark])  # type: ignore[arg-type]
    target.get(f"/{mark}")
    target.get(f"/v1/models/{mark}")
    target.get("/v1/models", key=f"Bearer {mark}")
    target.send(target.request(mark.upper(), "/v1/models"))


@case("CHAT-METRICS-016", clause_id="metrics.names", reason="dashboards are made for names")
def test_documented_names(target: Target) -> None:
    """Which of the documented names of a Realm server the page has."""
    page = scrape(target)
    missing = [name for name in DOCUMENTED if page.total(name) is None]
    raise Unjudged(
        f"{len(DOCUMENTED) - len(missing)} of {len(DOCUMENTED)} documented names"
        + (f"; not {', '.join(missing)}" if missing else "")
    )
