"""The body of POST /v1/chat/completions: what is accepted, its ranges, its defaults.

Source: OpenAI's ``CreateChatCompletionRequest``, with the samplers that its users expect of an open server
(``top_k``, ``min_p``, ``repetition_penalty``). null means "the default" everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from realm_reference.server import checks
from realm_reference.server.errors import invalid, unsupported
from realm_reference.server.messages import Message, parse_messages

_NO_TOOLS: Final = "it has no tool calling."
_TEXT_ONLY: Final = "it makes text only."
_ONE_TIER: Final = "it has one service tier and keeps nothing."


@dataclass(frozen=True)
class ChatRequest:
    """A valid request. `None` stands for "not given" where the default depends on the model or on chance."""

    model: str
    messages: tuple[Message, ...]
    stream: bool = False
    n: int = 1
    include_usage: bool = False
    max_tokens: int | None = None
    max_tokens_name: str = "max_tokens"
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int | None = None


_MAX_STOPS: Final = 4
_MAX_CHOICES: Final = 8
_MAX_STOP_LENGTH: Final = 256


def _stop(name: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list):
        raise invalid(name, f"'{name}' must be a string or an array of strings.", "invalid_type")
    if not 1 <= len(value) <= _MAX_STOPS:
        raise invalid(name, f"'{name}' must hold 1 to {_MAX_STOPS} strings.", "out_of_range")
    for text in value:
        if not isinstance(text, str):
            raise invalid(name, f"'{name}' must hold strings only.", "invalid_type")
        if not 1 <= len(text) <= _MAX_STOP_LENGTH:
            raise invalid(
                name, f"A stop string must have 1 to {_MAX_STOP_LENGTH} characters.", "out_of_range"
            )
    return tuple(value)


def _n(name: str, value: Any) -> int:
    """OpenAI's range is 1 to 128; between our limit and theirs it is "not supported", beyond it is wrong."""
    count = checks.integer(1, 128)(name, value)
    if count > _MAX_CHOICES:
        raise unsupported(name, f"'{name}' above {_MAX_CHOICES} is not supported by this server.")
    return count


def _metadata(name: str, value: Any) -> None:
    entries = checks.mapping(name, value)
    if len(entries) > 16:
        raise invalid(name, f"'{name}' may have at most 16 keys.", "out_of_range")
    for key, entry in entries.items():
        checks.string(f"{name}.{key[:64]}", entry)


def _response_format(name: str, value: Any) -> None:
    form = checks.mapping(name, value)
    kind = checks.string(f"{name}.type", form.get("type"))
    if kind not in {"text", "json_object", "json_schema"}:
        raise invalid(f"{name}.type", f"'{name}.type' must be text, json_object or json_schema.")
    checks.only("text", because="the only response format is text.")(name, kind)


# Honoured parameters; the key is both the JSON name and ChatRequest's.
_HONOURED: Final[Mapping[str, Callable[[str, Any], Any]]] = {
    "model": checks.string,
    "messages": parse_messages,
    "stream": checks.boolean,
    "n": _n,
    "temperature": checks.number(0, 2),
    "top_p": checks.number(0, 1),
    "top_k": checks.integer(0, 2**31 - 1),
    "min_p": checks.number(0, 1),
    "repetition_penalty": checks.number(0, 10, above_low=True),
    "stop": _stop,
    "seed": checks.integer(-(2**63), 2**63 - 1),
}

_TOKEN_LIMIT: Final = checks.integer(1, 2**31 - 1)

# Known, without influence on the text: checked in type, otherwise unused.
_INERT: Final[Mapping[str, Callable[[str, Any], Any]]] = {
    "user": checks.string,
    "safety_identifier": checks.string,
    "prompt_cache_key": checks.string,
    "metadata": _metadata,
    "response_format": _response_format,
}

# Known and not done: only the values that change nothing are accepted.
_UNSUPPORTED: Final[Mapping[str, Callable[[str, Any], Any]]] = {
    "logprobs": checks.only(False, because="it does not return log probabilities."),
    "top_logprobs": checks.only(because="it does not return log probabilities."),
    "logit_bias": checks.only({}, because="it does not bias logits."),
    "frequency_penalty": checks.only(0, because="use repetition_penalty."),
    "presence_penalty": checks.only(0, because="use repetition_penalty."),
    "tools": checks.only([], because=_NO_TOOLS),
    "tool_choice": checks.only("none", "auto", because=_NO_TOOLS),
    "parallel_tool_calls": checks.only(True, False, because=_NO_TOOLS),
    "functions": checks.only([], because=_NO_TOOLS),
    "function_call": checks.only("none", "auto", because=_NO_TOOLS),
    "modalities": checks.only(["text"], because=_TEXT_ONLY),
    "audio": checks.only(because=_TEXT_ONLY),
    "prediction": checks.only(because="it has no predicted outputs."),
    "web_search_options": checks.only(because="it has no web search."),
    "reasoning_effort": checks.only("none", because="its models do not reason."),
    "verbosity": checks.only("medium", because="its models have no verbosity."),
    "store": checks.only(False, because=_ONE_TIER),
    "service_tier": checks.only("auto", "default", because=_ONE_TIER),
    "prompt_cache_retention": checks.only(because=_ONE_TIER),
}

_KNOWN: Final = frozenset(
    {*_HONOURED, *_INERT, *_UNSUPPORTED, "stream_options", "max_tokens", "max_completion_tokens"}
)
_REQUIRED: Final = ("model", "messages")


def parse_chat_request(body: Mapping[str, Any]) -> ChatRequest:
    """The request in `body`; ApiError 400 that names the first parameter at fault."""
    for name in _REQUIRED:
        if body.get(name) is None:
            raise invalid(name, f"Missing required parameter: '{name}'.", "missing_required_parameter")
    checks.known_keys("", body, _KNOWN)
    given = {name: value for name, value in body.items() if value is not None}
    for table in (_INERT, _UNSUPPORTED):
        for name in table.keys() & given.keys():
            table[name](name, given[name])
    values = {name: check(name, given[name]) for name, check in _HONOURED.items() if name in given}
    return ChatRequest(**values, **_stream_options(given), **_max_tokens(given))


def _stream_options(given: Mapping[str, Any]) -> dict[str, Any]:
    if "stream_options" not in given:
        return {}
    options = checks.mapping("stream_options", given["stream_options"])
    if given.get("stream") is not True:
        raise invalid("stream_options", "'stream_options' is only allowed with 'stream': true.")
    checks.known_keys("stream_options.", options, frozenset({"include_usage", "include_obfuscation"}))
    values = {
        name: value is not None and checks.boolean(f"stream_options.{name}", value)
        for name, value in options.items()
    }
    if values.get("include_obfuscation"):
        checks.only(False, because="it does not pad its events.")("stream_options.include_obfuscation", True)
    return {"include_usage": values.get("include_usage", False)}


def _max_tokens(given: Mapping[str, Any]) -> dict[str, Any]:
    """`max_completion_tokens` and its deprecated twin `max_tokens`; two different limits would be a guess."""
    limits = {
        name: _TOKEN_LIMIT(name, given[name])
        for name in ("max_tokens", "max_completion_tokens")
        if name in given
    }
    if len(set(limits.values())) > 1:
        raise invalid("max_tokens", "'max_tokens' and 'max_completion_tokens' differ; give one of them.")
    for name, limit in limits.items():
        return {"max_tokens": limit, "max_tokens_name": name}
    return {}
