"""Adapters over the wire: named by a request, given by the tenants file, kept from others, unloaded."""

from __future__ import annotations

import asyncio
import json
import runpy
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import ClientSession
from prometheus_client.parser import text_string_to_metric_families
from realm_reference.model.adapter_files import load_adapter
from realm_reference.model.adapters import Adapter
from realm_reference.model.model import Model
from realm_reference.pipelines import parse_pipeline
from realm_reference.server.access.tenancy import TenancyError, open_tenancy
from realm_reference.tenants import keyfile
from realm_reference.tenants.keys import generate
from realm_reference.tenants.ledger import connect

WRITER = runpy.run_path(str(Path(__file__).with_name("adapter_writer.py")))
CHAT = "/v1/chat/completions"
NAMES = ("tiny", "tiny:fr", "tiny:de")
StartServer = Callable[..., Awaitable[Any]]


@pytest.fixture(scope="module")
def adapters(tiny_model: Model, tmp_path_factory: pytest.TempPathFactory) -> list[Adapter]:
    """Two that change the tiny model's answers beyond recognition."""
    folder = tmp_path_factory.mktemp("adapters")
    for seed, name in enumerate(("fr", "de"), 1):
        WRITER["write_peft"](folder / name, WRITER["draw"](tiny_model.config, seed))
    return [load_adapter(name, folder / name, tiny_model.config) for name in ("fr", "de")]


@pytest.fixture
def adapted(start_server: StartServer, adapters: list[Adapter]) -> StartServer:
    """Starts servers with both."""

    async def start(*arguments: Any, **options: Any) -> Any:
        server = await start_server(*arguments, **options)
        for adapter in adapters:
            await asyncio.to_thread(server.service.engine.adapters.load, adapter)
        return server

    return start


async def said(server: Any, name: str, **changes: Any) -> str:
    answer = await server.ask(model=name, temperature=0, max_tokens=12, **changes)
    assert answer["model"] == name
    text: str = answer["choices"][0]["message"]["content"]
    return text


@pytest.mark.parametrize("guest", ["v1", "v2"])
async def test_each_request_has_its_own_adapter(adapted: StartServer, guest: str) -> None:
    server = await adapted(guest)
    alone = {name: await said(server, name) for name in NAMES}
    assert len(set(alone.values())) == 3
    together = await asyncio.gather(*(said(server, name) for name in NAMES * 3))
    assert together == list(alone.values()) * 3
    streams = await asyncio.gather(
        *(server.stream(model=name, temperature=0, max_tokens=12) for name in NAMES)
    )
    for name, (status, text) in zip(NAMES, streams, strict=True):
        chunks = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
        deltas = [choice["delta"].get("content", "") for chunk in chunks for choice in chunk["choices"]]
        assert (status, "".join(deltas)) == (200, alone[name])
        assert {chunk["model"] for chunk in chunks} == {name}


async def test_all_choices_and_texts_and_scores_have_the_adapter(adapted: StartServer) -> None:
    server = await adapted()
    choices = (await server.ask(model="tiny:fr", temperature=0, max_tokens=12, n=3))["choices"]
    assert {choice["message"]["content"] for choice in choices} == {await said(server, "tiny:fr")}
    scores = {}
    async with ClientSession(server.url) as client:
        for name in NAMES:
            body = {"model": name, "prompt": "hello world", "max_tokens": 0, "echo": True, "logprobs": 1}
            answer = await (await client.post("/v1/completions", json=body)).json()
            scores[name] = tuple(answer["choices"][0]["logprobs"]["token_logprobs"][1:])
            assert answer["model"] == name
    assert len(set(scores.values())) == 3


async def test_fingerprints_and_cards_tell_adapters_apart(adapted: StartServer) -> None:
    server = await adapted()
    answers = [await server.ask(model=name, max_tokens=1) for name in NAMES]
    assert len({answer["system_fingerprint"] for answer in answers}) == 3
    async with ClientSession(server.url) as client:
        cards = (await (await client.get("/v1/models")).json())["data"]
        assert [card["id"] for card in cards] == list(NAMES)
        assert [card.get("parent") for card in cards] == [None, "tiny", "tiny"]
        for card in cards:
            assert await (await client.get(f"/v1/models/{card['id']}")).json() == card
        text = await (await client.get("/metrics")).text()
    samples = [s for family in text_string_to_metric_families(text) for s in family.samples]
    assert next(s.value for s in samples if s.name == "realm_adapters") == 2
    labels = {s.labels["model"] for s in samples if s.name == "realm_usage_tokens_total"}
    assert labels == set(NAMES)


@pytest.mark.parametrize("name", ["tiny:it", "tiny:", "tiny:fr:de", "tiny:../fr", "other:fr"])
async def test_an_unknown_adapter_is_refused_on_every_route(adapted: StartServer, name: str) -> None:
    server = await adapted()
    async with ClientSession(server.url) as client:
        refusals = [
            await client.post(CHAT, json=server.body(model=name)),
            await client.post(CHAT, json=server.body(model=name, stream=True)),
            await client.post("/v1/completions", json={"model": name, "prompt": "a"}),
            await client.post("/tokenize", json={"model": name, "prompt": "a"}),
            await client.post("/v1/embeddings", json={"model": name, "input": "a"}),
            await client.get(f"/v1/models/{name}"),
        ]
        for refusal in refusals[:5]:
            error = (await refusal.json())["error"]
            assert (refusal.status, error["param"], error["code"]) == (404, "model", "model_not_found")
        assert refusals[5].status == 404
        if name.startswith("tiny:"):
            assert "'tiny' has: fr, de" in (await refusals[0].json())["error"]["message"]


class Home:
    """Keys of two tenants, of which the first has an adapter."""

    def __init__(self, folder: Path, policies: str) -> None:
        self.ledger = folder / "realm.db"
        (folder / "tenants.toml").write_text(policies)
        self.keys = {}
        for tenant in ("alice", "bobby"):
            self.keys[tenant], kept = generate(tenant, "", "")
            keyfile.change(folder / "keys.json", lambda keys, kept=kept: (*keys, kept), create=True)
        self.open = open_tenancy(folder / "keys.json", folder / "tenants.toml", self.ledger)

    def client(self, server: Any, tenant: str) -> ClientSession:
        return ClientSession(server.url, headers={"Authorization": f"Bearer {self.keys[tenant]}"})


async def test_a_tenant_has_its_own_adapter_unasked_and_alone(adapted: StartServer, tmp_path: Path) -> None:
    home = Home(tmp_path, '[tenants.alice]\nadapter = "fr"\n')
    with home.open as tenancy:
        server = await adapted(tenancy=tenancy)
        answers: dict[tuple[str, str], Any] = {}
        async with home.client(server, "alice") as alice, home.client(server, "bobby") as bobby:
            for tenant, client in (("alice", alice), ("bobby", bobby)):
                for name in NAMES:
                    body = server.body(model=name, temperature=0, max_tokens=12)
                    response = await client.post(CHAT, json=body)
                    answers[tenant, name] = (response.status, await response.json())
                cards = (await (await client.get("/v1/models")).json())["data"]
                answers[tenant, "list"] = [card["id"] for card in cards]
            card = await bobby.get("/v1/models/tiny:fr")
    models = {key: answer[1].get("model") for key, answer in answers.items() if key[1] != "list"}
    assert models["alice", "tiny"] == models["alice", "tiny:fr"] == "tiny:fr"
    assert models["bobby", "tiny"] == "tiny"
    status, refusal = answers["bobby", "tiny:fr"]
    assert (status, card.status, refusal["error"]["code"]) == (403, 403, "model_forbidden")
    assert (answers["alice", "list"], answers["bobby", "list"]) == (list(NAMES), ["tiny", "tiny:de"])
    with closing(connect(home.ledger)) as connection:
        rows = connection.execute("SELECT tenant, model FROM requests ORDER BY started").fetchall()
    assert rows == [
        ("alice", "tiny:fr"), ("alice", "tiny:fr"), ("alice", "tiny:de"),
        ("bobby", "tiny"), ("bobby", "tiny:de"),
    ]  # fmt: skip


def test_a_tenants_adapter_has_to_be_there(tmp_path: Path) -> None:
    home = Home(tmp_path, '[tenants.alice]\nadapters = ["fr", "it"]\n')
    with home.open as tenancy, pytest.raises(TenancyError) as caught:
        tenancy.check_adapters(["fr"])
    assert "the adapter 'it' of alice is not loaded; give it with --adapter it=PATH" in str(caught.value)


async def test_an_adapter_that_is_unloaded_goes_when_its_last_request_ends(
    adapted: StartServer, slow_model: None
) -> None:
    server = await adapted()
    registry = server.service.engine.adapters
    whole = await said(server, "tiny:fr")
    body = server.body(model="tiny:fr", temperature=0, max_tokens=12, stream=True)
    async with ClientSession(server.url) as client, client.post(CHAT, json=body) as response:
        text = (await response.content.readline()).decode()
        await asyncio.to_thread(registry.unload, "fr")
        refusal = await client.post(CHAT, json=server.body(model="tiny:fr"))
        assert (refusal.status, registry.count) == (404, 2)
        text += (await response.content.read()).decode()
    chunks = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
    assert "".join(c["choices"][0]["delta"].get("content", "") for c in chunks) == whole
    async with asyncio.timeout(20):
        while registry.count > 1:
            await asyncio.sleep(0.01)
    assert await said(server, "tiny:de")


async def test_another_adapter_of_the_same_name_is_another(
    adapted: StartServer, adapters: list[Adapter]
) -> None:
    server = await adapted()
    registry = server.service.engine.adapters
    fr, de = [await said(server, name) for name in NAMES[1:]]
    other = Adapter("fr", adapters[1].layers, adapters[1].digest)
    await asyncio.to_thread(registry.load, other)
    assert (await said(server, "tiny:fr"), registry.count) == (de, 2)
    await asyncio.to_thread(registry.load, adapters[0])
    assert (await said(server, "tiny:fr"), registry.count) == (fr, 2)


async def test_the_websocket_and_its_pipelines_have_adapters(adapted: StartServer) -> None:
    server = await adapted()
    step = "chat: false, params: {max_tokens: 9, temperature: 0}"
    source = f"name: two\nsteps:\n  - {{name: x, adapter: fr, {step}}}\n  - {{name: y, {step}}}\n"
    server.service.pipelines = {
        "two": parse_pipeline(source, "p.yaml"),
        "bad": parse_pipeline(source.replace("fr", "it").replace("two", "bad"), "p.yaml"),
    }

    async def call(socket: aiohttp.ClientWebSocketResponse, function: str, **params: Any) -> Any:
        await socket.send_json({"id": "1", "function": function, "params": params})
        return await socket.receive_json(timeout=20)

    async with ClientSession(server.url) as client, client.ws_connect("/ws") as socket:
        await socket.receive_json(timeout=20)

        async def text(prompt: str, model: str) -> Any:
            wanted = {"prompt": prompt, "model": model, "max_tokens": 9, "temperature": 0}
            return (await call(socket, "generate", **wanted))["data"]["text"]

        adapted_text = await text("hello", "tiny:fr")
        assert adapted_text != await text("hello", "tiny")
        told = (await call(socket, "pipeline", pipeline="two", input="hello"))["data"]
        assert told["text"] == await text(adapted_text, "tiny")
        refused = (await call(socket, "generate", prompt="hello", model="tiny:it"))["error"]
        assert refused["details"]["param"] == "model"
        failed = (await call(socket, "pipeline", pipeline="bad", input="hello"))["error"]
        assert "step 'x': The adapter 'it' does not exist" in failed["message"]
