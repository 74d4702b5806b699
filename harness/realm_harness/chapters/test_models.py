"""The list of models, and the routes for operators."""

from __future__ import annotations

import json

from realm_harness.answers import Json, shown
from realm_harness.case import Broken, Unjudged, Unsupported, case, demand
from realm_harness.prompts import HELLO
from realm_harness.target import MODELS, Target


def model_list(target: Target) -> Json:
    """The object that /v1/models sends; Broken when it is none."""
    exchange = target.get(MODELS)
    demand(exchange.status == 200, f"GET {MODELS} got {exchange.status}")
    try:
        body = json.loads(exchange.body)
    except ValueError:
        raise Broken(f"{MODELS} is not JSON: {shown(exchange.body)}") from None
    if not isinstance(body, dict):
        raise Broken(f"{MODELS} is no JSON object: {shown(body)}")
    return body


def cards(target: Target) -> list[Json]:
    """The entries of /v1/models; Broken when there is no such list."""
    data = model_list(target).get("data")
    if not isinstance(data, list) or not all(isinstance(card, dict) for card in data):
        raise Broken(f"`data` of {MODELS} is no array of objects: {shown(data)}")
    return data


@case("CHAT-MODELS-001", clause_id="models.list", reason="clients offer the list to choose from")
def test_list(target: Target) -> None:
    """/v1/models is a list object whose entries have ids."""
    kind = model_list(target).get("object")
    demand(kind == "list", f"`object` of {MODELS} is {shown(kind)}")
    for card in cards(target):
        demand(
            isinstance(card.get("id"), str) and card["id"],
            f"an entry of {MODELS} has the id {shown(card.get('id'))}",
        )


@case("CHAT-MODELS-002", clause_id="models.card", reason="typed clients require them")
def test_cards(target: Target) -> None:
    """Each entry of /v1/models has id, object, created and owned_by."""
    for card in cards(target):
        missing = [key for key in ("id", "object", "created", "owned_by") if key not in card]
        demand(not missing, f"an entry of {MODELS} has no {', '.join(missing)}: {shown(card)}")
        demand(card["object"] == "model", f"an entry's object is {shown(card['object'])}")
        demand(isinstance(card["created"], int), f"an entry's created is {shown(card['created'])}")
        demand(isinstance(card["owned_by"], str), f"an entry's owned_by is {shown(card['owned_by'])}")


@case("CHAT-MODELS-003", clause_id="models.tested-listed", reason="a name that is not listed may be an alias")
def test_tested_model_is_listed(target: Target) -> None:
    """Whether the model under test is listed."""
    names = [card.get("id") for card in cards(target)]
    raise Unjudged(
        f"'{target.model}' is {'' if target.model in names else 'not '}listed; listed are {shown(names)}"
    )


@case("CHAT-OPS-001", clause_id="ops.health", reason="load balancers ask it")
def test_health(target: Target) -> None:
    """What GET /health says."""
    exchange = target.get("/health")
    raise Unjudged(f"GET /health: {exchange.status} {shown(exchange.body.decode('utf-8', 'replace'), 80)}")


@case("CHAT-OPS-003", clause_id="ops.health-ok", reason="a healthy server is taken out of service by it")
def test_health_is_200(target: Target) -> None:
    """GET /health gets 200 while a chat request is answered."""
    if target.get("/health").status in (404, 405):
        raise Unsupported("the server has no /health")
    target.ask(HELLO, 4)
    status = target.get("/health").status
    demand(status == 200, f"GET /health got {status} from a server that has just answered a chat request")


@case("CHAT-OPS-004", clause_id="ops.ready", reason="a server that loads is alive and must get no requests")
def test_ready(target: Target) -> None:
    """What GET /ready says."""
    exchange = target.get("/ready")
    raise Unjudged(f"GET /ready: {exchange.status} {shown(exchange.body.decode('utf-8', 'replace'), 80)}")


@case("CHAT-OPS-002", clause_id="ops.metrics", reason="operators watch it")
def test_metrics(target: Target) -> None:
    """What GET /metrics says."""
    exchange = target.get("/metrics")
    kinds = exchange.body.count(b"# TYPE")
    raise Unjudged(f"GET /metrics: {exchange.status}, {kinds} metrics with a type")
