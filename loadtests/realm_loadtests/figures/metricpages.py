"""Pages of Prometheus metrics as one server's history: what rose between the first and the last, and how."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from realm_loadtests.figures.metricnames import NAMES, plain
from realm_loadtests.records.scrapes import Scrape

Series = tuple[str, str]
"""A sample's plain name, and its bucket's bound (`le`) or nothing; all other labels are summed over."""
Page = Mapping[Series, float]


def parse(page: str) -> Page:
    """Read a page; one that is none has nothing in it."""
    values: defaultdict[Series, float] = defaultdict(float)
    try:
        for family in text_string_to_metric_families(page):
            for sample in family.samples:
                if math.isfinite(sample.value):
                    values[plain(sample.name), sample.labels.get("le", "")] += sample.value
    except ValueError:
        return {}
    return values


@dataclass(frozen=True)
class Seconds:
    """A histogram of seconds that rose by `counts`, cumulative, at its ascending `bounds`."""

    total: float
    count: float
    bounds: Sequence[float]
    counts: Sequence[float]

    @property
    def mean_ms(self) -> float:
        """The exact mean; there is at least one value."""
        return 1000 * self.total / self.count

    def quantile_ms(self, rank: float) -> tuple[float, float]:
        """The bounds between which the quantile lies; the upper one is infinite above the last."""
        below = 0.0
        for bound, count in zip(self.bounds, self.counts, strict=True):
            if count >= rank * self.count:
                return 1000 * below, 1000 * bound
            below = bound
        return 1000 * below, math.inf


@dataclass(frozen=True)
class History:
    """A server's pages in their order; `names` is whose names they bear."""

    names: str
    at_s: Sequence[float]
    pages: Sequence[Page]

    @classmethod
    def of(cls, scrapes: Sequence[Scrape]) -> History | None:
        """Read the scrapes; None without two pages whose names are known."""
        read = [(scrape.at_s, page) for scrape in scrapes if (page := parse(scrape.page))]
        if len(read) < 2:
            return None
        seen = {name for name, _ in read[-1][1]}
        known = {
            server: sum(_is_in(seen, each) for each in names.values()) for server, names in NAMES.items()
        }
        best = max(known, key=lambda server: known[server])
        return cls(best, *zip(*read, strict=True)) if known[best] else None

    def increase(self, quantity: str) -> float | None:
        """By how much a counter rose; None where there is none."""
        name = self._name(quantity)
        return None if name is None else self._rise((name, ""))

    def gauge(self, quantity: str) -> list[float | None]:
        """A gauge at each scrape."""
        name = self._name(quantity)
        return [page.get((name or "", "")) for page in self.pages]

    def latency(self, quantity: str) -> Seconds | None:
        """What was added to a histogram; None without one, or without values."""
        name = self._name(quantity)
        if name is None:
            return None
        bounds = {label for page in self.pages for series, label in page if series == f"{name}_bucket"}
        by_bound = sorted((float(label), label) for label in bounds)
        count = self._rise((f"{name}_count", ""))
        if not count:
            return None
        return Seconds(
            self._rise((f"{name}_sum", "")),
            count,
            [bound for bound, _ in by_bound],
            [self._rise((f"{name}_bucket", label)) for _, label in by_bound],
        )

    @property
    def restarts(self) -> int:
        """How often the counters that are known fell, all at once: a new process counts from 0."""
        names = [name for each in ("tokens", "requests") if (name := self._name(each))]
        return sum(
            any(after.get((name, ""), 0.0) < before.get((name, ""), 0.0) for name in names)
            for before, after in pairwise(self.pages)
        )

    def _rise(self, series: Series) -> float:
        """The sum of a counter's steps; where it fell, it began again at 0."""
        values = [page.get(series, 0.0) for page in self.pages]
        return sum(after - before if after >= before else after for before, after in pairwise(values))

    def _name(self, quantity: str) -> str | None:
        seen = {name for page in self.pages for name, _ in page}
        names: Any = NAMES[self.names].get(quantity, ())
        return next((name for each in names if _is_in(seen, [name := plain(each)])), None)


def _is_in(seen: set[str], names: Sequence[str]) -> bool:
    """Whether one of the names is among the samples', as it is or as a histogram's."""
    return any(plain(name) in seen or f"{plain(name)}_count" in seen for name in names)
