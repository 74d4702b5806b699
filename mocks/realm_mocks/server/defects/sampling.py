"""Defects of sampling parameters, seeds and choices."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

from realm_mocks.server.replies import Event
from realm_mocks.server.request import ChatRequest
from realm_mocks.server.variation import State, Variation

_fresh_seeds = itertools.count(1)


def _no_temperature(request: ChatRequest, _: State) -> ChatRequest:
    return replace(request, temperature=0.0)


def _always_random(request: ChatRequest, _: State) -> ChatRequest:
    return replace(request, temperature=1.0, top_p=1.0, seed=next(_fresh_seeds))


def _seed_ignored(request: ChatRequest, _: State) -> ChatRequest:
    return replace(request, seed=None)


def _seed_constant(request: ChatRequest, _: State) -> ChatRequest:
    return replace(request, seed=1234)


def _no_top_p(request: ChatRequest, _: State) -> ChatRequest:
    return replace(request, top_p=1.0)


def _one_choice(request: ChatRequest, _: State) -> ChatRequest:
    return replace(request, n=1)


def _clones(_: ChatRequest, data: dict[str, Any]) -> dict[str, Any]:
    for choice in data["choices"][1:]:
        choice["message"] = data["choices"][0]["message"]
    return data


def _index_zero(_: ChatRequest, data: dict[str, Any]) -> dict[str, Any]:
    for choice in data["choices"]:
        choice["index"] = 0
    return data


def _second_choice_lost(_: ChatRequest, events: list[Event]) -> list[Event]:
    """The stream ends with the first choice: the others' chunks are never sent."""
    return [e for e in events if not e.data or all(c["index"] == 0 for c in e.data["choices"])]


DEFECTS = (
    Variation(
        "temperature-ignored",
        "temperature does not reach the engine: always greedy",
        "realm-defects 15",
        request=_no_temperature,
    ),
    Variation(
        "temperature-zero-random",
        "temperature 0 still samples at random",
        "vllm-project/vllm#5898",
        request=_always_random,
    ),
    Variation(
        "seed-ignored",
        "the seed is ignored",
        "vllm-project/vllm#51226, realm-defects 15",
        request=_seed_ignored,
    ),
    Variation(
        "seed-constant", "every seed gives the same answer", "vllm-project/vllm#50440", request=_seed_constant
    ),
    Variation("top-p-ignored", "top_p does not reach the engine", "realm-defects 15", request=_no_top_p),
    Variation(
        "n-ignored",
        "n is accepted and one choice comes back",
        "ollama's documentation: unsupported",
        request=_one_choice,
    ),
    Variation(
        "n-clones",
        "the choices of n > 1 are copies",
        "vllm-project/vllm#50440: one seed broadcast",
        whole=_clones,
    ),
    Variation("n-same-index", "all choices have index 0", "mudler/LocalAI#788", whole=_index_zero),
    Variation(
        "n-stream-first-only",
        "a stream of n choices brings the first one only",
        "clause S6: each choice finishes",
        events=_second_choice_lost,
    ),
)
