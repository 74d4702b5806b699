"""The WebSocket on a port of its own, at the port itself, which is where Realm has it."""

from __future__ import annotations

from aiohttp import web

from realm_reference.server.middleware import add_headers, edge
from realm_reference.server.routes.operations import add_operations
from realm_reference.server.service import Service
from realm_reference.server.websocket.handler import PATH, add_websocket


def make_websocket_app(service: Service) -> web.Application:
    """The WebSocket and the operations, and nothing else of HTTP."""
    app = web.Application(middlewares=[edge(service.metrics)])
    app.on_response_prepare.append(add_headers)
    for path in ("/", PATH):
        add_websocket(app, service, path)
    add_operations(app, service, with_metrics=service.settings.metrics_port is None)
    return app
