"""The body of POST /v1/chat/completions: what is accepted, its ranges, its defaults.

Source: OpenAI's ``CreateChatCompletionRequest``; what it has in common with text completions is in
`parameters`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from realm_reference.server.errors import invalid
from realm_reference.server.requests import checks, parameters, tools
from realm_reference.server.requests.messages import Message, parse_messages
from realm_reference.server.requests.parameters import ONE_TIER, Table, TextRequest
from realm_reference.server.requests.response_format import JsonSchema, parse_response_format
from realm_reference.server.requests.tools import NO_TOOLS, ToolUse

_NO_FUNCTIONS: Final = "it is deprecated; use tools."
_TEXT_ONLY: Final = "it makes text only."
_MAX_TOP_LOGPROBS: Final = 20


@dataclass(frozen=True, kw_only=True)
class ChatRequest(TextRequest):
    """A valid request for the next turn of a conversation. `response_format` is the schema that it keeps."""

    messages: tuple[Message, ...]
    response_format: JsonSchema | None = None
    tool_use: ToolUse = NO_TOOLS


@checks.described(type="object", additionalProperties={"type": "string"}, maxProperties=16)
def _metadata(name: str, value: Any) -> None:
    entries = checks.mapping(name, value)
    if len(entries) > 16:
        raise invalid(name, f"'{name}' may have at most 16 keys.", "out_of_range")
    for key, entry in entries.items():
        checks.string(f"{name}.{key[:64]}", entry)


_HONOURED: Final[Table] = {
    **parameters.HONOURED,
    "messages": parse_messages,
    "response_format": parse_response_format,
}

# Parameters that depend on one another.
_MAX_TOKENS: Final[Table] = dict.fromkeys(
    ("max_tokens", "max_completion_tokens"), checks.integer(1, 2**31 - 1)
)
_LOGPROBS: Final[Table] = {
    "logprobs": checks.boolean,
    "top_logprobs": checks.integer(0, _MAX_TOP_LOGPROBS),
}

# Known, without influence on the text: checked in type, otherwise unused.
_INERT: Final[Table] = {
    "user": checks.string,
    "safety_identifier": checks.string,
    "prompt_cache_key": checks.string,
    "metadata": _metadata,
}

# Known and not done: only the values that change nothing are accepted.
_UNSUPPORTED: Final[Table] = {
    "functions": checks.only([], because=_NO_FUNCTIONS),
    "function_call": checks.only("none", "auto", because=_NO_FUNCTIONS),
    "modalities": checks.only(["text"], because=_TEXT_ONLY),
    "audio": checks.only(because=_TEXT_ONLY),
    "prediction": checks.only(because="it has no predicted outputs."),
    "web_search_options": checks.only(because="it has no web search."),
    "reasoning_effort": checks.only("none", because="its models do not reason."),
    "verbosity": checks.only("medium", because="its models have no verbosity."),
    "store": checks.only(False, because=ONE_TIER),
    "service_tier": checks.only("auto", "default", because=ONE_TIER),
    "prompt_cache_retention": checks.only(because=ONE_TIER),
}

PARAMETERS: Final[Table] = {
    **_HONOURED,
    **_MAX_TOKENS,
    **_LOGPROBS,
    **parameters.STREAM_OPTIONS,
    **tools.PARAMETERS,
    **_INERT,
    **_UNSUPPORTED,
}
"""Every parameter that the route knows."""


def parse_chat_request(body: Mapping[str, Any]) -> ChatRequest:
    """The request in `body`; ApiError 400 that names the first parameter at fault."""
    given = parameters.given_of(body, ("model", "messages"), PARAMETERS)
    for table in (_INERT, _UNSUPPORTED):
        parameters.checked(given, table)
    return ChatRequest(
        **parameters.checked(given, _HONOURED),
        **parameters.stream_options(given),
        **_max_tokens(given),
        **_logprobs(given),
        tool_use=tools.tool_use(given),
    )


def _max_tokens(given: Mapping[str, Any]) -> dict[str, Any]:
    """`max_completion_tokens` and its deprecated twin `max_tokens`; two different limits would be a guess."""
    limits = parameters.checked(given, _MAX_TOKENS)
    if len(set(limits.values())) > 1:
        raise invalid("max_tokens", "'max_tokens' and 'max_completion_tokens' differ; give one of them.")
    for name, limit in limits.items():
        return {"max_tokens": limit, "max_tokens_name": name}
    return {}


def _logprobs(given: Mapping[str, Any]) -> dict[str, Any]:
    """`logprobs` says whether, `top_logprobs` how many alternatives; the second means nothing without the
    first.
    """
    asked = parameters.checked(given, _LOGPROBS)
    if asked.get("logprobs"):
        return {"top_logprobs": asked.get("top_logprobs", 0)}
    if "top_logprobs" in asked:
        raise invalid("top_logprobs", "'top_logprobs' is only allowed with 'logprobs': true.")
    return {}
