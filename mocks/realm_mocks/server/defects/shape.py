"""Defects of the JSON's shape: keys, ids, roles, finish reasons, in chunks and in whole answers."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from realm_mocks.server.replies import Event, Reply
from realm_mocks.server.request import ChatRequest
from realm_mocks.server.variation import Variation

Json = dict[str, Any]
Events = list[Event]


def _each_chunk(bend: Callable[[int, Json], None]) -> Callable[[ChatRequest, Events], Events]:
    """A hook that hands each chunk, numbered, to `bend` to change in place."""

    def events_hook(_: ChatRequest, events: Events) -> Events:
        bent: Events = []
        for number, event in enumerate(events):
            data = copy.deepcopy(event.data)
            if data is not None:
                bend(number, data)
            bent.append(replace(event, data=data))
        return bent

    return events_hook


def _each_choice(bend: Callable[[int, Json], None]) -> Callable[[ChatRequest, Events], Events]:
    def chunk(number: int, data: Json) -> None:
        for choice in data["choices"]:
            bend(number, choice)

    return _each_chunk(chunk)


def _no_role(_: int, choice: Json) -> None:
    choice["delta"].pop("role", None)


def _role_every_delta(_: int, choice: Json) -> None:
    choice["delta"]["role"] = "assistant"


def _no_finish_key(_: int, choice: Json) -> None:
    if choice["finish_reason"] is None:
        del choice["finish_reason"]


def _empty_finish(_: int, choice: Json) -> None:
    choice["finish_reason"] = choice["finish_reason"] or ""


def _finish_never(_: int, choice: Json) -> None:
    choice["finish_reason"] = None


def _no_index(_: int, choice: Json) -> None:
    del choice["index"]


def _no_id(_: int, data: Json) -> None:
    del data["id"]


def _id_per_chunk(number: int, data: Json) -> None:
    data["id"] = f"{data['id']}-{number}"


def _created_per_chunk(number: int, data: Json) -> None:
    data["created"] += number


def _hard_coded_model(_: int, data: Json) -> None:
    data["model"] = "gpt-3.5-turbo"


def _model_per_chunk(number: int, data: Json) -> None:
    data["model"] = data["model"] if number == 0 else "unknown"


def _whole_object_name(_: int, data: Json) -> None:
    data["object"] = "chat.completion"


def _finish_twice(_: ChatRequest, events: Events) -> Events:
    bent: Events = []
    for event in events:
        bent.append(event)
        if any(choice["finish_reason"] for choice in (event.data or {}).get("choices", [])):
            bent.append(event)
    return bent


def _content_after_finish(_: ChatRequest, events: Events) -> Events:
    """The last text comes after the chunk with the finish reason."""
    texts = [event for event in events if event.token is not None]
    return [*[event for event in events if event is not texts[-1]][:-1], texts[-1], events[-1]]


def _whole(bend: Callable[[Json], None]) -> Callable[[ChatRequest, Json], Json]:
    def whole_hook(_: ChatRequest, data: Json) -> Json:
        bend(data)
        return data

    return whole_hook


def _whole_no_finish(data: Json) -> None:
    for choice in data["choices"]:
        del choice["finish_reason"]


def _whole_no_message(data: Json) -> None:
    for choice in data["choices"]:
        choice["text"] = choice.pop("message")["content"]


def _constant_id(data: Json) -> None:
    data["id"] = "chatcmpl-1"


def _text_object(data: Json) -> None:
    data["object"] = "text_completion"


def _created_ms(data: Json) -> None:
    data["created"] *= 1000


def _user_role(data: Json) -> None:
    for choice in data["choices"]:
        choice["message"]["role"] = "user"


def _unlisted_model(path: str, reply: Reply) -> Reply:
    """The list of models is a bare array, as a hand-written server sends it."""
    if path != "/v1/models" or reply.status != 200:
        return reply
    return replace(reply, body=reply.body["data"])


def _models_without_keys(path: str, reply: Reply) -> Reply:
    if path != "/v1/models" or reply.status != 200:
        return reply
    cards = [{"id": card["id"]} for card in reply.body["data"]]
    return replace(reply, body={"object": "list", "data": cards})


def _text_plain(path: str, reply: Reply) -> Reply:
    json_reply = reply.content_type == "application/json"
    return replace(reply, content_type="text/plain; charset=utf-8") if json_reply else reply


def _latin1(path: str, reply: Reply) -> Reply:
    if not path.endswith("/completions") or reply.status != 200 or isinstance(reply.body, bytes):
        return reply
    text = json.dumps(reply.body, ensure_ascii=False)
    return replace(reply, body=text.encode("latin-1", "replace"))


DEFECTS = (
    Variation("no-role", "no delta brings the role", "realm-defects 25", events=_each_choice(_no_role)),
    Variation(
        "role-every-delta",
        "every delta brings the role",
        "ollama/ollama#4357, mudler/LocalAI#340",
        events=_each_choice(_role_every_delta),
    ),
    Variation(
        "chunk-no-finish-key",
        "finish_reason is absent (not null) in interior chunks",
        "vllm-project/vllm#19650, mudler/LocalAI#1194",
        events=_each_choice(_no_finish_key),
    ),
    Variation(
        "finish-empty-string",
        'finish_reason is "" in interior chunks',
        "ollama/ollama#4357",
        events=_each_choice(_empty_finish),
    ),
    Variation(
        "finish-missing",
        "no chunk has a finish reason",
        "abetlen/llama-cpp-python#735",
        events=_each_choice(_finish_never),
    ),
    Variation(
        "finish-twice", "the finish reason comes twice", "clause S6: exactly one", events=_finish_twice
    ),
    Variation(
        "content-after-finish",
        "text follows the finish reason",
        "clause S6: nothing but usage after it",
        events=_content_after_finish,
    ),
    Variation(
        "chunk-no-index", "choices have no index", "mudler/LocalAI#648", events=_each_choice(_no_index)
    ),
    Variation("chunk-no-id", "chunks have no id", "mudler/LocalAI#648", events=_each_chunk(_no_id)),
    Variation(
        "id-per-chunk",
        "each chunk has an id of its own",
        "clause S5: one id",
        events=_each_chunk(_id_per_chunk),
    ),
    Variation(
        "created-per-chunk",
        "`created` differs between the chunks of a stream",
        "clause S5: one timestamp",
        events=_each_chunk(_created_per_chunk),
    ),
    Variation(
        "stream-model-hardcoded",
        "the stream's `model` is hard-coded",
        "realm-defects 24",
        events=_each_chunk(_hard_coded_model),
    ),
    Variation(
        "model-per-chunk",
        "only the first chunk names the model",
        "mudler/LocalAI#340: keys in the first chunk only",
        events=_each_chunk(_model_per_chunk),
    ),
    Variation(
        "chunk-object-name",
        'chunks call themselves "chat.completion"',
        "openapi: object is chat.completion.chunk",
        events=_each_chunk(_whole_object_name),
    ),
    Variation(
        "whole-no-finish-reason",
        "a whole answer's choice has no finish_reason",
        "mudler/LocalAI#788",
        whole=_whole(_whole_no_finish),
    ),
    Variation(
        "whole-object-name",
        "a whole answer calls itself text_completion",
        "openapi: CreateChatCompletionResponse.object",
        whole=_whole(_text_object),
    ),
    Variation(
        "whole-completions-shape",
        "a chat answer has `text` in place of `message`",
        "a /v1/completions answer on the chat route",
        whole=_whole(_whole_no_message),
    ),
    Variation(
        "whole-user-role", "the answer's role is user", "realm-defects 16: an echo", whole=_whole(_user_role)
    ),
    Variation(
        "id-constant",
        "every answer has the same id",
        "realm-defects 33: made-up ids",
        whole=_whole(_constant_id),
    ),
    Variation(
        "created-ms",
        "`created` is in milliseconds",
        "openapi: Unix timestamp in seconds",
        whole=_whole(_created_ms),
    ),
    Variation(
        "models-bare-array",
        "/v1/models is a bare array",
        "openapi: ListModelsResponse",
        reply=_unlisted_model,
    ),
    Variation(
        "models-id-only",
        "the cards of /v1/models have an id only",
        "openapi: Model",
        reply=_models_without_keys,
    ),
    Variation(
        "json-as-text",
        "JSON is labelled text/plain",
        "openai-python returns such a body as str",
        reply=_text_plain,
    ),
    Variation("whole-latin1", "a whole answer is encoded in Latin-1", "RFC 8259 section 8.1", reply=_latin1),
)
