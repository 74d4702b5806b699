"""How long prompts and answers are: a distribution of token counts, as it is written on a command line."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from random import Random
from typing import Final

FORMS: Final = "128, uniform:64-256, normal:200:50 (mean:SD) or lognormal:200:0.8 (median:sigma)"
_MOST: Final = 1_000_000
_TAILS: Final = 3.0
_FORM: Final = re.compile(
    r"(?P<low>\d{1,7})"
    r"|uniform:(?P<from>\d{1,7})-(?P<to>\d{1,7})"
    r"|(?P<bell>normal|lognormal):(?P<middle>\d{1,7}(?:\.\d+)?):(?P<width>\d{1,7}(?:\.\d+)?)"
)


class SpreadError(ValueError):
    """Not a distribution of lengths; the message says how one is written."""


@dataclass(frozen=True)
class Spread:
    """Whole numbers from `low` to `high`. The bell-shaped ones are cut at three standard deviations, so that
    the longest is known beforehand: `middle` and `width` are mean and standard deviation of a normal one, or
    median and standard deviation of the logarithm.
    """

    low: int
    high: int
    bell: str | None = None
    middle: float = 0.0
    width: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Spread:
        """Read one of `FORMS`; raises SpreadError."""
        match = _FORM.fullmatch(text)
        if match is None:
            raise SpreadError(f"{text!r} is not a length; write {FORMS}")
        middle, width = float(match["middle"] or 0), float(match["width"] or 0)
        if match["bell"] == "lognormal":
            away = min(_TAILS * width, math.log(_MOST))
            low, high = middle * math.exp(-away), middle * math.exp(away)
        elif match["bell"]:
            low, high = middle - _TAILS * width, middle + _TAILS * width
        else:
            low, high = float(match["low"] or match["from"]), float(match["low"] or match["to"])
        if high < max(low, 1) or high > _MOST:
            raise SpreadError(f"{text!r}: lengths go from 1 to {_MOST}, the shorter one first")
        return cls(max(1, round(low)), max(1, round(high)), match["bell"], middle, width)

    @property
    def typical(self) -> int:
        """One in the middle."""
        return round(self.middle) or (self.low + self.high) // 2

    def draw(self, random: Random) -> int:
        """One length."""
        if self.bell is None:
            return random.randint(self.low, self.high)
        drawn = random.gauss(0.0, 1.0) * self.width
        value = self.middle * math.exp(drawn) if self.bell == "lognormal" else self.middle + drawn
        return min(max(round(value), self.low), self.high)
