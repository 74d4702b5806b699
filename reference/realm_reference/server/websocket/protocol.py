"""The messages: what a call looks like, what a reply does, and how our errors are called in them.

The words are Realm's (docs/websocket.md has them all); `id` belongs to the client and comes back as it was.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from realm_reference.server.errors import ApiError, invalid
from realm_reference.server.requests import checks
from realm_reference.server.wire import jsonbody

Json = dict[str, Any]

STREAMING: Final = "streaming"
COMPLETE: Final = "complete"
ERROR: Final = "error"
CANCELLED: Final = "cancelled"

_FIELDS: Final = frozenset({"id", "function", "params", "tenant_id"})
_MAX_ID: Final = 128
_CODES: Final = {
    401: "UNAUTHORIZED",
    403: "UNAUTHORIZED",
    429: "RATE_LIMIT_EXCEEDED",
    500: "INTERNAL_ERROR",
    503: "SERVICE_UNAVAILABLE",
    504: "TIMEOUT",
}


@dataclass(frozen=True)
class Call:
    """One call of a client's."""

    id: str
    function: str
    params: Mapping[str, Any]
    tenant_id: str | None


class BadCall(Exception):
    """A message that is no call. `id` is None where it had none that could be read: an id is never made
    up.
    """

    def __init__(self, id: str | None, error: ApiError) -> None:
        super().__init__(error.message)
        self.id = id
        self.error = error


def parse_call(text: str) -> Call:
    """The call in a text frame; BadCall says what is wrong with it."""
    try:
        message = jsonbody.parse(text.encode(), "The message")
    except ApiError as error:
        raise BadCall(None, error) from None
    given = message.get("id")
    known = given if isinstance(given, str) and 1 <= len(given) <= _MAX_ID else None
    try:
        if known is None:
            raise invalid("id", f"'id' must be a string of 1 to {_MAX_ID} characters.", "invalid_type")
        checks.known_keys("", message, _FIELDS)
        function = checks.string("function", message.get("function"))
        params = checks.mapping("params", {} if message.get("params") is None else message["params"])
        tenant = message.get("tenant_id")
        return Call(known, function, params, None if tenant is None else checks.string("tenant_id", tenant))
    except ApiError as error:
        raise BadCall(known, error) from None


def reply(id: str | None, status: str, data: Json | None = None) -> Json:
    """A reply to the call `id`."""
    return {"id": id, "status": status} | ({} if data is None else {"data": data})


def error_reply(id: str | None, error: ApiError) -> Json:
    """The reply that ends a call which failed."""
    return {"id": id, "status": ERROR, "error": error_object(error)}


def error_object(error: ApiError) -> Json:
    """``{code, message, details?}``: Realm's code, and in `details` what HTTP would have said."""
    details = {"param": error.param, "code": error.code, "retry_after": error.headers.get("Retry-After")}
    told = {name: value for name, value in details.items() if value is not None}
    found: Json = {"code": _CODES.get(error.status, "DISPATCH_ERROR"), "message": error.message}
    return found | ({"details": told} if told else {})


def dump(message: Json) -> str:
    """A message as the text of a frame."""
    return json.dumps(message, ensure_ascii=False, separators=(",", ":"))
