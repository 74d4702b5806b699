"""GET /openapi.json: the document of the API, made from the tables that the parsers check requests with."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Final

from aiohttp import web

from realm_reference.server.openapi.operations import OPERATIONS, PATH, Body, Operation
from realm_reference.server.openapi.schemas import SCHEMAS, Json, ref
from realm_reference.server.requests import checks
from realm_reference.server.routes import tokenizing
from realm_reference.server.routes.operations import VERSION
from realm_reference.server.service import Service

_REFUSALS: Final[Mapping[int, str]] = {
    400: "The request is malformed, or a parameter is wrong, unknown or not supported: `param` names it.",
    401: "The API key is missing or wrong.",
    403: "The key is valid and may not do this.",
    404: "There is no such model.",
    408: "The request did not arrive in time.",
    413: "The body is too large.",
    414: "The target is too long.",
    415: "The body is not application/json, or has an unsupported Content-Encoding.",
    417: "The only Expect is 100-continue.",
    422: "The request is well-formed, and its schema or its conversation cannot be kept here.",
    429: "A limit of the tenant is reached; Retry-After says when to try again.",
    431: "The headers are too large.",
    500: "The server is at fault.",
    503: "The server is overloaded or shutting down; Retry-After says when to try again.",
    504: "The request took longer than the server allows.",
}
_ANY: Final = (400, 408, 414, 417, 431, 500, 503)
"""What may be answered to any request."""
_KEYED: Final = (401, 403)
_EXTRA_HEADERS: Final[Mapping[int, tuple[str, ...]]] = {
    401: ("WWW-Authenticate",),
    429: ("Retry-After",),
    503: ("Retry-After",),
}


def document(models: Iterable[str], *, keyed: bool, routes: Iterable[tuple[str, str]]) -> Json:
    """The OpenAPI document of the `routes` (method, path) of a server.

    Args:
        models: the names of the models that are loaded: no other is accepted.
        keyed: whether the API asks for a key.
        routes: what the server has; operations that it has not are left out.
    """
    there, paths = set(routes), dict[str, Json]()
    for operation in OPERATIONS:
        if (operation.method, operation.path) in there:
            described = _operation(operation, list(models), keyed=keyed)
            paths.setdefault(operation.path, {})[operation.method] = described
    result: Json = {
        "openapi": "3.1.0",
        "info": {"title": "Realm reference server", "version": VERSION, "description": _DESCRIPTION},
        "paths": paths,
        "components": {"schemas": dict(SCHEMAS), "headers": _HEADERS},
    }
    if keyed:
        result["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    return result


_DESCRIPTION: Final = (
    "OpenAI's API for text. A request that fits the schemas may still be refused with 400 when the "
    "conversation and `max_tokens` together exceed the model's context. Null means the default. A stream's "
    "events each hold one ChatCompletionChunk, or one Error in place of the rest; `[DONE]` ends it."
)
_HEADERS: Final[Json] = {
    "X-Request-Id": {
        "description": "The request's own id if it is 1 to 128 of A-Z a-z 0-9 . _ : -, else a new one.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,128}$"},
    },
    "Retry-After": {"required": True, "schema": {"type": "integer", "minimum": 0}},
    "WWW-Authenticate": {"required": True, "schema": {"type": "string"}},
}


def _operation(operation: Operation, models: list[str], *, keyed: bool) -> Json:
    secured = keyed and (operation.path.startswith("/v1/") or operation.path in tokenizing.PATHS)
    refusals = sorted({*_ANY, *operation.refusals, *(_KEYED if secured else ())})
    described: Json = {
        "operationId": operation.id,
        "summary": operation.summary,
        "responses": {
            **({"200": _response("As asked.", operation.answers)} if operation.answers else {}),
            **{str(status): _refusal(status, operation) for status in refusals},
        },
    }
    if operation.path_parameters:
        described["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": schema}
            for name, schema in operation.path_parameters.items()
        ]
    if operation.body is not None:
        content = {"application/json": {"schema": _request(operation.body, models)}}
        described["requestBody"] = {"required": True, "content": content}
    if secured:
        described["security"] = [{"key": []}]
    return described


def _refusal(status: int, operation: Operation) -> Json:
    answer = ref("Ready") if (operation.path, status) == ("/ready", 503) else ref("Error")
    extra = () if answer == ref("Ready") else _EXTRA_HEADERS.get(status, ())
    return _response(_REFUSALS[status], {"application/json": answer}, extra)


def _response(description: str, answers: Mapping[str, Json], headers: Iterable[str] = ()) -> Json:
    names = ("X-Request-Id", *headers)
    return {
        "description": description,
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in names},
        "content": {media: {"schema": schema} for media, schema in answers.items()},
    }


def _request(body: Body, models: list[str]) -> Json:
    properties = {name: checks.schema_of(check) for name, check in body.parameters.items()}
    properties["model"] = {"enum": models}
    return {
        "type": "object",
        "properties": {
            name: schema if name in body.required else _or_null(schema) for name, schema in properties.items()
        },
        "required": list(body.required),
        "additionalProperties": False,
        **({"allOf": list(body.rules)} if body.rules else {}),
    }


def _or_null(schema: checks.Schema) -> Json:
    """null means the default, for every parameter that has one."""
    if "enum" in schema:
        return {**schema, "enum": [*schema["enum"], None]}
    if isinstance(schema.get("type"), str):
        return {**schema, "type": [schema["type"], "null"]}
    return {"anyOf": [schema, {"type": "null"}]}


def add_openapi(app: web.Application, service: Service) -> None:
    """Put the document on `app`, whose other routes are all there already."""

    async def openapi(request: web.Request) -> web.Response:
        """The document; it needs no key."""
        return web.Response(body=raw, content_type="application/json")

    app.router.add_get(PATH, openapi)
    routes = [
        (route.method.lower(), route.resource.canonical)
        for route in app.router.routes()
        if route.resource is not None
    ]
    made = document([service.model.name], keyed=service.auth.required, routes=routes)
    raw = json.dumps(made, ensure_ascii=False).encode()
