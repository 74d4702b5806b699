"""Receiving a request's body: bounded in size, alone and together with all others, and in time."""

from __future__ import annotations

import asyncio
import zlib
from dataclasses import dataclass
from typing import Final

from aiohttp import hdrs, web

from realm_reference.server.errors import ApiError, overloaded

# zlib's window bits for each of the encodings.
_PACKED: Final = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}


@dataclass
class Bodies:
    """The bodies that are being received now.

    Attributes:
        each: bytes that one may have, as it comes and after it is unpacked.
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
    if encoding != "identity" and encoding not in _PACKED:
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
        raise _broken("chunks", close=True) from None
    finally:
        bodies.held -= len(raw)
    if encoding == "identity":
        return bytes(raw)
    return await asyncio.to_thread(_unpacked, bytes(raw), _PACKED[encoding], bodies)


async def _receive(request: web.Request, raw: bytearray, bodies: Bodies) -> None:
    while chunk := await request.content.readany():
        raw += chunk
        bodies.held += len(chunk)
        if len(raw) > bodies.each:
            raise _too_large(bodies)
        if bodies.held > bodies.together:
            raise overloaded("Too many large requests are arriving; try again.", 1)


def _unpacked(raw: bytes, window: int, bodies: Bodies) -> bytes:
    """A compressed body, of which no more is unpacked than it may have."""
    unpacker = zlib.decompressobj(window)
    try:
        data = unpacker.decompress(raw, bodies.each + 1)
    except zlib.error:
        raise _broken("compression") from None
    if len(data) > bodies.each:
        raise _too_large(bodies)
    if not unpacker.eof or unpacker.unused_data:
        raise _broken("compression")
    return data


def _broken(what: str, *, close: bool = False) -> ApiError:
    return ApiError(400, f"The request's body is broken in its {what}.", code="bad_request", close=close)


def _too_large(bodies: Bodies) -> ApiError:
    message = f"The request body is larger than the {bodies.each} bytes that this server accepts."
    return ApiError(413, message, code="request_too_large", close=True)


async def continue_if_small(request: web.Request) -> None:
    """Answer ``Expect: 100-continue``, but not for a body that will be refused by its length."""
    if (request.content_length or 0) <= request.app[BODIES].each:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0
