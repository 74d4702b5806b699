"""The MockServer's `/metrics` page: what is counted, as plain data, and its Prometheus text (format 0.0.4).

Names and labels are those of a Realm server. The page is made as data first, so that a planted defect is a
function from one list of families to another.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS = (0.005, 0.05, 0.5, 5.0)
ERROR_TYPES = {401: "authentication_error", 404: "not_found", 429: "rate_limit", 500: "internal_error"}


@dataclass(frozen=True)
class Sample:
    """One line of the page: the family's name with this suffix, these labels and this value."""

    value: float
    labels: tuple[tuple[str, str], ...] = ()
    suffix: str = ""


@dataclass(frozen=True)
class Family:
    """One metric; an empty `kind` or `help` leaves out its TYPE or HELP line."""

    name: str
    kind: str
    help: str
    samples: tuple[Sample, ...]


@dataclass
class Histogram:
    """Observations in `BUCKETS` and one more for the rest."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    sum: float = 0.0

    def observe(self, value: float) -> None:
        """Count a value into its bucket."""
        self.counts[bisect_left(BUCKETS, value)] += 1
        self.sum += value

    def samples(self) -> Iterator[Sample]:
        """The cumulative buckets, the sum, the count."""
        so_far = 0
        for bound, count in zip((*map(str, BUCKETS), "+Inf"), self.counts, strict=True):
            so_far += count
            yield Sample(so_far, (("le", bound),), "_bucket")
        yield Sample(self.sum, suffix="_sum")
        yield Sample(so_far, suffix="_count")


@dataclass
class Meter:
    """Everything that the server counts."""

    statuses: Counter[int] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    generations: int = 0
    guessed: int = 0
    kept: int = 0
    duration: Histogram = field(default_factory=Histogram)
    ttft: Histogram = field(default_factory=Histogram)

    def replied(self, status: int, began_ns: int) -> None:
        """A request of any route was answered."""
        self.statuses[status] += 1
        if status >= 400:
            self.errors[ERROR_TYPES.get(status, "validation_error")] += 1
        self.duration.observe((time.perf_counter_ns() - began_ns) / 1e9)

    def generated(self, prompt_tokens: int, completion_tokens: int, ttft: float) -> None:
        """A chat request was answered to its end."""
        self.generations += 1
        self.prompt_tokens += prompt_tokens
        self.completion_tokens += completion_tokens
        self.ttft.observe(ttft)

    def drafted(self, guesses: int, completion_tokens: int) -> None:
        """A request had leave for so many guesses at a time; every other one came true."""
        self.guessed += completion_tokens if guesses else 0
        self.kept += completion_tokens // 2 if guesses else 0

    def families(self, in_flight: int, model: str) -> list[Family]:
        """The page as data."""
        tenant = (("tenant", "default"),)
        total = self.prompt_tokens + self.completion_tokens
        return [
            _counter("requests", "Requests received.", self.statuses.total()),
            _counter("requests_success", "Requests answered in full.", self.statuses[200]),
            _labelled("requests_errors", "Requests that failed.", "error_type", self.errors),
            _labelled("requests_by_status", "Requests by status.", "status_code", self.statuses),
            _counter("usage_input_tokens", "Prompt tokens.", self.prompt_tokens, tenant),
            _counter("usage_output_tokens", "Generated tokens.", self.completion_tokens, tenant),
            _counter("usage_tokens", "All tokens.", total, (("model", model),)),
            _counter("usage_requests", "Generations.", self.generations, tenant),
            _counter("tokens_generated", "Generated tokens.", self.completion_tokens),
            _counter("draft_tokens", "Guesses.", self.guessed),
            _counter("draft_accepted", "Guesses that came true.", self.kept),
            Family("realm_requests_running", "gauge", "Requests being answered now.", (Sample(in_flight),)),
            Family(
                "realm_request_duration_seconds",
                "histogram",
                "From a request to the end of its answer.",
                tuple(self.duration.samples()),
            ),
            Family(
                "realm_time_to_first_token_seconds",
                "histogram",
                "From a request to its first token.",
                tuple(self.ttft.samples()),
            ),
        ]


def render(families: Iterable[Family]) -> str:
    """The page as text."""
    return "".join(f"{line}\n" for family in families for line in _lines(family))


def _counter(name: str, text: str, value: float, labels: tuple[tuple[str, str], ...] = ()) -> Family:
    return Family(f"realm_{name}_total", "counter", text, (Sample(value, labels),))


def _labelled(name: str, text: str, label: str, counts: Counter[str] | Counter[int]) -> Family:
    samples = tuple(Sample(count, ((label, str(value)),)) for value, count in counts.items())
    return Family(f"realm_{name}_total", "counter", text, samples)


def _lines(family: Family) -> Iterator[str]:
    if family.help:
        yield f"# HELP {family.name} {family.help}"
    if family.kind:
        yield f"# TYPE {family.name} {family.kind}"
    for sample in family.samples:
        labels = ",".join(f'{name}="{value}"' for name, value in sample.labels)
        yield f"{family.name}{sample.suffix}{f'{{{labels}}}' if labels else ''} {sample.value}"
