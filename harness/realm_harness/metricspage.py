"""The /metrics page of a server as the cases read it: parsed by Prometheus' own client library."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from realm_harness.answers import shown
from realm_harness.case import Broken, Unsupported
from realm_harness.exchange import Exchange
from realm_harness.target import Target

METRICS = "/metrics"
Series = tuple[str, frozenset[tuple[str, str]]]
"""A sample's name and its labels."""

COUNTING_SUFFIXES = ("_count", "_bucket", "_sum")


@dataclass(frozen=True)
class Page:
    """One scrape.

    Attributes:
        families: what the parser made of it, in order.
        values: the value of each series, the last one where a series is there twice.
        repeated: the series that are there twice.
    """

    families: Sequence[Metric]
    values: dict[Series, float]
    repeated: Sequence[Series]

    @classmethod
    def parse(cls, text: str) -> Page:
        """Read a page; ValueError when the parser cannot."""
        families = list(text_string_to_metric_families(text))
        found = [
            ((sample.name, frozenset(sample.labels.items())), sample.value)
            for family in families
            for sample in family.samples
        ]
        times = Counter(series for series, _ in found)
        return cls(families, dict(found), [series for series, count in times.items() if count > 1])

    def of_kind(self, *kinds: str) -> list[Metric]:
        """The families of these types."""
        return [family for family in self.families if family.type in kinds]

    def counting(self) -> dict[Series, float]:
        """What may only rise: counters, and the counts of histograms and summaries."""
        names = {s.name for family in self.of_kind("counter") for s in family.samples} | {
            sample.name
            for family in self.of_kind("histogram", "summary")
            for sample in family.samples
            if sample.name.endswith(COUNTING_SUFFIXES)
        }
        return {series: value for series, value in self.values.items() if series[0] in names}

    def total(self, name: str) -> float | None:
        """The sum over all labels of the samples of that name; None when there is none."""
        found = [value for (sample, _), value in self.values.items() if sample == name]
        return sum(found) if found else None

    def first(self, names: Sequence[str]) -> str | None:
        """The first of `names` that the page has."""
        return next((name for name in names if self.total(name) is not None), None)


def fetch(target: Target) -> Exchange:
    """GET /metrics with a 200; Unsupported when the server has no such page."""
    exchange = target.get(METRICS)
    if exchange.status in (404, 405, 501):
        raise Unsupported(f"the server has no {METRICS}: {exchange.status}")
    if exchange.status != 200:
        raise Broken(f"GET {METRICS} got {exchange.status}: {shown(exchange.body)}")
    return exchange


def scrape(target: Target) -> Page:
    """The parsed page; Broken when it cannot be parsed."""
    exchange = fetch(target)
    try:
        return Page.parse(exchange.body.decode("utf-8"))
    except ValueError as error:
        last = exchange.body.decode("utf-8", "replace").splitlines()[-1:]
        raise Broken(
            f"prometheus-client cannot parse {METRICS}: {error or 'bad line'}; its last line is {shown(last)}"
        ) from None


def named(series: Series) -> str:
    """A series as a page shows it."""
    labels = ",".join(f'{name}="{value}"' for name, value in sorted(series[1]))
    return f"{series[0]}{{{labels}}}" if labels else series[0]
