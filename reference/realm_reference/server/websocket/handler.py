"""The route: an upgrade becomes a connection, and all of them end with the server."""

from __future__ import annotations

import asyncio
import re
from typing import Final

from aiohttp import web

from realm_reference.server.errors import ApiError
from realm_reference.server.service import Service
from realm_reference.server.telemetry import record
from realm_reference.server.websocket.connection import Connection
from realm_reference.server.websocket.socket import Socket
from realm_reference.server.wire.sse import SlowReader

PATH: Final = "/ws"
_UPGRADE_REQUIRED: Final = 426


class WebSocketHandler:
    """GET with an upgrade to the WebSocket protocol (RFC 6455)."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._open: set[Connection] = set()

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        """Upgrade and serve to the end."""
        self._service.check_admission()
        _check_upgrade(request)
        settings = self._service.settings
        socket = Socket(
            write_timeout=settings.write_timeout,
            heartbeat=settings.websocket.heartbeat,
            max_message_bytes=settings.websocket.max_message_bytes,
        )
        record.of(request).counted = False
        response = await socket.open(request)
        connection = Connection(self._service, socket)
        self._open.add(connection)
        try:
            await connection.serve()
        except SlowReader:
            pass  # it is cut already
        finally:
            self._open.discard(connection)
        return response

    async def close_all(self, app: web.Application) -> None:
        """Tell every client that the server goes, and go."""
        await asyncio.gather(*(connection.leave(at_once=True) for connection in list(self._open)))

    async def close_idle(self) -> None:
        """Tell those that wait for nothing, and the others once they have what they wait for."""
        await asyncio.gather(*(connection.leave(at_once=False) for connection in list(self._open)))


_HANDLERS: Final = web.AppKey("realm_websockets", list[WebSocketHandler])


_KEY: Final = re.compile(r"[A-Za-z0-9+/]{22}==")


def _check_upgrade(request: web.Request) -> None:
    """426 for a request that asks for no WebSocket, or for a version of it that nobody speaks any more; 400
    for one whose handshake lacks a part.
    """
    if request.headers.get("Upgrade", "").strip().lower() != "websocket":
        raise ApiError(
            _UPGRADE_REQUIRED,
            "This path speaks the WebSocket protocol: connect with ws://.",
            code="upgrade_required",
            headers={"Upgrade": "websocket", "Connection": "Upgrade"},
        )
    if request.headers.get("Sec-WebSocket-Version", "").strip() != "13":
        raise ApiError(
            _UPGRADE_REQUIRED,
            "The only version of the WebSocket protocol here is 13.",
            code="upgrade_required",
            headers={"Sec-WebSocket-Version": "13", "Upgrade": "websocket", "Connection": "Upgrade"},
        )
    if "upgrade" not in request.headers.get("Connection", "").lower():
        raise ApiError(400, "The header Connection must hold Upgrade.", code="bad_request")
    if not _KEY.fullmatch(request.headers.get("Sec-WebSocket-Key", "").strip()):
        raise ApiError(400, "The header Sec-WebSocket-Key must be 16 bytes in base64.", code="bad_request")


def add_websocket(app: web.Application, service: Service, path: str = PATH) -> None:
    """Put the WebSocket on `app`."""
    handler = WebSocketHandler(service)
    app.router.add_get(path, handler.__call__, allow_head=False)
    app.on_shutdown.append(handler.close_all)
    app.setdefault(_HANDLERS, []).append(handler)


async def leave_idle(app: web.Application) -> None:
    """Ask the clients of `app`'s WebSockets to go elsewhere, without cutting anything off."""
    await asyncio.gather(*(handler.close_idle() for handler in app.get(_HANDLERS, [])))
