"""Receiving a request's body: bounded in size, alone and together with all others, and in time."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from aiohttp import hdrs, web

from realm_reference.server.errors import ApiError, overloaded

_ENCODINGS: Final = frozenset({"identity", "gzip", "deflate"})


@dataclass
class Bodies:
    """The bodies that are being received now.

    Attributes:
        each: bytes that one may have, after decompression.
        together: bytes that all of them may have.
        seconds: time that one may take.
        held: bytes that they have.
    """

    each: int
    together: int
    seconds: float
    held: int = 0


BODIES: Final = web.AppKey("realm_bodies", Bodies)


async def read(request: web.Request) -> bytes:
    """The whole body. ApiError 413, 408, 415, 400 (its encoding is broken) or 503 (too many at a time)."""
    bodies = request.app[BODIES]
    encoding = request.headers.get(hdrs.CONTENT_ENCODING, "identity").lower()
    if encoding not in _ENCODINGS:
        message = f"Content-Encoding must be gzip or deflate, or absent, not {encoding[:64]!r}."
        raise ApiError(415, message, code="unsupported_media_type")
    if (request.content_length or 0) > bodies.each:
        raise _too_large(bodies)
    raw = bytearray()
    try:
        async with asyncio.timeout(bodies.seconds):
            await _receive(request, raw, bodies)
    except TimeoutError:
        message = "The request's body did not arrive in time."
        raise ApiError(408, message, code="request_timeout", close=True) from None
    except web.RequestPayloadError:
        message = "The request's body is broken in its chunks or its compression."
        raise ApiError(400, message, code="bad_request", close=True) from None
    finally:
        bodies.held -= len(raw)
    return bytes(raw)


async def _receive(request: web.Request, raw: bytearray, bodies: Bodies) -> None:
    while chunk := await request.content.readany():
        raw += chunk
        bodies.held += len(chunk)
        if len(raw) > bodies.each:
            raise _too_large(bodies)
        if bodies.held > bodies.together:
            raise overloaded("Too many large requests are arriving; try again.", 1)


def _too_large(bodies: Bodies) -> ApiError:
    message = f"The request body is larger than the {bodies.each} bytes that this server accepts."
    return ApiError(413, message, code="request_too_large", close=True)


async def continue_if_small(request: web.Request) -> None:
    """Answer ``Expect: 100-continue``, but not for a body that will be refused by its length."""
    if (request.content_length or 0) <= request.app[BODIES].each:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0
