"""A token bucket in whole numbers: what is let through in any stretch of time is bounded exactly."""

from __future__ import annotations

from typing import Final

_MINUTE_NS: Final = 60 * 10**9


class Bucket:
    """Holds up to `capacity` and gains `per_minute` a minute, evenly. Times are nanoseconds of any clock.

    The level is kept in units of 1/_MINUTE_NS, so that no rounding adds up. It may be taken below zero (a
    debt, for what turned out to cost more than was thought): then it has to be regained before the next.
    """

    def __init__(self, per_minute: int, capacity: int, now: int) -> None:
        self.per_minute = per_minute
        self.capacity = capacity
        self._level = capacity * _MINUTE_NS
        self._at = now

    def resize(self, per_minute: int, capacity: int, now: int) -> None:
        """Other limits from now on; what is in it stays, up to the new capacity."""
        self.level(now)
        self.per_minute, self.capacity = per_minute, capacity
        self._level = min(self._level, capacity * _MINUTE_NS)

    def level(self, now: int) -> int:
        """Whole tokens in it; negative in debt."""
        gained = max(now - self._at, 0) * self.per_minute
        self._level = min(self._level + gained, self.capacity * _MINUTE_NS)
        self._at = max(now, self._at)
        return self._level // _MINUTE_NS

    def add(self, count: int, now: int) -> None:
        """Put back `count`, or take out for a negative one; what does not fit is lost."""
        self.level(now)
        self._level = min(self._level + count * _MINUTE_NS, self.capacity * _MINUTE_NS)

    def wait(self, count: int, now: int) -> int:
        """Nanoseconds until it holds `count` (at most the capacity), if nothing is taken meanwhile."""
        self.level(now)
        missing = count * _MINUTE_NS - self._level
        return max(-(-missing // self.per_minute), 0)
