"""Service level objectives: limits on a run's figures, with a verdict for a pipeline.

Written as in `ttft_p99<300ms, itl_p99<50ms, error_rate<0.1%`. A latency is judged at the quantile that it
names, from the run's own histogram; without values an objective is missed: nothing shows that it held.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from realm_loadtests.records.measures import Latency
from realm_loadtests.records.records import Record

LATENCIES: Final = ("ttft", "itl", "e2e", "tpot")
RATES: Final = {"error_rate": "share", "tokens_per_second": "rate", "requests_per_second": "rate"}
EXAMPLE: Final = "ttft_p99<300ms,itl_p99<50ms,error_rate<0.1%"
_OBJECTIVE = re.compile(r"(?P<figure>[a-z0-9_]+?)(?:_p(?P<rank>\d{1,2}(?:\.\d+)?)|_(?P<max>max))?\s*"
                        r"(?P<sign><=?|>=?)\s*(?P<limit>\d+(?:\.\d+)?)\s*(?P<unit>ms|s|us|%|)")  # fmt: skip
_TO_MS: Final = {"us": 0.001, "ms": 1.0, "s": 1000.0}


class SloError(Exception):
    """The text is no objective; one line."""


@dataclass(frozen=True)
class Objective:
    """One limit. `rank` is a latency's quantile (0 to 1); `limit` is in milliseconds for a latency, a share
    (0 to 1) for an error rate, and otherwise a number a second.
    """

    text: str
    figure: str
    sign: str
    limit: float
    rank: float | None = None

    @property
    def resampled(self) -> str | None:
        """The figure's name for `Sample.figure`; None for a rate, which no single request has."""
        if self.rank is not None:
            return f"{self.figure}_p{100 * self.rank:g}"
        return self.figure if self.figure == "error_rate" else None

    def holds(self, value: float) -> bool:
        """Whether the value keeps the limit."""
        if self.sign.startswith("<"):
            return value < self.limit or (self.sign == "<=" and value == self.limit)
        return value > self.limit or (self.sign == ">=" and value == self.limit)

    def judge(self, figures: dict[str, Any]) -> dict[str, Any]:
        """The verdict on a load.json's `figures`: the objective, the value seen (None: none), whether met."""
        value = self._value(figures)
        return {"objective": self.text, "value": value, "met": value is not None and self.holds(value)}

    def _value(self, figures: dict[str, Any]) -> float | None:
        if self.rank is None:
            found: float | None = figures[self.figure]
            return found
        latency = Latency(figures[f"{self.figure}_ms"]["hdr"])
        return latency.quantiles_us([self.rank])[0] / 1000 if latency.count else None


def parse(text: str) -> list[Objective]:
    """Objectives between commas or on lines (`#` begins a comment), or `@FILE` with such; raises SloError."""
    if text.startswith("@"):
        try:
            text = Path(text[1:]).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise SloError(f"{text[1:]} cannot be read: {getattr(error, 'strerror', error)}") from None
    lines = [line.partition("#")[0] for line in text.splitlines()]
    found = [_objective(part.strip()) for line in lines for part in line.split(",") if part.strip()]
    if not found:
        raise SloError(f"no objective is named; write for example {EXAMPLE}")
    return found


def _objective(text: str) -> Objective:
    match = _OBJECTIVE.fullmatch(text)
    if match is None:
        raise SloError(f"{text!r} is no objective; write for example {EXAMPLE}")
    figure, unit, limit = match["figure"], match["unit"], float(match["limit"])
    ranked = match["rank"] or match["max"]
    if figure in LATENCIES and ranked and unit in _TO_MS:
        rank = 1.0 if match["max"] else float(match["rank"]) / 100
        return Objective(text, figure, match["sign"], limit * _TO_MS[unit], rank)
    if figure in RATES and not ranked and unit in (("%", "") if RATES[figure] == "share" else ("",)):
        return Objective(text, figure, match["sign"], limit / 100 if unit == "%" else limit)
    if figure in LATENCIES:
        raise SloError(f"{text!r}: a latency needs a quantile and a unit, as in {figure}_p99<300ms")
    known = ", ".join([*(f"{name}_pNN" for name in LATENCIES), *RATES])
    raise SloError(f"{text!r}: {figure!r} is no figure with limits; there are {known}")


def good(record: Record, objectives: Sequence[Objective]) -> bool:
    """Whether one request kept the latency limits: what goodput counts (DistServe,
    https://arxiv.org/abs/2401.09670). Its gaps are judged by their mean, as TPOT.
    """
    if record.outcome != "completed" or record.ttft_us is None:
        return False
    seen = {
        "ttft": record.start_ttft_us,
        "e2e": record.start_e2e_us,
        "tpot": record.tpot_us,
        "itl": record.tpot_us,
    }
    return all(
        (value := seen[each.figure]) is None or each.holds(value / 1000)
        for each in objectives
        if each.figure in seen
    )


def goodput(records: Iterable[Record], objectives: Sequence[Objective], window_s: float) -> float | None:
    """Requests a second that kept every latency limit."""
    return round(sum(good(record, objectives) for record in records) / window_s, 6) if window_s else None
