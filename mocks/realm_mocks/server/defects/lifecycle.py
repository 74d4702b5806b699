"""Defects between requests: answers that mix, errors that disturb, closed connections that go unnoticed."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any

from realm_mocks.server.errors import ApiError
from realm_mocks.server.generation import Generation, generate
from realm_mocks.server.replies import Reply
from realm_mocks.server.request import ChatRequest
from realm_mocks.server.schedule import Schedule
from realm_mocks.server.variation import State, Variation

SLOW = Schedule(ttft=0.01, itl=0.01)
"""Slow enough that requests overlap, quick enough for a score."""


def _previous_prompt(request: ChatRequest, state: State) -> ChatRequest:
    before = state.notes.get("previous-prompt")
    state.notes["previous-prompt"] = request.messages
    return replace(request, messages=(*before, *request.messages)) if before else request


def _leaks_previous(request: ChatRequest, generation: Generation, state: State) -> Generation:
    """The tail of the request before is still in the cache, and comes out at the head of this answer."""
    before = state.notes.get("leaks-previous", "")
    state.notes["leaks-previous"] = request.text
    return _led_by(generation, before)


def _leaks_neighbour(request: ChatRequest, generation: Generation, state: State) -> Generation:
    """While others are in flight, an answer begins with what another one asked."""
    latest = state.notes.get("leaks-neighbour", "")
    state.notes["leaks-neighbour"] = request.text
    return _led_by(generation, latest) if state.in_flight > 1 else generation


def _led_by(generation: Generation, words: str) -> Generation:
    if not words:
        return generation
    pieces = (words[-200:] + " " + generation.pieces[0], *generation.pieces[1:])
    return replace(generation, pieces=pieces)


def _batch_matters(request: ChatRequest, generation: Generation, state: State) -> Generation:
    """With neighbours in the batch the answer takes another turn after its third token."""
    if state.in_flight < 2:
        return generation
    tokens = list(generation.tokens[:3]) + list(reversed(generation.tokens[3:]))
    other = generate(tokens, request.stop, None, generation.prompt_tokens)
    return replace(other, finish_reason=generation.finish_reason)


def _errors_kill_streams(state: State, _: ApiError) -> None:
    for task in state.live:
        task.cancel()


def _newcomer_kills_streams(request: ChatRequest, state: State) -> ChatRequest:
    for task in state.live:
        task.cancel()
    return request


def _errors_poison(state: State, error: ApiError) -> None:
    if error.status == 400:
        state.notes["poisoned"] = True


def _refuse_when_poisoned(request: ChatRequest, state: State) -> ChatRequest:
    if state.notes.get("poisoned"):
        raise ApiError(500, "the engine is dead", type="server_error")
    return request


def _errors_wear(state: State, _: ApiError) -> None:
    state.notes["worn"] = state.notes.get("worn", 0) + 1


def _worker_restarts(request: ChatRequest, state: State) -> ChatRequest:
    """A worker that has refused ten requests in a row takes the next one with it."""
    if state.notes.pop("worn", 0) >= 10:
        raise ApiError(500, "worker restarted", type="server_error")
    return request


def _one_at_a_time(state: State) -> AbstractAsyncContextManager[Any]:
    return state.everything


async def _keep_working(_: State, remaining: float) -> None:
    await asyncio.sleep(remaining)


async def _slot_lost(state: State, _: float) -> None:
    """The slot of an abandoned answer is never given back; the server has three of them."""
    state.notes["lost"] = state.notes.get("lost", 0) + 1


async def _hang_without_slots(state: State) -> None:
    while state.notes.get("lost", 0) >= 3:
        await asyncio.sleep(0.05)


async def _abort_next(state: State, _: float) -> None:
    state.notes["abort-next"] = True


def _aborted(request: ChatRequest, state: State) -> ChatRequest:
    if state.notes.pop("abort-next", False):
        raise ApiError(500, "aborted by client disconnect", type="server_error")
    return request


class _LostSlots(AbstractAsyncContextManager[None]):
    """A gate that opens as long as there are slots left."""

    def __init__(self, state: State) -> None:
        self.state = state

    async def __aenter__(self) -> None:
        await _hang_without_slots(self.state)

    async def __aexit__(self, *_: object) -> None:
        return None


def _closes_silently(_: str, reply: Reply) -> Reply:
    return replace(reply, closes=True, headers={**reply.headers, "Connection": "keep-alive"})


DEFECTS = (
    Variation(
        "closes-silently",
        "a connection is said to stay open and is closed after the answer",
        "a proxy whose idle time is shorter than its client's",
        reply=_closes_silently,
    ),
    Variation(
        "leaks-previous",
        "an answer begins with the request before it",
        "realm-defects 18, ggml-org/llama.cpp#27422",
        generation=_leaks_previous,
    ),
    Variation(
        "leaks-neighbour",
        "answers in flight contain other requests' prompts",
        "ml-explore/mlx-lm#965, ollama/ollama#17475",
        schedule=Schedule(ttft=0.02),
        generation=_leaks_neighbour,
    ),
    Variation(
        "previous-context",
        "a prompt is appended to the one before",
        "realm-defects 8",
        request=_previous_prompt,
    ),
    Variation(
        "batch-matters",
        "the answer at temperature 0 depends on the neighbours",
        "vllm-project/vllm#5898, #23138",
        schedule=Schedule(ttft=0.02),
        generation=_batch_matters,
    ),
    Variation(
        "errors-kill-streams",
        "a refused request cuts all running streams",
        "vllm-project/vllm#16529",
        schedule=SLOW,
        on_error=_errors_kill_streams,
    ),
    Variation(
        "newcomer-kills-streams",
        "a new request cuts all running streams",
        "llama-cpp-python's interrupt_requests",
        schedule=SLOW,
        request=_newcomer_kills_streams,
    ),
    Variation(
        "errors-wear-out",
        "after ten refused requests in a row the next good one fails",
        "vllm-project/vllm#5963",
        on_error=_errors_wear,
        request=_worker_restarts,
    ),
    Variation(
        "errors-poison",
        "after a refused request all others fail",
        "vllm-project/vllm#5822, realm-defects 12",
        on_error=_errors_poison,
        request=_refuse_when_poisoned,
    ),
    Variation(
        "global-lock",
        "one lock for everything: a generation stalls all other routes",
        "realm-defects 27",
        schedule=SLOW,
        gate=_one_at_a_time,
    ),
    Variation(
        "disconnect-ignored",
        "a closed connection does not stop the work",
        "realm-defects 28",
        schedule=Schedule(ttft=0.01, itl=0.02),
        on_disconnect=_keep_working,
    ),
    Variation(
        "disconnect-leaks-slot",
        "a closed connection loses its slot for good",
        "ggml-org/llama.cpp#24496",
        schedule=SLOW,
        on_disconnect=_slot_lost,
        gate=_LostSlots,
    ),
    Variation(
        "disconnect-kills-next",
        "a closed connection aborts the next request",
        "sgl-project/sglang#36475",
        schedule=SLOW,
        on_disconnect=_abort_next,
        request=_aborted,
    ),
)
