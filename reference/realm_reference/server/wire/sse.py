"""Server-sent events: the bytes of an event and a response that sends each one at once.

Framing: WHATWG HTML, "Server-sent events". An event here is one ``data:`` line with one JSON object and a
blank line; a comment line (``:``) keeps idle connections open and is ignored by every client.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any, Final

from aiohttp import web

DONE: Final = b"data: [DONE]\n\n"
KEEP_ALIVE: Final = b": keep-alive\n\n"


def event(data: Mapping[str, Any]) -> bytes:
    """One event; JSON escapes line ends, so the object always stays on its one line."""
    return b"data: " + json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


class SlowReader(Exception):
    """The client did not take its bytes in time; its connection is given up, nobody else's."""


class EventStream:
    """An SSE response that starts with its first event, so that failures before it keep their real status."""

    def __init__(self, request: web.Request, write_timeout: float) -> None:
        self.request = request
        self._write_timeout = write_timeout
        self._response = web.StreamResponse(
            headers={
                "Content-Type": "text/event-stream; charset=utf-8",
                "Cache-Control": "no-cache",
                # nginx holds streams back unless it is told not to.
                "X-Accel-Buffering": "no",
            }
        )
        self.started = False

    async def send(self, data: bytes) -> None:
        """Write one event, waiting while the bounded buffer is full; SlowReader after the timeout."""
        try:
            async with asyncio.timeout(self._write_timeout):
                if not self.started:
                    await self._response.prepare(self.request)
                    self.started = True
                await self._response.write(data)
        except TimeoutError:
            self.abort()
            raise SlowReader from None

    async def finish(self) -> web.StreamResponse:
        """End the response in order: the last chunk of the chunked encoding."""
        await self._response.write_eof()
        return self._response

    def abort(self) -> None:
        """Cut the connection: what has not been taken by now is not sent any more."""
        if (transport := self.request.transport) is not None:
            transport.abort()
