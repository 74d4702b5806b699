"""The application: routes and what surrounds them."""

from __future__ import annotations

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from realm_reference.server.middleware import add_headers, edge
from realm_reference.server.openapi.document import add_openapi
from realm_reference.server.routes import tokenizing, usage_route
from realm_reference.server.routes.chat import ChatHandler
from realm_reference.server.routes.completions import CompletionHandler
from realm_reference.server.routes.embeddings import EmbeddingHandler
from realm_reference.server.routes.operations import add_operations
from realm_reference.server.routes.usage_route import UsageHandler
from realm_reference.server.service import Service
from realm_reference.server.telemetry import record
from realm_reference.server.websocket import add_websocket
from realm_reference.server.wire.body import BODIES, Bodies, continue_if_small


def make_app(service: Service) -> web.Application:
    """The whole API of one server."""
    app = web.Application(
        middlewares=[edge(service.metrics), _authenticated(service)],
        client_max_size=service.settings.max_body_bytes,
    )
    app.on_response_prepare.append(add_headers)
    settings = service.settings
    app[BODIES] = Bodies(settings.max_body_bytes, settings.max_bodies_bytes, settings.body_timeout)
    models = _Models(service)
    app.router.add_post(
        "/v1/chat/completions", ChatHandler(service).__call__, expect_handler=continue_if_small
    )
    app.router.add_post(
        "/v1/completions", CompletionHandler(service).__call__, expect_handler=continue_if_small
    )
    app.router.add_post(
        "/v1/embeddings", EmbeddingHandler(service).__call__, expect_handler=continue_if_small
    )
    app.router.add_get("/v1/models", models.all)
    app.router.add_get("/v1/models/{model:.+}", models.one)
    app.router.add_get(usage_route.PATH, UsageHandler(service).__call__)
    tokens = tokenizing.TokenHandler(service)
    app.router.add_post("/tokenize", tokens.tokenize, expect_handler=continue_if_small)
    app.router.add_post("/detokenize", tokens.detokenize, expect_handler=continue_if_small)
    add_websocket(app, service)
    add_operations(app, service, with_metrics=service.settings.metrics_port is None)
    add_openapi(app, service)
    return app


def make_metrics_app(service: Service) -> web.Application:
    """Health and metrics alone, for a port that only operators reach."""
    app = web.Application(middlewares=[edge(service.metrics)])
    app.on_response_prepare.append(add_headers)
    add_operations(app, service, with_metrics=True)
    return app


def _authenticated(service: Service) -> Middleware:
    """Every path under /v1 needs a key, also one that does not exist: strangers learn nothing from 404s."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.startswith("/v1/") or request.path in tokenizing.PATHS:
            record.of(request).caller = service.auth.caller(request.headers.get("Authorization"))
        return await handler(request)

    return middleware


class _Models:
    """GET /v1/models and /v1/models/{model}."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def all(self, request: web.Request) -> web.Response:
        """The list of what is loaded."""
        cards = self._service.models.cards(record.of(request).caller.tenant, self._service.created)
        return web.json_response({"object": "list", "data": cards})

    async def one(self, request: web.Request) -> web.Response:
        """One of them, or 404."""
        models, tenant = self._service.models, record.of(request).caller.tenant
        name = request.match_info["model"]
        alone = name == self._service.model.name  # whatever the tenant's requests for it are computed with
        served = models.with_adapter(None, tenant) if alone else models.find(name, tenant)
        return web.json_response(models.card(served, self._service.created))
