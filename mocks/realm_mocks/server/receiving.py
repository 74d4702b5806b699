"""Receiving a request's body, and reading its JSON strictly."""

from __future__ import annotations

import asyncio
import json
import math
from typing import Any, NoReturn

from aiohttp import hdrs, web

from realm_mocks.server.errors import ApiError

BODY_SECONDS = 1.0
"""How long the rest of a body may be silent: nobody writes to a mock over a bad line."""

ENCODINGS = frozenset({"identity", "gzip", "deflate"})


async def body_of(request: web.Request) -> bytes:
    """The whole body of a request; ApiError 408, 413, 415 or 400 when there is none to be had."""
    encoding = request.headers.get(hdrs.CONTENT_ENCODING, "identity").lower()
    if encoding not in ENCODINGS:
        raise ApiError(415, "The Content-Encoding is unknown", code="unsupported_media_type")
    if (request.content_length or 0) > request.client_max_size:
        raise _too_large()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await request.read()
    except TimeoutError:
        raise ApiError(408, "The body did not arrive in time", code="request_timeout") from None
    except web.HTTPRequestEntityTooLarge:
        raise _too_large() from None
    except web.RequestPayloadError:
        raise ApiError(400, "The body is broken in its chunks or its compression") from None


def _too_large() -> ApiError:
    return ApiError(413, "The body is too large", code="request_too_large")


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _float(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError("a number is too large")
    return value


def strict_json(raw: bytes) -> Any:
    """The JSON value in `raw`; ValueError also for what Python takes and RFC 8259 does not, and for depth."""
    try:
        return json.loads(raw.decode("utf-8"), parse_constant=_constant, parse_float=_float)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
