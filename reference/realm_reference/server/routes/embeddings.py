"""POST /v1/embeddings: known, and refused. A language model's hidden states are no embeddings that a search
could use, and an answer that looks like some would be worse than none. It is 400 and not 404, because the
route is right and the model is not: clients read 404 as a wrong URL or a wrong name.
"""

from __future__ import annotations

from typing import Any, Final, NoReturn

from aiohttp import web

from realm_reference.server.errors import ApiError
from realm_reference.server.requests import checks, parameters
from realm_reference.server.requests.parameters import Table
from realm_reference.server.service import Service
from realm_reference.server.telemetry import record
from realm_reference.server.wire import jsonbody


@checks.described(anyOf=[{"type": "string"}, {"type": "array"}])
def _input(name: str, value: Any) -> Any:
    return value if isinstance(value, str) else checks.sequence(name, value)


PARAMETERS: Final[Table] = {
    "model": checks.string,
    "input": _input,
    "encoding_format": checks.string,
    "dimensions": checks.integer(1, 2**31 - 1),
    "user": checks.string,
}
"""Every parameter that the route knows."""


class EmbeddingHandler:
    """The route."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def __call__(self, request: web.Request) -> NoReturn:
        """Say that the model makes none; 404 for a model that there is not."""
        given = parameters.given_of(await jsonbody.read(request), ("model", "input"), PARAMETERS)
        name = parameters.checked(given, PARAMETERS)["model"]
        self._service.models.find(name, record.of(request).caller.tenant)
        raise ApiError(
            400,
            f"The model '{name}' makes text, no embeddings, and this server has no other.",
            param="model",
            code="unsupported_model",
        )
