"""A tenant's limits as HTTP tells them: 429 with what to wait for, and what is left on every answer.

The headers and their format are OpenAI's: ``x-ratelimit-{limit,remaining,reset}-{requests,tokens}``; its
client waits for Retry-After-Ms where it is sent.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

from realm_reference.server.errors import ApiError
from realm_reference.tenants.gate import Left, Limit, Refused

_TYPES: Final = {
    Limit.REQUESTS: "requests",
    Limit.CONCURRENCY: "requests",
    Limit.TOKENS: "tokens",
    Limit.QUOTA: "insufficient_quota",
}


def headers_of(left: Iterable[Left]) -> dict[str, str]:
    """The headers for what is left of a tenant's rates."""
    headers: dict[str, str] = {}
    for one in left:
        headers[f"x-ratelimit-limit-{one.of}"] = str(one.limit)
        headers[f"x-ratelimit-remaining-{one.of}"] = str(one.remaining)
        headers[f"x-ratelimit-reset-{one.of}"] = duration(one.reset_seconds)
    return headers


def too_many(refused: Refused) -> ApiError:
    """429: the tenant's limit, and in how many seconds the same request could come in."""
    wait = max(math.ceil(refused.retry_seconds), 1)
    kind = _TYPES[refused.limit]
    return ApiError(
        429,
        f"Rate limit reached: {refused}. Try again in {duration(wait)}.",
        type=kind,
        code="insufficient_quota" if refused.limit is Limit.QUOTA else "rate_limit_exceeded",
        headers={
            "Retry-After": str(wait),
            "Retry-After-Ms": str(max(math.ceil(refused.retry_seconds * 1000), 1)),
            **headers_of(refused.left),
        },
    )


def duration(seconds: float) -> str:
    """As OpenAI writes it: ``120ms``, ``1s``, ``6m0s``, ``1h0m0s``; rounded up."""
    milliseconds = math.ceil(seconds * 1000)
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    whole = math.ceil(milliseconds / 1000)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{rest}s"
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
