"""What the server remembers of a request while it lasts: for the log line, the metrics, the usage."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

from realm_reference.orchestration import Generation
from realm_reference.server.errors import ApiError
from realm_reference.tenants import ANONYMOUS, Caller
from realm_reference.tenants.gate import Left

REQUEST_ID_HEADER: Final = "x-request-id"
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")


@dataclass
class RequestRecord:
    """Filled in as the request goes through; never holds a prompt, an output or a key."""

    request_id: str = field(default_factory=lambda: f"req-{secrets.token_hex(12)}")
    started_ns: int = field(default_factory=time.perf_counter_ns)
    caller: Caller = ANONYMOUS
    left: tuple[Left, ...] = ()
    error: ApiError | None = None
    finish: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    queue_seconds: float | None = None
    ttft_seconds: float | None = None
    traceparent: str | None = None
    generations: Sequence[Generation] = ()
    counted: bool = True  # False for a connection of many calls, each of which is counted by itself

    def seconds(self) -> float:
        """Since the request's head was read."""
        return (time.perf_counter_ns() - self.started_ns) / 1e9


_KEY: Final = web.RequestKey("realm_record", RequestRecord)


def begin(request: web.Request) -> RequestRecord:
    """Attach a record to `request`; the client's own x-request-id is kept if it is short and plain."""
    given = request.headers.get(REQUEST_ID_HEADER, "")
    record = RequestRecord(given) if _REQUEST_ID.fullmatch(given) else RequestRecord()
    record.traceparent = request.headers.get("traceparent")
    request[_KEY] = record
    return record


def of(request: web.Request) -> RequestRecord:
    """The record of a request that `begin` has seen, as every one is before its handler."""
    return request[_KEY]
