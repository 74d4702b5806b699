"""Defects of reading: parts of a request that are lost, and refusals that differ from the rest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from realm_mocks.server.replies import Reply
from realm_mocks.server.request import ChatRequest
from realm_mocks.server.variation import State, Variation

BIT_8 = 0xFF


def _last_message(request: ChatRequest, _: State) -> ChatRequest:
    return replace(request, messages=request.messages[-1:])


def _unsteered(request: ChatRequest, _: State) -> ChatRequest:
    if not request.stream:
        return request
    return replace(request, seed=None, logit_bias={}, frequency_penalty=0.0, presence_penalty=0.0)


def _three_stops(request: ChatRequest, _: State) -> ChatRequest:
    return replace(request, stop=request.stop[:3])


def _two_at_most(request: ChatRequest, _: State) -> ChatRequest:
    return replace(request, n=min(request.n, 2))


def _five_at_most(request: ChatRequest, _: State) -> ChatRequest:
    return replace(request, top_logprobs=min(request.top_logprobs or 0, 5))


def _low_byte(request: ChatRequest, _: State) -> ChatRequest:
    return replace(request, seed=None if request.seed is None else request.seed & BIT_8)


def _unsigned(request: ChatRequest, _: State) -> ChatRequest:
    return replace(request, seed=None if request.seed is None else abs(request.seed))


def _never_encouraged(request: ChatRequest, _: State) -> ChatRequest:
    return replace(
        request,
        frequency_penalty=max(request.frequency_penalty, 0.0),
        presence_penalty=max(request.presence_penalty, 0.0),
    )


def _other_model(path: str, reply: Reply) -> Reply:
    if not path.startswith("/v1/models/") or reply.status != 200:
        return reply
    return replace(reply, body={**reply.body, "id": "scripted-0"})


def _on_error(status: int, bend: Callable[[Any], Any]) -> Callable[[str, Reply], Reply]:
    """A hook on the error of refusals with this status."""

    def reply_hook(_: str, reply: Reply) -> Reply:
        if reply.status != status or not isinstance(reply.body, dict) or "error" not in reply.body:
            return reply
        return replace(reply, body={"error": bend(reply.body["error"])})

    return reply_hook


def _message_alone(error: Any) -> Any:
    return error["message"]


def _always_temperature(error: Any) -> Any:
    return {**error, "param": "temperature"}


def _with_stack(error: Any) -> Any:
    stack = 'Traceback (most recent call last):\n  File "/srv/server.py", line 12, in handle\n'
    return {**error, "message": stack + error["message"]}


DEFECTS = (
    Variation("history-lost", "only the last message is read", "realm-defects 7", request=_last_message),
    Variation(
        "stream-unsteered", "streams ignore seed, bias and penalties", "realm-defects 15", request=_unsteered
    ),
    Variation("stops-three", "the fourth stop string is dropped", "openapi: up to 4", request=_three_stops),
    Variation("n-two", "n above 2 brings two choices", "ggml-org/llama.cpp: slots", request=_two_at_most),
    Variation(
        "top-logprobs-five",
        "top_logprobs above 5 brings five",
        "the range of /v1/completions",
        request=_five_at_most,
    ),
    Variation("seed-byte", "of a seed the low byte counts", "realm-defects 15", request=_low_byte),
    Variation("seed-unsigned", "a seed's sign is lost", "realm-defects 15", request=_unsigned),
    Variation(
        "penalty-negative-lost",
        "a negative penalty is taken for none",
        "clause penalty.negative",
        request=_never_encouraged,
    ),
    Variation("models-other", "/v1/models/ID is another model", "openapi: retrieveModel", reply=_other_model),
    Variation(
        "error-string-404",
        "where a model is unknown, `error` is a string",
        "huggingface/text-generation-inference: a flat error",
        reply=_on_error(404, _message_alone),
    ),
    Variation(
        "error-string-413",
        "where a body is too large, `error` is a string",
        "a proxy's or a framework's own refusal",
        reply=_on_error(413, _message_alone),
    ),
    Variation(
        "error-string-415",
        "where an encoding is unknown, `error` is a string",
        "a proxy's or a framework's own refusal",
        reply=_on_error(415, _message_alone),
    ),
    Variation(
        "error-param-constant",
        "error.param is always temperature",
        "openapi: Error.param",
        reply=_on_error(400, _always_temperature),
    ),
    Variation("error-stack", "a refusal shows the stack", "CWE-209", reply=_on_error(400, _with_stack)),
)
