"""When each token of an answer is due: the clock that makes a MockServer a calibration source.

A schedule is a pure function from a token's index to seconds after the request's arrival. Deadlines are
absolute, so that a late token never delays the ones behind it and errors do not add up.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """The exact times at which a MockServer sends tokens.

    Attributes:
        ttft: seconds from the request's arrival to the first token.
        itl: seconds between two tokens.
        tokens: how many tokens an answer has; None leaves it to the scripted model.
        stalls: (index, seconds) pairs: token `index`, and all behind it, come that much later.
    """

    ttft: float = 0.0
    itl: float = 0.0
    tokens: int | None = None
    stalls: tuple[tuple[int, float], ...] = ()

    def __post_init__(self) -> None:
        if self.ttft < 0 or self.itl < 0 or any(seconds < 0 for _, seconds in self.stalls):
            raise ValueError("a schedule cannot send a token before the request arrives: use times >= 0")
        if self.tokens is not None and self.tokens < 1:
            raise ValueError("a schedule needs at least one token, or tokens=None")

    def offset(self, index: int) -> float:
        """Seconds from the request's arrival to token `index` (0 is the first)."""
        stalled = sum(seconds for at, seconds in self.stalls if at <= index)
        return self.ttft + self.itl * index + stalled

    def offsets(self, count: int) -> list[float]:
        """`offset` of the first `count` tokens."""
        return [self.offset(index) for index in range(count)]
