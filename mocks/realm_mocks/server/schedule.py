"""When each token of an answer is due: the clock that makes a MockServer a calibration source.

A schedule is a pure function from a token's index to seconds after the request's arrival. Deadlines are
absolute, so that a late token never delays the ones behind it and errors do not add up. A server whose
answers differ (`jitter`, `slow`, `drift`) has a schedule for each of them, drawn from a seed: `of` gives it.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from typing import Final

_DRAWN_TOKENS: Final = 256
"""Tokens whose moments are drawn where the schedule does not say how many an answer has."""


@dataclass(frozen=True)
class Schedule:
    """The exact times at which a MockServer sends tokens.

    Attributes:
        ttft: seconds from the request's arrival to the first token.
        itl: seconds between two tokens.
        tokens: how many tokens an answer has; None leaves it to the scripted model.
        stalls: (index, seconds) pairs: token `index`, and all behind it, come that much later.
        jitter: each wait, the first too, is drawn evenly from so many seconds less to so many more.
        slow: (share, seconds): this share of the waits, drawn for each, is that much longer: two modes.
        drift: each answer's waits are longer than the first answer's by this share times its number.
        seed: decides what is drawn.
    """

    ttft: float = 0.0
    itl: float = 0.0
    tokens: int | None = None
    stalls: tuple[tuple[int, float], ...] = ()
    jitter: float = 0.0
    slow: tuple[float, float] = (0.0, 0.0)
    drift: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        share, longer = self.slow
        times = (self.ttft, self.itl, self.jitter, longer, self.drift, *(late for _, late in self.stalls))
        if min(times) < 0 or self.jitter > min(self.ttft, self.itl):
            raise ValueError(
                "a schedule cannot send a token before the request arrives or before the token ahead of it: "
                "use times >= 0 and a jitter within the shortest wait"
            )
        if not 0 <= share <= 1:
            raise ValueError(f"the share of slow waits of a schedule is {share}: use 0 to 1")
        if self.tokens is not None and self.tokens < 1:
            raise ValueError("a schedule needs at least one token, or tokens=None")

    def of(self, number: int) -> Schedule:
        """The schedule of answer `number` (0 is the first), with all that is drawn written down as stalls."""
        if not (self.jitter or self.slow[0] or self.drift):
            return self
        draws = random.Random(f"{self.seed}:{number}")
        share, longer = self.slow
        drawn = tuple(
            (index, 2 * self.jitter * draws.random() + longer * (draws.random() < share))
            for index in range(self.tokens or _DRAWN_TOKENS)
        )
        times = 1 + self.drift * number
        return replace(
            self,
            ttft=(self.ttft - self.jitter) * times,
            itl=(self.itl - self.jitter) * times,
            stalls=tuple((index, late * times) for index, late in (*self.stalls, *drawn)),
            jitter=0.0,
            slow=(0.0, 0.0),
            drift=0.0,
        )

    def offset(self, index: int) -> float:
        """Seconds from the request's arrival to token `index` (0 is the first)."""
        indices, late = self._stalled
        return self.ttft + self.itl * index + late[bisect_right(indices, index)]

    def offsets(self, count: int) -> list[float]:
        """`offset` of the first `count` tokens."""
        return [self.offset(index) for index in range(count)]

    @cached_property
    def _stalled(self) -> tuple[list[int], list[float]]:
        """The stalls' indices, ascending, and the seconds of those before each of them and of all."""
        stalls = sorted(self.stalls)
        return [index for index, _ in stalls], list(accumulate((late for _, late in stalls), initial=0.0))
