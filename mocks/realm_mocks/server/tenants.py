"""Whose a key is, and the one tenant that may not do much: a bucket of few requests that fills quickly."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from realm_mocks.server.errors import ApiError

BURST = 3
PER_SECOND = 2.5


@dataclass
class Bucket:
    """Requests that may come at once; it gains some each second."""

    level: float = BURST
    at: float = field(default_factory=time.monotonic)

    def take(self) -> bool:
        """Take one out, if there is one."""
        now = time.monotonic()
        self.level = min(BURST, self.level + (now - self.at) * PER_SECOND)
        self.at = now
        if self.level < 1:
            return False
        self.level -= 1
        return True

    def wait_ms(self) -> str:
        """Until there is one to take."""
        return str(math.ceil((1 - self.level) / PER_SECOND * 1000))

    def headers(self) -> dict[str, str]:
        """What is left of it, as OpenAI tells it."""
        reset = math.ceil((BURST - self.level) / PER_SECOND * 1000)
        return {
            "x-ratelimit-limit-requests": str(BURST),
            "x-ratelimit-remaining-requests": str(int(self.level)),
            "x-ratelimit-reset-requests": f"{reset}ms" if reset < 1000 else f"{math.ceil(reset / 1000)}s",
        }


class Tenants:
    """Three keys, made from the first: `api_key` and `other_key` are of two tenants that may do anything,
    `limited_key` is of one with a bucket. With no key everybody may do anything.
    """

    def __init__(self, api_key: str | None) -> None:
        self.keys = () if api_key is None else (api_key, f"{api_key}-other", f"{api_key}-limited")
        self._bucket = Bucket()

    @property
    def api_key(self) -> str | None:
        """The first key."""
        return self.keys[0] if self.keys else None

    @property
    def other_key(self) -> str | None:
        """Of another tenant than the first key's."""
        return self.keys[1] if self.keys else None

    @property
    def limited_key(self) -> str | None:
        """Of the tenant with few requests."""
        return self.keys[2] if self.keys else None

    def knows(self, header: str | None, allowed: Callable[[str | None, str], bool]) -> bool:
        """Whether an Authorization header is one of the keys', by this check; no key, no check."""
        return not self.keys or any(allowed(header, key) for key in self.keys)

    def let_in(self, header: str | None) -> dict[str, str]:
        """Count a request; the headers that its answer gets. ApiError 429 when the bucket is empty."""
        if not self.keys or not (header or "").endswith(self.keys[2]):
            return {}
        if self._bucket.take():
            return self._bucket.headers()
        raise ApiError(
            429,
            f"Rate limit reached: {BURST} requests at once, {PER_SECOND:g} a second. Try again in 1s.",
            type="requests",
            code="rate_limit_exceeded",
            headers={"Retry-After": "1", "Retry-After-Ms": self._bucket.wait_ms(), **self._bucket.headers()},
        )
