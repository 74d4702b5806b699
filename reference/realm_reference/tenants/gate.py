"""One tenant's limits: what it uses now, what it has used, what the next request finds left."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from realm_reference.tenants.bucket import Bucket
from realm_reference.tenants.policy import Policy

DAY_SECONDS: Final = 86400


@dataclass(frozen=True)
class Moment:
    """Two clocks at once: `ns` never goes back and is what rates are measured by, `unix` has the days."""

    ns: int
    unix: float

    @property
    def day(self) -> int:
        """Days since 1970, UTC."""
        return int(self.unix // DAY_SECONDS)


class Limit(StrEnum):
    """What a request can run into."""

    REQUESTS = "requests_per_minute"
    TOKENS = "tokens_per_minute"
    CONCURRENCY = "concurrency"
    QUOTA = "tokens_per_day"


class Refused(Exception):
    """Not now: which limit, in how many seconds to come again, and what is left."""

    def __init__(self, limit: Limit, message: str, retry_seconds: float, left: tuple[Left, ...]) -> None:
        super().__init__(message)
        self.limit = limit
        self.retry_seconds = retry_seconds
        self.left = left


@dataclass(frozen=True)
class Left:
    """A rate limit as its tenant sees it. `reset_seconds`: until all of it is there again."""

    of: str
    limit: int
    remaining: int
    reset_seconds: float


class Gate:
    """Not thread-safe: all of a server's requests are let in and settled on its event loop."""

    def __init__(self, policy: Policy, moment: Moment) -> None:
        self._policy = policy
        self._running = 0
        self._day = moment.day
        self._used_today = 0
        self._reserved = 0
        self._requests: Bucket | None = None
        self._tokens: Bucket | None = None
        self.change(policy, moment)

    def change(self, policy: Policy, moment: Moment) -> None:
        """Another policy from now on; what was used stays used."""
        self._policy = policy
        per_minute = policy.requests_per_minute
        self._requests = _resized(self._requests, per_minute, policy.requests_burst or per_minute, moment)
        self._tokens = _resized(self._tokens, policy.tokens_per_minute, policy.tokens_per_minute, moment)

    def enter(self, tokens: int, moment: Moment) -> None:
        """Let a request in that may use `tokens`, or raise Refused and change nothing."""
        self.check(tokens, moment)
        self._running += 1
        self._reserved += tokens
        if self._requests is not None:
            self._requests.add(-1, moment.ns)
        if self._tokens is not None:
            self._tokens.add(-min(tokens, self._tokens.capacity), moment.ns)

    def check(self, tokens: int, moment: Moment) -> None:
        """Refused if a request that may use `tokens` cannot come in now."""
        policy, left = self._policy, self.left(moment)
        if policy.concurrency is not None and self._running >= policy.concurrency:
            raise Refused(Limit.CONCURRENCY, f"concurrency is {policy.concurrency}", 1.0, left)
        if self._requests is not None and (wait := self._requests.wait(1, moment.ns)):
            message = f"requests_per_minute is {self._requests.per_minute}"
            raise Refused(Limit.REQUESTS, message, wait / 1e9, left)
        if self._tokens is not None:
            wanted = min(tokens, self._tokens.capacity)
            if wait := self._tokens.wait(wanted, moment.ns):
                message = f"tokens_per_minute is {self._tokens.per_minute}, and this request may use {tokens}"
                raise Refused(Limit.TOKENS, message, wait / 1e9, left)
        self._check_quota(tokens, moment, left)

    def _check_quota(self, tokens: int, moment: Moment, left: tuple[Left, ...]) -> None:
        quota = self._policy.tokens_per_day
        if quota is None:
            return
        self._turn_day(moment)
        remaining = quota - self._used_today - self._reserved
        if tokens > remaining:
            message = (
                f"tokens_per_day is {quota}, {max(remaining, 0)} are left, and this request may use {tokens}"
            )
            midnight = (moment.day + 1) * DAY_SECONDS
            raise Refused(Limit.QUOTA, message, midnight - moment.unix, left)

    def leave(self, reserved: int, used: int | None, moment: Moment) -> None:
        """A request that came in with `reserved` tokens is over; it used `used`, or never ran (None)."""
        self._turn_day(moment)
        self._running -= 1
        self._reserved -= reserved
        self._used_today += used or 0
        if self._tokens is not None:
            self._tokens.add(min(reserved, self._tokens.capacity) - (used or 0), moment.ns)
        if self._requests is not None and used is None:
            self._requests.add(1, moment.ns)

    def used_elsewhere(self, requests: int, tokens: int, moment: Moment) -> None:
        """Other servers have let the tenant do so much: it comes out of the same minute."""
        if self._requests is not None:
            self._requests.add(-requests, moment.ns)
        if self._tokens is not None:
            self._tokens.add(-tokens, moment.ns)

    def used_at_least(self, tokens: int, day: int, moment: Moment) -> None:
        """The tenant has used so many tokens on that day, here and elsewhere; fewer than known is no news."""
        self._turn_day(moment)
        if day == self._day:
            self._used_today = max(self._used_today, tokens)

    def left(self, moment: Moment) -> tuple[Left, ...]:
        """What is left of the rates that are limited."""
        buckets = (("requests", self._requests), ("tokens", self._tokens))
        return tuple(
            Left(
                of,
                bucket.capacity,
                max(bucket.level(moment.ns), 0),
                bucket.wait(bucket.capacity, moment.ns) / 1e9,
            )
            for of, bucket in buckets
            if bucket is not None
        )

    def _turn_day(self, moment: Moment) -> None:
        if moment.day > self._day:
            self._day, self._used_today = moment.day, 0


def _resized(
    bucket: Bucket | None, per_minute: int | None, capacity: int | None, moment: Moment
) -> Bucket | None:
    if per_minute is None or capacity is None:
        return None
    if bucket is None:
        return Bucket(per_minute, capacity, moment.ns)
    bucket.resize(per_minute, capacity, moment.ns)
    return bucket
