"""The operations of the OpenAPI document: routes, their tables of parameters, and what they answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from realm_reference.server.openapi.schemas import Json, ref
from realm_reference.server.requests import chat_request, completion_request
from realm_reference.server.requests.parameters import Table
from realm_reference.server.routes import embeddings, tokenizing, usage_route

PATH: Final = "/openapi.json"


@dataclass(frozen=True)
class Body:
    """A JSON object in a request: its table of parameters, and what JSON Schema has to be told beside it."""

    parameters: Table
    required: tuple[str, ...]
    rules: tuple[Json, ...] = ()


@dataclass(frozen=True)
class Operation:
    """One route. `answers` maps media types to schemas of the 200, `path_parameters` names to schemas. A
    route without answers refuses all.
    """

    method: str
    path: str
    id: str
    summary: str
    answers: Mapping[str, Json]
    body: Body | None = None
    path_parameters: Mapping[str, Json] = field(default_factory=dict)
    refusals: tuple[int, ...] = ()


def _only_with(name: str, other: str) -> Json:
    """`name` is only allowed where `other` is true."""
    return {
        "if": {"required": [name], "properties": {name: {"not": {"type": "null"}}}},
        "then": {"required": [other], "properties": {other: {"const": True}}},
    }


def _given(name: str) -> Json:
    return {"required": [name], "properties": {name: {"not": {"type": "null"}}}}


_MODEL_NAME: Final[Json] = {"type": "string", "minLength": 1}
_TEXT: Final[Json] = {"type": "string"}
_TENANT: Final[Json] = {"type": "string", "minLength": 1}


def _events(name: str) -> Json:
    """A server-sent event, whose data is this component, or an Error, or [DONE]."""
    content = {"anyOf": [ref(name), ref("Error")]}
    described = {"type": "string", "contentMediaType": "application/json", "contentSchema": content}
    data = {"anyOf": [{"const": "[DONE]"}, described]}
    return {"type": "object", "properties": {"data": data}, "required": ["data"]}


_POSTED: Final = (404, 413, 415, 429, 504)
"""What may be answered to a body, beside what may be to any request."""


OPERATIONS: Final = (
    Operation(
        "post",
        "/v1/chat/completions",
        "createChatCompletion",
        "The next message of a conversation, whole or as server-sent events.",
        {"application/json": ref("ChatCompletion"), "text/event-stream": _events("ChatCompletionChunk")},
        Body(
            chat_request.PARAMETERS,
            ("model", "messages"),
            (_only_with("stream_options", "stream"), _only_with("top_logprobs", "logprobs")),
        ),
        refusals=(*_POSTED, 422),
    ),
    Operation(
        "post",
        "/v1/completions",
        "createCompletion",
        "Texts continued, whole or as server-sent events.",
        {"application/json": ref("Completion"), "text/event-stream": _events("Completion")},
        Body(completion_request.PARAMETERS, ("model", "prompt"), (_only_with("stream_options", "stream"),)),
        refusals=_POSTED,
    ),
    Operation(
        "get",
        "/v1/models",
        "listModels",
        "The models that are loaded.",
        {"application/json": ref("ModelList")},
    ),
    Operation(
        "get",
        "/v1/models/{model}",
        "retrieveModel",
        "One of the models that are loaded.",
        {"application/json": ref("Model")},
        path_parameters={"model": _MODEL_NAME},
        refusals=(404,),
    ),
    Operation(
        "get",
        usage_route.PATH,
        "retrieveUsage",
        "What a tenant has used since midnight, UTC; for its own keys.",
        {"application/json": ref("TenantUsage")},
        path_parameters={"tenant": _TENANT},
        refusals=(403, 404),
    ),
    Operation(
        "post",
        "/v1/embeddings",
        "createEmbedding",
        "Refused: the models make text, no embeddings.",
        {},
        Body(embeddings.PARAMETERS, ("model", "input")),
        refusals=_POSTED,
    ),
    Operation(
        "post",
        "/tokenize",
        "tokenize",
        "The token ids of a prompt or of a conversation.",
        {"application/json": ref("Tokens")},
        Body(
            tokenizing.TOKENIZE,
            (),
            ({"oneOf": [_given("prompt"), _given("messages")]},),
        ),
        refusals=(*_POSTED, 422),
    ),
    Operation(
        "post",
        "/detokenize",
        "detokenize",
        "The text of token ids.",
        {"application/json": ref("Text")},
        Body(tokenizing.DETOKENIZE, ("tokens",)),
        refusals=_POSTED,
    ),
    Operation("get", "/health", "health", "The process is alive.", {"application/json": ref("Health")}),
    Operation("get", "/ready", "ready", "Requests are served.", {"application/json": ref("Ready")}),
    Operation("get", "/metrics", "metrics", "Counters, for Prometheus.", {"text/plain": _TEXT}),
    Operation("get", PATH, "openapi", "This document.", {"application/json": {"type": "object"}}),
)
