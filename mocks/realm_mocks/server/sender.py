"""Sending a planned stream: each event at its absolute deadline, one write each, its true time recorded."""

from __future__ import annotations

import asyncio
import time

from aiohttp import web

from realm_mocks.server.records import RequestRecord
from realm_mocks.server.replies import Event, Reply
from realm_mocks.server.variation import State


async def sleep_until(deadline_ns: int) -> None:
    """Sleep to a `perf_counter_ns` deadline; returns at once when it has passed."""
    remaining = deadline_ns - time.perf_counter_ns()
    if remaining > 0:
        await asyncio.sleep(remaining / 1e9)


async def send_stream(
    request: web.Request, head: Reply, events: list[Event], record: RequestRecord, state: State
) -> web.StreamResponse:
    """Send `events`, and note in `record` when each token's bytes were handed to the socket.

    asyncio sets TCP_NODELAY on every TCP transport, so a write leaves as a segment of its own.
    """
    response = web.StreamResponse(
        status=head.status, headers={**head.headers, "Content-Type": head.content_type}
    )
    task = asyncio.current_task()
    assert task is not None
    state.live.add(task)
    try:
        await response.prepare(request)
        for event in events:
            await sleep_until(record.arrived_ns + round(event.due * 1e9))
            for number, piece in enumerate(event.writes()):
                if number:
                    await asyncio.sleep(0)  # lets the first piece leave before the next
                if piece:
                    await response.write(piece)
            if event.token is not None:
                record.sent_ns.append(time.perf_counter_ns())
        await response.write_eof()
    finally:
        state.live.discard(task)
    return response
