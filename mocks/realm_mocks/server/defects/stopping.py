"""Defects of stop strings, caps and finish reasons."""

from __future__ import annotations

from dataclasses import replace

from realm_mocks.server.generation import Generation, find_stop, generate
from realm_mocks.server.model import answer_tokens
from realm_mocks.server.replies import Event
from realm_mocks.server.request import ChatRequest
from realm_mocks.server.variation import State, Variation


def _no_stop(request: ChatRequest, _: State) -> ChatRequest:
    return replace(request, stop=())


def _first_of_list(request: ChatRequest, _: State) -> ChatRequest:
    return replace(request, stop=request.stop[:1])


def _no_cap(request: ChatRequest, _: State) -> ChatRequest:
    return replace(request, max_tokens=None, max_completion_tokens=None)


def _no_completion_cap(request: ChatRequest, _: State) -> ChatRequest:
    return replace(request, max_completion_tokens=None)


def _one_more(request: ChatRequest, _: State) -> ChatRequest:
    return request if request.max_tokens is None else replace(request, max_tokens=request.max_tokens + 1)


def _stop_included(request: ChatRequest, generation: Generation, _: State) -> Generation:
    decoded = b"".join(generation.tokens).decode("utf-8", "replace")
    at = find_stop(decoded, request.stop)
    return generation if at is None else replace(generation, pieces=(*generation.pieces, decoded[at:]))


def _empty_with_stop(request: ChatRequest, generation: Generation, _: State) -> Generation:
    return replace(generation, pieces=("",) * len(generation.pieces)) if request.stop else generation


def _aligned_to_tokens(request: ChatRequest, generation: Generation, _: State) -> Generation:
    """A stop string is only seen when it is the whole text of one token."""
    tokens = answer_tokens(request, 0, 0)
    whole = [index for index, token in enumerate(tokens) if token.decode("utf-8", "replace") in request.stop]
    used = tokens[: whole[0]] if whole else tokens
    return generate(used, (), request.cap, generation.prompt_tokens) if request.stop else generation


def _prefix_leaks(request: ChatRequest, generation: Generation) -> list[str]:
    """Nothing is held back: the beginning of the stop string is out before it is complete."""
    open_pieces = generate(list(generation.tokens), (), None, 0).pieces
    if find_stop("".join(open_pieces), request.stop) is None:
        return list(open_pieces)
    return [*open_pieces[:-1], ""]


def _cap_in_prompt(request: ChatRequest, generation: Generation, _: State) -> Generation:
    """The cap is told to the model, which then says something else."""
    told = replace(request, messages=(*request.messages, {"role": "system", "content": f"max {request.cap}"}))
    return generate(answer_tokens(told, 0, 0), request.stop, request.cap, generation.prompt_tokens)


def _always(reason: str, generation: Generation) -> Generation:
    return replace(generation, finish_reason=reason)


def _stream_says_stop(_: ChatRequest, events: list[Event]) -> list[Event]:
    for event in events:
        for choice in (event.data or {}).get("choices", []):
            choice["finish_reason"] = choice["finish_reason"] and "stop"
    return events


DEFECTS = (
    Variation("stop-ignored", "stop does not reach the engine", "realm-defects 15", request=_no_stop),
    Variation(
        "stop-list-first-only",
        "of several stop strings only the first counts",
        "openapi: up to 4 sequences",
        request=_first_of_list,
    ),
    Variation(
        "stop-included",
        "the stop string is in the text",
        "vllm-project/vllm#57052",
        generation=_stop_included,
    ),
    Variation(
        "stop-empties",
        "the answer is empty whenever stop is set",
        "vllm-project/vllm#11089",
        generation=_empty_with_stop,
    ),
    Variation(
        "stop-aligned",
        "a stop string must be one token's whole text",
        "vllm-project/vllm#2577, #3572",
        generation=_aligned_to_tokens,
    ),
    Variation(
        "stop-prefix-leaks",
        "the beginning of a stop string is streamed before the match",
        "vllm-project/vllm#3574",
        pieces=_prefix_leaks,
    ),
    Variation(
        "max-tokens-ignored",
        "neither cap reaches the engine",
        "ollama/ollama#18575, realm-defects 15",
        request=_no_cap,
    ),
    Variation(
        "max-completion-tokens-ignored",
        "max_completion_tokens is dropped without a word",
        "abetlen/llama-cpp-python#1907, ggml-org/llama.cpp#13700",
        request=_no_completion_cap,
    ),
    Variation(
        "max-tokens-one-more",
        "one token more than max_tokens",
        "realm-defects 36: more tokens than max_tokens",
        request=_one_more,
    ),
    Variation(
        "cap-changes-answer",
        "the answer depends on max_tokens",
        "clause: the cap only cuts",
        generation=_cap_in_prompt,
    ),
    Variation(
        "finish-always-stop",
        'finish_reason is always "stop"',
        "realm-defects 23, ikawrakow/ik_llama.cpp#2321",
        generation=lambda request, generation, state: _always("stop", generation),
    ),
    Variation(
        "finish-always-length",
        'finish_reason is always "length"',
        "realm-defects 16: EOS is not a stop",
        generation=lambda request, generation, state: _always("length", generation),
    ),
    Variation(
        "stream-finish-differs",
        'a stream says "stop" where the whole answer says "length"',
        "BerriAI/litellm#35663",
        events=_stream_says_stop,
    ),
)
