"""Defects of /v1/completions, /v1/embeddings and calls of functions."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from realm_mocks.server.completions import Texts
from realm_mocks.server.generation import Generation
from realm_mocks.server.replies import Event, Reply
from realm_mocks.server.request import ChatRequest
from realm_mocks.server.tools import call_text
from realm_mocks.server.variation import State, Variation

Json = dict[str, Any]
Chunks = list[Json]


def _each_text(bend: Callable[[Texts, Json], None]) -> Callable[[Texts, Json], Json]:
    """A hook that hands each choice of a text completion to `bend` to change in place."""

    def texts_hook(texts: Texts, whole: Json) -> Json:
        bent = copy.deepcopy(whole)
        for choice in bent["choices"]:
            bend(texts, choice)
        return bent

    return texts_hook


def _chat_shape(_: Texts, choice: Json) -> None:
    choice["message"] = {"role": "assistant", "content": choice.pop("text")}


def _echo_always(texts: Texts, choice: Json) -> None:
    if not texts.echo:
        choice["text"] = texts.prompts[choice["index"] // texts.first.n] + choice["text"]


def _echo_never(texts: Texts, choice: Json) -> None:
    if texts.echo:
        choice["text"] = choice["text"].removeprefix(texts.prompts[choice["index"] // texts.first.n])


def _zero_is_off(texts: Texts, choice: Json) -> None:
    if not texts.first.top_logprobs:
        choice["logprobs"] = None


def _one_list_short(_: Texts, choice: Json) -> None:
    if choice["logprobs"]:
        choice["logprobs"]["token_logprobs"].pop()


def _token_offsets(_: Texts, choice: Json) -> None:
    """Offsets count tokens, not characters."""
    if choice["logprobs"]:
        choice["logprobs"]["text_offset"] = list(range(len(choice["logprobs"]["tokens"])))


def _first_scored(_: Texts, choice: Json) -> None:
    scores = choice["logprobs"]
    if scores:
        scores["token_logprobs"][0], scores["top_logprobs"][0] = -1.0, {scores["tokens"][0]: -1.0}


def _backwards(_: Texts, whole: Json) -> Json:
    texts = [choice["text"] for choice in whole["choices"]]
    listed = [{**one, "text": text} for one, text in zip(whole["choices"], reversed(texts), strict=True)]
    return {**whole, "choices": listed}


def _one_text(_: Texts, whole: Json) -> Json:
    return {**whole, "choices": whole["choices"][:1]}


def _whole_object(chunks: Chunks) -> Chunks:
    """The last chunk has the whole text once more."""
    text = "".join(choice["text"] for chunk in chunks for choice in chunk["choices"])
    last = {**chunks[-1], "choices": [{**choice, "text": text} for choice in chunks[-1]["choices"]]}
    return [*chunks[:-1], last]


def _on_body(bend: Callable[[Json], None], route_has: str) -> Callable[[bytes], bytes]:
    """A hook on the body of requests that have the parameter `route_has`."""

    def body_hook(raw: bytes) -> bytes:
        try:
            body = json.loads(raw)
        except ValueError:
            return raw
        if not isinstance(body, dict) or route_has not in body:
            return raw
        bend(body)
        return json.dumps(body).encode()

    return body_hook


def _endless(body: Json) -> None:
    body.setdefault("max_tokens", 64)


def _no_stop(body: Json) -> None:
    body.pop("stop", None)


def _no_suffix(body: Json) -> None:
    body.pop("suffix", None)


def _ids_as_words(body: Json) -> None:
    if isinstance(body["prompt"], list) and all(isinstance(one, int) for one in body["prompt"]):
        body["prompt"] = " ".join(map(str, body["prompt"]))


def _object_as_text(body: Json) -> None:
    if isinstance(body["prompt"], dict):
        body["prompt"] = str(body["prompt"])


def _zeros(path: str, reply: Reply) -> Reply:
    if path != "/v1/embeddings":
        return reply
    data = [{"object": "embedding", "index": index, "embedding": [0.0] * 8} for index in range(2)]
    return replace(reply, status=200, body={"object": "list", "data": data, "model": "scripted-1"})


def _on_call(bend: Callable[[Json], Json]) -> Callable[[ChatRequest, Generation, State], Generation]:
    """A hook on the function that a choice calls."""

    def generation_hook(_: ChatRequest, generation: Generation, __: State) -> Generation:
        if generation.call is None:
            return generation
        return replace(generation, call=bend(copy.deepcopy(generation.call)))

    return generation_hook


def _no_id(call: Json) -> Json:
    return {**call, "id": None}


def _parsed(call: Json) -> Json:
    call["function"]["arguments"] = json.loads(call["function"]["arguments"])
    return call


def _other_city(call: Json) -> Json:
    written = call["function"]["arguments"]
    call["function"]["arguments"] = written.replace("Rome", "Paris").replace("Oslo", "Bonn")
    return call


def _never_called(request: ChatRequest, _: State) -> ChatRequest:
    return replace(request, tools=())


def _choice_unread(request: ChatRequest, _: State) -> ChatRequest:
    return replace(request, tool_choice="required") if isinstance(request.tool_choice, dict) else request


def _none_unread(request: ChatRequest, _: State) -> ChatRequest:
    return replace(request, tool_choice="required") if request.tool_choice == "none" else request


def _finish_stop(_: ChatRequest, generation: Generation, __: State) -> Generation:
    return replace(generation, finish_reason="stop") if generation.call else generation


def _on_deltas(bend: Callable[[Json], Json]) -> Callable[[ChatRequest, list[Event]], list[Event]]:
    """A hook on each choice of each chunk of a stream."""

    def events_hook(_: ChatRequest, events: list[Event]) -> list[Event]:
        return [
            replace(event, data={**event.data, "choices": [bend(one) for one in event.data["choices"]]})
            if event.data
            else event
            for event in events
        ]

    return events_hook


def _no_index(choice: Json) -> Json:
    called = choice["delta"].get("tool_calls")
    if not called:
        return choice
    bare = [{key: value for key, value in one.items() if key != "index"} for one in called]
    return {**choice, "delta": {"tool_calls": bare}}


def _stream_finish_stop(choice: Json) -> Json:
    return {**choice, "finish_reason": "stop"} if choice["finish_reason"] == "tool_calls" else choice


def _half_arguments(_: ChatRequest, events: list[Event]) -> list[Event]:
    """The last piece of the arguments is lost."""
    called = [e for e in events if e.data and any("tool_calls" in c["delta"] for c in e.data["choices"])]
    return [event for event in events if not called or event is not called[-1]]


def _silent_after_tools(request: ChatRequest, generation: Generation, _: State) -> Generation:
    """A conversation that ends with a tool's result has no answer."""
    ended = bool(request.messages) and request.messages[-1].get("role") == "tool"
    return replace(generation, pieces=("",) * len(generation.pieces)) if ended else generation


def _call_in_content(_: ChatRequest, whole: Json) -> Json:
    """The text that the call was read from stands in the content too."""
    for choice in whole["choices"]:
        for call in choice["message"].get("tool_calls") or []:
            choice["message"]["content"] = call_text(call)
    return whole


TEXT = "openapi.json: CreateCompletionResponse"
CALL = "openapi.json: ChatCompletionMessageToolCall"

DEFECTS = (
    Variation("texts-chat-shape", "a completion has `message` in place of `text`", TEXT,
              texts=_each_text(_chat_shape)),
    Variation("texts-echo-always", "a completion begins with its prompt", TEXT,
              texts=_each_text(_echo_always)),
    Variation("texts-echo-ignored", "echo has no effect", "vllm-project/vllm#5890",
              texts=_each_text(_echo_never)),
    Variation("texts-endless", "without max_tokens a completion runs on", "openapi.json: default 16",
              body=_on_body(_endless, "prompt")),
    Variation("texts-stream-repeats", "the stream's last chunk repeats the text", "sgl-project/sglang#30188",
              text_chunks=_whole_object),
    Variation("texts-backwards", "several prompts have each other's texts", "clause completions.prompts",
              texts=_backwards),
    Variation("texts-ids-as-words", "token ids are read as numbers in words", "clause completions.token-ids",
              body=_on_body(_ids_as_words, "prompt")),
    Variation("texts-logprobs-short", "token_logprobs is one entry short", "fms-guardrails-orchestrator#477",
              texts=_each_text(_one_list_short)),
    Variation("texts-logprobs-zero-off", "logprobs 0 is taken for off", "xorbitsai/inference#5270",
              texts=_each_text(_zero_is_off)),
    Variation("texts-offsets-of-tokens", "text_offset counts tokens", TEXT, texts=_each_text(_token_offsets)),
    Variation("texts-first-scored", "the first token of all has a log probability", TEXT,
              texts=_each_text(_first_scored)),
    Variation("texts-no-stop", "stop has no effect", "vllm-project/vllm#2577",
              body=_on_body(_no_stop, "prompt")),
    Variation("texts-n-ignored", "n brings one choice", "realm-defects 15", texts=_one_text),
    Variation("texts-any-prompt", "an object is taken for a prompt", "clause completions.prompt-type",
              body=_on_body(_object_as_text, "prompt")),
    Variation("texts-suffix-dropped", "a suffix is dropped", "clause completions.suffix",
              body=_on_body(_no_suffix, "prompt")),
    Variation("embeddings-zeros", "embeddings are made up", "realm-defects 16", reply=_zeros),
    Variation("tools-ignored", "tools are taken and never called", "realm-defects 15", request=_never_called),
    Variation("tools-no-id", "a call has no id", CALL, generation=_on_call(_no_id)),
    Variation("tools-arguments-object", "arguments are an object", CALL, generation=_on_call(_parsed)),
    Variation("tools-arguments-loose", "arguments are out of the enum", "clause tools.arguments",
              generation=_on_call(_other_city)),
    Variation("tools-named-unread", "tool_choice with a name calls another", "clause tools.named",
              request=_choice_unread),
    Variation("tools-none-unread", "tool_choice none calls", "clause tools.none", request=_none_unread),
    Variation("tools-finish-stop", "calls end with the finish reason stop", "ollama/ollama#7963, #5995",
              generation=_finish_stop),
    Variation("tools-no-index", "deltas of calls have no index", "clause S13", events=_on_deltas(_no_index)),
    Variation("tools-stream-finish", "only a stream finishes with stop", "BerriAI/litellm#35663",
              events=_on_deltas(_stream_finish_stop)),
    Variation("tools-stream-cut", "a stream loses the end of the arguments", "ggml-org/llama.cpp#28926",
              events=_half_arguments),
    Variation("tools-no-second-round", "a tool's result has no answer", "clause tools.round",
              generation=_silent_after_tools),
    Variation("tools-call-in-content", "the content holds the call too", "clause tools.content",
              whole=_call_in_content),
    Variation("tools-unchecked", "tools are not checked", "clause tools.bad-tool",
              unchecked=frozenset({"tools", "tool_choice"})),
)  # fmt: skip
