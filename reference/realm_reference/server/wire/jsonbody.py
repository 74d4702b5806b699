"""Reading a request's JSON strictly: what two parsers could read in two ways is refused."""

from __future__ import annotations

import asyncio
import json
import math
from typing import Any, Final, NoReturn

from aiohttp import web

from realm_reference.server.errors import ApiError, invalid
from realm_reference.server.wire import body

_LARGE: Final = 64 << 10
MAX_DEPTH: Final = 128
"""Objects and arrays inside each other; whoever walks a body may recurse."""


class _Refused(ValueError):
    """JSON that Python would take and the specification (RFC 8259) or our contract does not."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


def _constant(name: str) -> NoReturn:
    raise _Refused(f"{name} is not JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, value in pairs:
        if name in result:
            raise _Refused(f"the key {name[:64]!r} appears twice in one object", name[:64])
        result[name] = value
    return result


def _float(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise _Refused(f"the number {digits[:32]} is too large")
    return value


def _check_depth(text: str, value: Any) -> None:
    """Refused for a value that is nested too deeply; walked level by level, and only if it could be."""
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for parent in level
            for child in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(child, dict | list)
        ]
        if not level:
            return
    raise RecursionError


def parse(raw: bytes, what: str = "The request body") -> dict[str, Any]:
    """The object in `raw`, which is `what` to a reader; ApiError 400 with the reason otherwise. No input
    makes it raise anything else.
    """
    try:
        text = raw.decode("utf-8")
        if text.startswith("\ufeff"):
            raise _Refused("it begins with a byte order mark")
        if not text.strip():
            raise _Refused("it is empty")
        value = json.loads(text, parse_constant=_constant, parse_float=_float, object_pairs_hook=_object)
        if isinstance(value, dict):
            _check_depth(text, value)
        # A lone surrogate (RFC 8259 section 8.2) has no UTF-8 form, so it could never reach the tokenizer.
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeDecodeError:
        raise invalid(None, f"{what} is not valid UTF-8.", "invalid_json") from None
    except UnicodeEncodeError:
        raise invalid(None, f"{what} holds an unpaired surrogate escape.", "invalid_json") from None
    except RecursionError:
        raise invalid(None, f"{what} is nested too deeply.", "invalid_json") from None
    except ValueError as error:
        param = error.param if isinstance(error, _Refused) else None
        raise invalid(param, f"{what} is not valid JSON: {error}.", "invalid_json") from None
    if not isinstance(value, dict):
        raise invalid(None, f"{what} must be a JSON object.", "invalid_json")
    return value


async def read(request: web.Request) -> dict[str, Any]:
    """Read and parse the body: 415 for another content type, 413 past the size limit, 408 when it does not
    come in time, 400 for bad JSON.
    """
    if request.content_type != "application/json":
        found = (
            f"not {request.content_type[:64]!r}" if request.headers.get("Content-Type") else "and is missing"
        )
        raise ApiError(415, f"Content-Type must be application/json, {found}.", code="unsupported_media_type")
    raw = await body.read(request)
    # What takes long to parse does so beside the event loop, where other requests wait.
    return parse(raw) if len(raw) < _LARGE else await asyncio.to_thread(parse, raw)
