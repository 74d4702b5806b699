"""Defects of an engine that serves many at once: neighbours, memory that is short, shared prefixes."""

from __future__ import annotations

import time
from dataclasses import replace

from realm_mocks.server.generation import Generation, generate
from realm_mocks.server.request import ChatRequest
from realm_mocks.server.schedule import Schedule
from realm_mocks.server.variation import State, Variation

TOGETHER = Schedule(ttft=0.1)
"""Slow enough that requests overlap, quick enough for a score."""
SLOW = Schedule(ttft=0.01, itl=0.01)
LONG = 500
"""Characters of a prompt that takes more than one step to read."""
CROWD = 8
"""Requests that fit in memory."""
PREFILL_SECONDS = 0.08


def _noise_of_the_batch(request: ChatRequest, state: State) -> ChatRequest:
    return replace(request, seed=(request.seed or 0) + state.in_flight - 1)


def _copies_share_a_stream(request: ChatRequest, state: State) -> ChatRequest:
    """Of the same requests in flight each goes on with the noise where another has left it."""
    same = state.notes.setdefault("copies", {})
    name = repr(request)
    begun = same.get(name, 0) if state.in_flight > 1 else 0
    same[name] = begun + 1
    return replace(request, seed=(request.seed or 0) + begun)


def _other_turn(request: ChatRequest, generation: Generation) -> Generation:
    tokens = list(generation.tokens[:3]) + list(reversed(generation.tokens[3:]))
    other = generate(tokens, request.stop, None, generation.prompt_tokens)
    return replace(other, finish_reason=generation.finish_reason)


def _prompt_in_the_way(request: ChatRequest, generation: Generation, state: State) -> Generation:
    """While a long prompt is read, what the others decode goes wrong."""
    if len(request.text) > LONG:
        state.notes["reading"] = time.monotonic()
        return generation
    reading = time.monotonic() - state.notes.get("reading", -1.0) < TOGETHER.ttft
    return _other_turn(request, generation) if reading else generation


async def _leaving_cuts_others(state: State, _: float) -> None:
    for task in state.live:
        task.cancel()


def _begins_again(_: ChatRequest, generation: Generation, state: State) -> Generation:
    """An answer that had to make room says its beginning twice."""
    if state.in_flight <= CROWD or len(generation.pieces) < 4:
        return generation
    return replace(generation, pieces=(*generation.pieces[:2], *generation.pieces[:-2]))


def _rounded_otherwise(_: ChatRequest, generation: Generation, state: State) -> Generation:
    if generation.logprobs is None or state.in_flight < 2:
        return generation
    shifted = ({**entry, "logprob": entry["logprob"] - 1e-4} for entry in generation.logprobs)
    return replace(generation, logprobs=tuple(shifted))


def _leaks_into_streams(request: ChatRequest, generation: Generation, state: State) -> Generation:
    """Streams in flight begin with what another one asked."""
    latest = state.notes.get("streamed", "") if state.in_flight > 1 else ""
    if not request.stream:
        return generation
    state.notes["streamed"] = request.text
    return replace(generation, pieces=(latest[-80:], *generation.pieces[1:])) if latest else generation


def _warm_is_another(request: ChatRequest, generation: Generation, state: State) -> Generation:
    seen = state.notes.setdefault("warm", set())
    warm = request.text in seen
    seen.add(request.text)
    return _other_turn(request, generation) if warm and len(request.text) > LONG else generation


def _first_with(part: str, request: ChatRequest, state: State) -> ChatRequest:
    """What is the same in this part is answered as the first of its kind."""
    if len(request.text) <= LONG:
        return request
    first = state.notes.setdefault("prefixes", {}).setdefault(part, request.messages)
    return replace(request, messages=first)


def _head_is_all(request: ChatRequest, state: State) -> ChatRequest:
    return _first_with(request.text[: LONG // 2], request, state)


def _blocks_are_alike(request: ChatRequest, state: State) -> ChatRequest:
    return _first_with(request.text[-LONG // 2 :], request, state)


def _asker(_: ChatRequest, tenant: str, state: State) -> float:
    state.notes["asker"] = tenant
    return 0.0


def _end_seen(request: ChatRequest, generation: Generation, state: State) -> Generation:
    """A tenant's long prompt that ends as one of its others is answered from that one's place."""
    heads = state.notes.setdefault("ends", {})
    first = heads.setdefault((state.notes["asker"], request.text[-LONG // 2 :]), request.text)
    return (
        generation if len(request.text) <= LONG or first == request.text else _other_turn(request, generation)
    )


def _prefill_unless_seen(request: ChatRequest, tenant: str, state: State) -> float:
    """A long prompt is read in some time, by whoever has sent it before in none."""
    seen = state.notes.setdefault("prefilled", set())
    name = (tenant, request.text)
    known = name in seen or len(request.text) <= LONG
    seen.add(name)
    return 0.0 if known else PREFILL_SECONDS


def _prefill_unless_anybody_saw(request: ChatRequest, _: str, state: State) -> float:
    return _prefill_unless_seen(request, "", state)


def _cached_is_not_counted(request: ChatRequest, generation: Generation, state: State) -> Generation:
    seen = state.notes.setdefault("counted", set())
    warm = request.text in seen
    seen.add(request.text)
    return replace(generation, prompt_tokens=3) if warm and len(request.text) > LONG else generation


DEFECTS = (
    Variation(
        "batch-noise",
        "the noise of a seed depends on the place in the batch",
        "vllm-project/vllm#50440: one generator for all",
        schedule=TOGETHER,
        request=_noise_of_the_batch,
    ),
    Variation(
        "batch-copies",
        "the same requests at the same time share one stream of noise",
        "vllm-project/vllm#51226",
        schedule=TOGETHER,
        request=_copies_share_a_stream,
    ),
    Variation(
        "batch-long-prompt",
        "while a long prompt is read the others' answers take another turn",
        "chunked prefill beside decode, vllm-project/vllm#5898",
        schedule=TOGETHER,
        generation=_prompt_in_the_way,
    ),
    Variation(
        "batch-leaving",
        "a client that leaves takes its neighbours' streams with it",
        "ggml-org/llama.cpp#24496",
        schedule=SLOW,
        on_disconnect=_leaving_cuts_others,
    ),
    Variation(
        "batch-begins-again",
        "with more requests than fit an answer says its beginning twice and lacks its end",
        "preemption by recomputing",
        schedule=TOGETHER,
        generation=_begins_again,
    ),
    Variation(
        "batch-logprobs",
        "log probabilities depend on the neighbours",
        "vLLM's batch-invariant mode is there for it",
        schedule=TOGETHER,
        generation=_rounded_otherwise,
    ),
    Variation(
        "batch-streams-mix",
        "streams at the same time begin with each other's questions",
        "realm-defects 18",
        schedule=TOGETHER,
        generation=_leaks_into_streams,
    ),
    Variation(
        "prefix-warm",
        "a long prompt that was seen before is answered otherwise",
        "a cached prefix of another rounding, or of a place too far",
        generation=_warm_is_another,
    ),
    Variation(
        "prefix-head",
        "long prompts that begin alike are taken for the same",
        "a cache by the first block alone",
        request=_head_is_all,
    ),
    Variation(
        "prefix-unchained",
        "long prompts that end alike are taken for the same",
        "a cache whose blocks do not know what is before them",
        request=_blocks_are_alike,
    ),
    Variation(
        "prefix-half-warm",
        "a long prompt whose end its tenant has sent before is answered otherwise",
        "a cache whose blocks do not know what is before them",
        generation=_end_seen,
        prefill=_asker,
    ),
    Variation(
        "prefix-timing",
        "a prompt is read faster when another tenant has sent it before",
        "vllm-project/vllm#13083: cache_salt",
        schedule=Schedule(),
        prefill=_prefill_unless_anybody_saw,
    ),
    Variation(
        "prefix-usage",
        "what is in the cache is not counted as prompt",
        "clause: prompt_tokens are those of the prompt",
        generation=_cached_is_not_counted,
    ),
)

CACHE_OF_A_TENANT = Variation(
    "prefix-cache",
    "a prompt is read faster when the same tenant has sent it before",
    "vLLM with a cache_salt for each tenant",
    prefill=_prefill_unless_seen,
)
"""What is no defect: each tenant has a cache of its own."""
