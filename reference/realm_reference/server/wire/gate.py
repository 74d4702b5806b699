"""How many connections there may be, and who goes when there are too many.

All clients share the process's descriptors and memory. So connections are counted; when there are too many,
the one that has been idle longest makes room, and only if none is idle the newcomer is told 503.
"""

from __future__ import annotations

import asyncio
import resource
import socket
from typing import Final, cast

from aiohttp import web

from realm_reference.server.errors import UNAVAILABLE, ApiError
from realm_reference.server.middleware import refusing
from realm_reference.server.service import Service
from realm_reference.server.settings import ServerSettings
from realm_reference.server.wire.connection import LINGER_SECONDS, Answered, Connection

SETTLE_SECONDS: Final = 0.1
"""Many turns of the event loop; an accepted socket needs three to become a connection."""

RESERVED_DESCRIPTORS: Final = 256
"""For the model's files, the listening sockets, the event loop, logs."""


def affordable(wanted: int, backlog: int) -> int:
    """How many of `wanted` connections this process has descriptors for, after asking for more of them."""
    # A burst of accepts opens up to `backlog` sockets before those that make room for them are closed.
    needed = wanted + backlog + RESERVED_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        return min(wanted, max(soft // 2, soft - (needed - wanted)))
    return wanted


class Gate:
    """Makes the protocol of each new connection, and knows which are idle, longest first."""

    def __init__(self, server: web.Server, settings: ServerSettings, answered: Answered, limit: int) -> None:
        self.server = server
        self.settings = settings
        self.answered = answered
        self._limit = limit
        self._open: set[Connection] = set()
        self._idle: dict[Connection, None] = {}

    def __len__(self) -> int:
        return len(self._open)

    def __call__(self) -> asyncio.Protocol:
        """The protocol of a connection that has just been accepted."""
        if len(self._open) >= self._limit and not self._make_room():
            return TurnedAway(self.answered(_crowded(self.settings.retry_after)))
        connection = Connection(self)
        self._open.add(connection)
        self._idle[connection] = None
        return connection

    def _make_room(self) -> bool:
        longest = next(iter(self._idle), None)
        if longest is None:
            return False
        self.left(longest)
        longest.drop()
        return True

    def busy(self, connection: Connection) -> None:
        """`connection` has a request: it is not dropped for a newcomer."""
        self._idle.pop(connection, None)

    def idle(self, connection: Connection) -> None:
        """`connection` has answered all it was asked."""
        if connection in self._open:
            self._idle[connection] = None

    def left(self, connection: Connection) -> None:
        """`connection` is closed, or as good as."""
        self._open.discard(connection)
        self._idle.pop(connection, None)


def _crowded(retry_after: int) -> ApiError:
    headers = {"Retry-After": str(retry_after)}
    message = "The server has no room for another connection; try again."
    return ApiError(503, message, UNAVAILABLE, code="too_many_connections", headers=headers, close=True)


class TurnedAway(asyncio.Protocol):
    """A connection for which there is no room: it gets its refusal and costs next to nothing."""

    def __init__(self, response: web.Response) -> None:
        lines = [f"HTTP/1.1 {response.status} {response.reason}", "Connection: close"]
        body = cast(bytes, response.body)
        headers = {**response.headers, "Content-Length": str(len(body))}
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self._raw = "\r\n".join([*lines, "", ""]).encode("latin-1") + body

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Answer at once, then leave the client a moment to read it."""
        writer = cast(asyncio.WriteTransport, transport)
        writer.write(self._raw)
        writer.write_eof()
        asyncio.get_running_loop().call_later(LINGER_SECONDS, writer.abort)


class GatedSite(web.SockSite):
    """aiohttp's site on a bound socket, with a gate in front of it."""

    def __init__(
        self, runner: web.AppRunner, bound: socket.socket, service: Service, *, backlog: int
    ) -> None:
        super().__init__(runner, bound, backlog=backlog)
        self._service = service

    async def start(self) -> None:
        """Listen and accept."""
        await web.BaseSite.start(self)
        server, settings = self._runner.server, self._service.settings
        assert server is not None  # since the runner is set up
        limit = affordable(settings.max_connections, self._backlog)
        gate = Gate(server, settings, refusing(self._service.metrics), limit)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(gate, sock=self._sock, backlog=self._backlog)

    async def retire(self) -> None:
        """Accept no more, and lose none of those who were accepted just now: until they are connections,
        asyncio resets them when its server is closed.
        """
        asyncio.get_running_loop().remove_reader(self._sock.fileno())
        await asyncio.sleep(SETTLE_SECONDS)
        await self.stop()
