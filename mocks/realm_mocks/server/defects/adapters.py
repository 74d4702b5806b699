"""Defects of LoRA adapters: not applied, applied to somebody else's request, given to whoever asks."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from realm_mocks.server.adapters import ALL, MODEL, OWN, card_of
from realm_mocks.server.completions import Texts
from realm_mocks.server.generation import Generation, generate
from realm_mocks.server.model import answer_tokens
from realm_mocks.server.replies import Event, Reply
from realm_mocks.server.request import ChatRequest
from realm_mocks.server.schedule import Schedule
from realm_mocks.server.variation import State, Variation

Json = dict[str, Any]


def _base_if(condition: Callable[[ChatRequest], bool]) -> Callable[[ChatRequest, State], ChatRequest]:
    """A hook that leaves the adapter out of such requests."""
    return lambda chat, _: replace(chat, adapter="") if condition(chat) else chat


def _unknown_is_base(raw: bytes) -> bytes:
    try:
        body = json.loads(raw)
    except ValueError:
        return raw
    name = body.get("model") if isinstance(body, dict) else None
    if isinstance(name, str) and name.startswith(f"{MODEL}:") and name not in ALL:
        return json.dumps({**body, "model": MODEL}).encode()
    return raw


def _of_the_neighbour(chat: ChatRequest, state: State) -> ChatRequest:
    """While others are answered, the adapter of whoever came before."""
    before = state.notes.get("adapter", chat.adapter)
    state.notes["adapter"] = chat.adapter
    return replace(chat, adapter=before) if state.in_flight > 1 else chat


def _stays(chat: ChatRequest, state: State) -> ChatRequest:
    """What was set for one request is what the next without an adapter gets."""
    if chat.adapter:
        state.notes["adapter"] = chat.adapter
    return replace(chat, adapter=state.notes.get("adapter", ""))


def _cached_by_prompt(chat: ChatRequest, state: State) -> ChatRequest:
    """What was computed for a prompt is used again, with whatever adapter it was."""
    first = state.notes.setdefault("adapters-by-prompt", {}).setdefault(chat.text, chat.adapter)
    return replace(chat, adapter=first)


def _blended(chat: ChatRequest, generation: Generation, state: State) -> Generation:
    """Beside others what an adapter says is neither its own nor anybody's."""
    if not chat.adapter or state.in_flight < 2:
        return generation
    return _spoken_by(chat, generation, "both")


def _read(chat: ChatRequest, tenant: str, state: State) -> float:
    """Who reads a prompt first leaves keys and values to the tenant's others."""
    readers = state.notes.setdefault("readers", {})
    state.notes["reader"] = readers.setdefault((tenant, chat.text), chat.adapter)
    return 0.0


def _from_the_reader(chat: ChatRequest, generation: Generation, state: State) -> Generation:
    if state.notes.get("reader", chat.adapter) == chat.adapter:
        return generation
    return _spoken_by(chat, generation, f"{state.notes['reader']} then {chat.adapter}")


def _spoken_by(chat: ChatRequest, generation: Generation, adapter: str) -> Generation:
    tokens = answer_tokens(replace(chat, adapter=adapter), 0, 0)
    return generate(tokens, chat.stop, chat.cap, generation.prompt_tokens)


def _unseeded(chat: ChatRequest, _: State) -> ChatRequest:
    return replace(chat, seed=None) if chat.adapter else chat


def _base_text(chat: ChatRequest, choice: int) -> str:
    tokens = answer_tokens(replace(chat, adapter=""), choice, 0)
    return generate(tokens, chat.stop, chat.cap, 0).text


def _first_choice_alone(chat: ChatRequest, data: Json) -> Json:
    bent = copy.deepcopy(data)
    for number, choice in enumerate(bent["choices"]):
        if number and chat.adapter:
            choice["message"]["content"] = _base_text(chat, number)
    return bent


def _texts_without(texts: Texts, whole: Json) -> Json:
    bent = copy.deepcopy(whole)
    for number, choice in enumerate(bent["choices"]):
        choice["text"] = _base_text(texts.chats[number // texts.first.n], number)
    return bent


def _named_base(_: ChatRequest, data: Json) -> Json:
    return {**data, "model": MODEL}


def _events_named_base(_: ChatRequest, events: list[Event]) -> list[Event]:
    return [replace(event, data=event.data and {**event.data, "model": MODEL}) for event in events]


def _without_card(path: str, reply: Reply) -> Reply:
    return Reply(404, {"detail": "Not Found"}) if path.startswith(f"/v1/models/{MODEL}:") else reply


def _listed_to_all(path: str, reply: Reply) -> Reply:
    if path != "/v1/models" or reply.status != 200 or any(card["id"] == OWN for card in reply.body["data"]):
        return reply
    return replace(reply, body={**reply.body, "data": [*reply.body["data"], card_of(OWN)]})


DEFECTS = (
    Variation(
        "adapter-ignored",
        "adapters are listed and not applied",
        "realm-defects 34",
        request=_base_if(lambda _: True),
    ),
    Variation(
        "adapter-unknown-base",
        "an adapter that there is not is answered by the base",
        "realm-defects 35",
        body=_unknown_is_base,
    ),
    Variation(
        "adapter-of-neighbour",
        "requests in one batch get each other's adapters",
        "vllm-project/vllm#47724",
        schedule=Schedule(ttft=0.05, itl=0.002),
        request=_of_the_neighbour,
    ),
    Variation(
        "adapter-blended",
        "in a batch the factors of two adapters are added up",
        "ggml-org/llama.cpp: one set of adapters for all slots",
        schedule=Schedule(ttft=0.05, itl=0.002),
        generation=_blended,
    ),
    Variation(
        "adapter-stays", "an adapter stays set for who asks for none", "realm-defects 34", request=_stays
    ),
    Variation(
        "adapter-cached-by-prompt",
        "a cache by prompt leaves the adapter out of its key",
        "vllm-project/vllm#3264, ggml-org/llama.cpp#26207",
        request=_cached_by_prompt,
    ),
    Variation(
        "adapter-prefix-shared",
        "a cache of prefixes leaves the adapter out of its key",
        "vllm-project/vllm#3264, LMCache/LMCache#2961",
        prefill=_read,
        generation=_from_the_reader,
    ),
    Variation(
        "adapter-not-streamed",
        "streams are the base's",
        "a second way through the server",
        request=_base_if(lambda chat: chat.stream),
    ),
    Variation(
        "adapter-not-in-texts",
        "text completions are the base's",
        "a second way through the server",
        texts=_texts_without,
    ),
    Variation(
        "adapter-first-choice",
        "of several choices the first alone has the adapter",
        "a fork that forgets it",
        whole=_first_choice_alone,
    ),
    Variation(
        "adapter-named-base",
        "answers name the base in place of the adapter",
        "costs are booked under it",
        whole=_named_base,
        events=_events_named_base,
    ),
    Variation("adapter-without-card", "/v1/models/ID knows no adapter", "openapi.json", reply=_without_card),
    Variation(
        "adapter-listed-to-all",
        "another tenant's adapter is in the list",
        "CWE-200",
        reply=_listed_to_all,
    ),
    Variation(
        "adapter-for-all", "another tenant's adapter answers whoever asks", "CWE-639", every_adapter=True
    ),
    Variation(
        "adapter-unseeded",
        "with an adapter a seed has no effect",
        "vllm-project/vllm#51226",
        request=_unseeded,
    ),
)
