"""Defects of log probabilities, biases, penalties and response formats."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from realm_mocks.server.generation import Generation
from realm_mocks.server.replies import Event, Reply
from realm_mocks.server.request import ChatRequest
from realm_mocks.server.tokens_api import TEMPLATE
from realm_mocks.server.variation import State, Variation

Json = dict[str, Any]
Entries = list[Json]


def _on_entries(
    bend: Callable[[ChatRequest, Entries], Entries],
) -> Callable[[ChatRequest, Generation, State], Generation]:
    """A hook on the entries of a choice's tokens, which are there if they were asked for."""

    def generation_hook(request: ChatRequest, generation: Generation, _: State) -> Generation:
        if generation.logprobs is None:
            return generation
        return replace(generation, logprobs=tuple(bend(request, json.loads(json.dumps(generation.logprobs)))))

    return generation_hook


def _on_request(**changes: Any) -> Callable[[ChatRequest, State], ChatRequest]:
    """A hook that loses what the request asked."""
    return lambda request, _: replace(request, **changes)


def _null(request: ChatRequest, generation: Generation, _: State) -> Generation:
    return replace(generation, logprobs=None)


def _no_bytes(_: ChatRequest, entries: Entries) -> Entries:
    return [{key: value for key, value in entry.items() if key != "bytes"} for entry in entries]


def _sorted_by_name(_: ChatRequest, entries: Entries) -> Entries:
    for entry in entries:
        entry["top_logprobs"].sort(key=lambda one: str(one["token"]))
    return entries


def _one_fewer(_: ChatRequest, entries: Entries) -> Entries:
    for entry in entries:
        del entry["top_logprobs"][-1:]
    return entries


def _probabilities(_: ChatRequest, entries: Entries) -> Entries:
    for entry in entries:
        for one in (entry, *entry["top_logprobs"]):
            one["logprob"] = math.exp(one["logprob"])
    return entries


def _unnormalised(_: ChatRequest, entries: Entries) -> Entries:
    """Logarithms to base 10, as if they were natural."""
    for entry in entries:
        for one in (entry, *entry["top_logprobs"]):
            one["logprob"] /= math.log(10)
    return entries


def _first_alternatives(_: ChatRequest, entries: Entries) -> Entries:
    for entry in entries:
        entry["top_logprobs"] = entries[0]["top_logprobs"]
    return entries


def _shifted(_: ChatRequest, entries: Entries) -> Entries:
    """Each token has the entry of the one after it."""
    return [*entries[1:], entries[-1]]


def _half_the_entries(_: ChatRequest, data: Json) -> Json:
    for choice in data["choices"]:
        if choice["logprobs"]:
            choice["logprobs"]["content"] = choice["logprobs"]["content"][::2]
    return data


def _always_there(_: ChatRequest, data: Json) -> Json:
    for choice in data["choices"]:
        entry = {"token": "x", "logprob": -0.5, "bytes": [120], "top_logprobs": []}
        choice["logprobs"] = choice["logprobs"] or {"content": [entry], "refusal": None}
    return data


def _not_streamed(_: ChatRequest, events: list[Event]) -> list[Event]:
    return _bent_streams(events, lambda choice: {**choice, "logprobs": None})


def _streamed_late(_: ChatRequest, events: list[Event]) -> list[Event]:
    """The last chunk with logprobs is forgotten: what was waiting when the stream ended."""
    scored = [event for event in events if event.data and any(c["logprobs"] for c in event.data["choices"])]
    return [
        _bent_streams([event], lambda choice: {**choice, "logprobs": None})[0]
        if scored and event is scored[-1]
        else event
        for event in events
    ]


def _bent_streams(events: list[Event], bend: Callable[[Json], Json]) -> list[Event]:
    return [
        replace(event, data={**event.data, "choices": [bend(choice) for choice in event.data["choices"]]})
        if event.data
        else event
        for event in events
    ]


def _no_negative_bias(request: ChatRequest, _: State) -> ChatRequest:
    """A bias of -100 has no effect."""
    return replace(request, logit_bias={t: amount for t, amount in request.logit_bias.items() if amount > 0})


def _notice_empty_bias(raw: bytes) -> bytes:
    """An empty bias takes another way through the code, on which the temperature is lost."""
    return raw.replace(b'"logit_bias": {}', b'"logit_bias": {}, "temperature": 1, "seed": 99')


def _zero_penalty_counts(raw: bytes) -> bytes:
    return raw.replace(b'"presence_penalty": 0,', b'"presence_penalty": 0.5,')


def _text_format_counts(raw: bytes) -> bytes:
    return raw.replace(b'"type": "text"', b'"type": "json_object"')


def _fenced(request: ChatRequest, generation: Generation, _: State) -> Generation:
    """The JSON stands in a code block, as a model that was merely asked for it writes it."""
    if request.schema is None:
        return generation
    pieces = ("```json\n" + generation.pieces[0], *generation.pieces[1:-1], generation.pieces[-1] + "\n```")
    return replace(generation, pieces=pieces)


def _out_of_enum(request: ChatRequest, generation: Generation, _: State) -> Generation:
    text = generation.text
    for value in ("red", "green", "yellow"):
        text = text.replace(f'"{value}"', '"Crimson"')
    return replace(generation, pieces=(text, *[""] * (len(generation.pieces) - 1)))


def _types_loose(request: ChatRequest, generation: Generation, _: State) -> Generation:
    text = generation.text.replace("true", '"yes"').replace("false", '"no"')
    return replace(generation, pieces=(text, *[""] * (len(generation.pieces) - 1)))


def _json_when_cold(request: ChatRequest, _: State) -> ChatRequest:
    """Only the prompt asks for JSON, so that a hot model forgets it."""
    return replace(request, schema=None) if request.temperature > 1 else request


def _json_unstreamed(request: ChatRequest, _: State) -> ChatRequest:
    return replace(request, schema=None) if request.stream else request


def _any_object(request: ChatRequest, _: State) -> ChatRequest:
    """json_schema is taken for json_object."""
    if request.schema is None:
        return request
    return replace(request, schema={"type": "object", "properties": {"reply": {"type": "string"}}})


def _characters_counted(path: str, reply: Reply) -> Reply:
    if path != "/tokenize" or reply.status != 200:
        return reply
    return replace(reply, body={**reply.body, "count": 4 * reply.body["count"]})


def _ascii_text(path: str, reply: Reply) -> Reply:
    if path != "/detokenize" or reply.status != 200:
        return reply
    return replace(reply, body={"prompt": reply.body["prompt"].encode("ascii", "replace").decode()})


def _no_template(path: str, reply: Reply) -> Reply:
    if path != "/tokenize" or reply.status != 200:
        return reply
    tokens = [token for token in reply.body["tokens"] if token > len(TEMPLATE)]
    return replace(reply, body={**reply.body, "tokens": tokens, "count": len(tokens)})


def _any_token(path: str, reply: Reply) -> Reply:
    return replace(reply, status=200, body={"prompt": ""}) if path == "/detokenize" else reply


LOGPROBS = "openapi.json: ChatCompletionTokenLogprob"

DEFECTS = (
    Variation("logprobs-null", "logprobs: true brings null", "xorbitsai/inference#5270", generation=_null),
    Variation("logprobs-no-bytes", "entries have no bytes", LOGPROBS, generation=_on_entries(_no_bytes)),
    Variation("logprobs-count", "every other token has no entry", "fms-guardrails-orchestrator#477",
              whole=_half_the_entries),
    Variation("logprobs-shifted", "the entries are shifted by one token", "fms-guardrails-orchestrator#477",
              generation=_on_entries(_shifted)),
    Variation("logprobs-probabilities", "logprob is the probability itself", LOGPROBS,
              generation=_on_entries(_probabilities)),
    Variation("logprobs-base-10", "logprob is the logarithm to base 10", LOGPROBS,
              generation=_on_entries(_unnormalised)),
    Variation("top-logprobs-fewer", "there is one alternative too few", "sgl-project/sglang#32290",
              generation=_on_entries(_one_fewer)),
    Variation("top-logprobs-unsorted", "the alternatives are sorted by name", LOGPROBS,
              generation=_on_entries(_sorted_by_name)),
    Variation("top-logprobs-repeated", "every token has the first one's alternatives",
              "sgl-project/sglang#5761", generation=_on_entries(_first_alternatives)),
    Variation("logprobs-not-streamed", "a stream brings no logprobs", "abetlen/llama-cpp-python#197",
              events=_not_streamed),
    Variation("logprobs-stream-tail", "the stream's last entries are forgotten",
              "fms-guardrails-orchestrator#477", events=_streamed_late),
    Variation("logprobs-unasked", "every answer has logprobs", LOGPROBS, whole=_always_there),
    Variation("top-logprobs-unchecked", "top_logprobs is not checked", "openapi.json: 0 to 20",
              unchecked=frozenset({"top_logprobs"})),
    Variation("bias-ignored", "logit_bias does not reach the engine", "ggml-org/llama.cpp#19699",
              request=_on_request(logit_bias={})),
    Variation("bias-minus-100-ignored", "a bias of -100 has no effect", "ggml-org/llama.cpp#19699",
              request=_no_negative_bias),
    Variation("bias-empty-noticed", "logit_bias {} changes the answer", "vllm-project/vllm#1045",
              body=_notice_empty_bias),
    Variation("bias-unchecked", "logit_bias is not checked", "vllm-project/vllm#5822, #16529",
              unchecked=frozenset({"logit_bias"})),
    Variation("frequency-penalty-ignored", "frequency_penalty does not reach the engine", "realm-defects 15",
              request=_on_request(frequency_penalty=0.0)),
    Variation("presence-penalty-ignored", "presence_penalty does not reach the engine", "realm-defects 15",
              request=_on_request(presence_penalty=0.0)),
    Variation("penalty-zero-counts", "a penalty of 0 is taken for 0.5", "clause penalty.zero",
              body=_zero_penalty_counts),
    Variation("penalties-unchecked", "the penalties are not checked", "openapi.json: -2 to 2",
              unchecked=frozenset({"frequency_penalty", "presence_penalty"})),
    Variation("format-ignored", "response_format is ignored", "realm-defects 15",
              request=_on_request(schema=None)),
    Variation("format-fenced", "the JSON stands in a code block", "what a model does that is only asked to",
              generation=_fenced),
    Variation("format-any-object", "json_schema is taken for json_object", "clause format.schema",
              request=_any_object),
    Variation("format-enum-ignored", "values are out of the enum", "clause format.enum",
              generation=_out_of_enum),
    Variation("format-types-loose", "a boolean comes as a word", "clause format.schema",
              generation=_types_loose),
    Variation("format-cold-only", "the schema is kept at low temperatures only", "clause format.hot",
              request=_json_when_cold),
    Variation("format-not-streamed", "a stream does not keep the schema", "clause format.stream",
              request=_json_unstreamed),
    Variation("format-text-is-json", "the format text makes JSON", "clause format.text",
              body=_text_format_counts),
    Variation("format-unchecked", "response_format is not checked", "realm-defects 15",
              unchecked=frozenset({"response_format"})),
    Variation("tokenize-count", "the count is not that of the tokens", "clause tokenize.shape",
              reply=_characters_counted),
    Variation("tokenize-lossy", "characters of several bytes are lost", "realm-defects 18",
              reply=_ascii_text),
    Variation("tokenize-no-template", "messages are counted without the template", "clause tokenize.chat",
              reply=_no_template),
    Variation("detokenize-unchecked", "any number is a token", "clause tokenize.unknown", reply=_any_token),
)  # fmt: skip
