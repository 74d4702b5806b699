"""The OpenAPI document is true: schemathesis finds no request that is treated otherwise than it says."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from realm_reference.server.app import make_app
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS
from schemathesis.core.result import Ok

StartServer = Callable[..., Awaitable[Any]]

EXCLUDED = {
    # A request may fit the schema and still be longer than the model's context: no schema can say so.
    "positive_data_acceptance",
}
NOT_HTTP = {"/ws"}
"""Routes that upgrade to another protocol, which OpenAPI cannot describe."""


@pytest.fixture
async def server(start_server: StartServer) -> Any:
    return await start_server(default_max_tokens=4, max_running=2)


async def document(server: Any) -> dict[str, Any]:
    async with aiohttp.ClientSession(server.url) as client, client.get("/openapi.json") as response:
        assert response.status == 200
        assert response.content_type == "application/json"
        found: dict[str, Any] = await response.json()
        return found


async def test_it_has_all_routes_of_the_server_and_no_other(server: Any) -> None:
    paths = (await document(server))["paths"]
    described = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    routes = {
        (route.method, route.resource.canonical)
        for route in make_app(server.service).router.routes()
        if route.resource is not None and route.method != "HEAD"
    }
    assert described == {route for route in routes if route[1] not in NOT_HTTP}


async def test_keys_are_asked_for_where_the_document_says_so(start_server: StartServer) -> None:
    server = await start_server(keys=())
    made = await document(server)
    async with aiohttp.ClientSession(server.url) as client:
        for path, methods in made["paths"].items():
            for method, operation in methods.items():
                async with client.request(method, path.format(model="tiny", tenant="default")) as response:
                    assert (response.status == 401) == ("security" in operation), path


async def test_every_parameter_is_described(server: Any) -> None:
    paths = (await document(server))["paths"]
    for methods in paths.values():
        for operation in methods.values():
            for media in operation.get("requestBody", {}).get("content", {}).values():
                for name, schema in media["schema"]["properties"].items():
                    assert schema.keys() & {"type", "enum", "anyOf", "const"}, name


def run(url: str, mode: GenerationMode, examples: int) -> list[str]:
    """Let schemathesis try each operation; the operations that it tried."""
    checks = [check for name, check in CHECKS._items.items() if name not in EXCLUDED]
    tried = []
    for result in schemathesis.openapi.from_url(f"{url}/openapi.json").get_all_operations():
        assert isinstance(result, Ok)
        operation = result.ok()
        if mode is GenerationMode.NEGATIVE and not operation.body:
            continue  # nothing can be wrong in it

        @settings(
            max_examples=examples,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def attempt(case: Any) -> None:
            case.call_and_validate(checks=checks, timeout=30)

        attempt()
        tried.append(operation.label)
    return tried


@pytest.mark.parametrize(("mode", "examples"), [(GenerationMode.POSITIVE, 15), (GenerationMode.NEGATIVE, 30)])
async def test_schemathesis_finds_nothing(server: Any, mode: GenerationMode, examples: int) -> None:
    tried = await asyncio.to_thread(run, server.url, mode, examples)
    assert "POST /v1/chat/completions" in tried
    assert server.service.engine.open_sessions == 0
