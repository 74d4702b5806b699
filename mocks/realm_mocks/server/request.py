"""The chat request: which values openapi.json allows, and the frozen form that the rest works on."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from realm_mocks.server import forms
from realm_mocks.server.errors import invalid
from realm_mocks.server.lexicon import VOCAB_SIZE
from realm_mocks.server.receiving import strict_json
from realm_mocks.server.tools import check_choice, check_tools

Check = Callable[[Any], str | None]
"""Returns what is wrong with a value, or None when nothing is."""

ROLES = frozenset({"developer", "system", "user", "assistant", "tool", "function"})


@dataclass(frozen=True)
class ChatRequest:
    """A checked request. `max_tokens` is the smaller of the two caps that OpenAI knows, None for no cap.
    `adapter` is what the model says it with, "" for nothing.
    """

    model: str
    messages: tuple[dict[str, Any], ...]
    stream: bool = False
    stream_options: dict[str, Any] | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    n: int = 1
    seed: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: bool = False
    top_logprobs: int | None = None
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    schema: Mapping[str, Any] | None = None
    tools: tuple[dict[str, Any], ...] = ()
    tool_choice: Any = None
    draft_tokens: int | None = None
    adapter: str = ""

    @property
    def include_usage(self) -> bool:
        """Whether the stream shall end with a usage chunk."""
        return bool((self.stream_options or {}).get("include_usage"))

    @property
    def cap(self) -> int | None:
        """The number of tokens at which the answer is cut, or None."""
        caps = [cap for cap in (self.max_tokens, self.max_completion_tokens) if cap is not None]
        return min(caps, default=None)

    @property
    def text(self) -> str:
        """All that the messages say, in order."""
        return "\n".join(content_text(message.get("content")) for message in self.messages)


def content_text(content: Any) -> str:
    """The text of a message's content: a string, null, or a list of parts."""
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _number(low: float, high: float) -> Check:
    def check(value: Any) -> str | None:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return "must be a number"
        return None if low <= value <= high else f"must be between {low:g} and {high:g}"

    return check


def _integer(low: int, high: int) -> Check:
    def check(value: Any) -> str | None:
        if isinstance(value, bool) or not isinstance(value, int):
            return "must be an integer"
        return None if low <= value <= high else f"must be between {low} and {high}"

    return check


def _boolean(value: Any) -> str | None:
    return None if isinstance(value, bool) else "must be true or false"


def _stop(value: Any) -> str | None:
    if isinstance(value, str):
        return None
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        return "must be a string or an array of strings"
    return None if 1 <= len(value) <= 4 else "must have 1 to 4 strings"


def _stream_options(value: Any) -> str | None:
    if not isinstance(value, dict):
        return "must be an object"
    return None if isinstance(value.get("include_usage", False), bool) else "has a bad include_usage"


def _messages(value: Any) -> str | None:
    if not isinstance(value, list):
        return "must be an array"
    if not value:
        return "must not be empty"
    for index, message in enumerate(value):
        if not isinstance(message, dict):
            return f"must be an array of objects; item {index} is not one"
        if message.get("role") not in ROLES:
            return f"has an item ({index}) with a missing or unknown role"
        if not isinstance(message.get("content"), str | list | type(None)):
            return f"has an item ({index}) whose content is neither a string nor an array"
    return None


def _logit_bias(value: Any) -> str | None:
    if not isinstance(value, dict):
        return "must be an object"
    for token, amount in value.items():
        if not token.isdecimal() or int(token) >= VOCAB_SIZE:
            return f"has the key {token[:32]!r}, which is not the id of a token"
        if complaint := _number(-100, 100)(amount):
            return f"has a value that {complaint}"
    return None


CHECKS: dict[str, Check] = {
    "messages": _messages,
    "stream": _boolean,
    "stream_options": _stream_options,
    "temperature": _number(0, 2),
    "top_p": _number(0, 1),
    "frequency_penalty": _number(-2, 2),
    "presence_penalty": _number(-2, 2),
    "n": _integer(1, 128),
    "max_tokens": _integer(1, 2**31 - 1),
    "max_completion_tokens": _integer(1, 2**31 - 1),
    "seed": _integer(-(2**63), 2**63 - 1),
    "stop": _stop,
    "logprobs": _boolean,
    "top_logprobs": _integer(0, 20),
    "logit_bias": _logit_bias,
    "response_format": forms.check_format,
    "tools": check_tools,
    "draft_tokens": _integer(0, 16),
}


def parse_body(raw: bytes) -> dict[str, Any]:
    """The JSON object in a request body; ApiError 400 when there is none."""
    try:
        body = strict_json(raw)
    except ValueError as error:  # UnicodeDecodeError is one too
        raise invalid(None, f"The body is not valid JSON: {error}") from None
    if not isinstance(body, dict):
        raise invalid(None, "The body must be a JSON object")
    return body


def check_request(body: dict[str, Any], unchecked: Collection[str] = ()) -> ChatRequest:
    """Check a body against openapi.json's ranges and make a ChatRequest of it; whether there is such a model
    is another's question.

    Parameters in `unchecked` are taken as they come: the door through which a planted defect enters.
    """
    for required in ("messages", "model"):
        if required not in body and required not in unchecked:
            raise invalid(required, f"Missing required parameter: '{required}'")
    for param, check in CHECKS.items():
        value = body.get(param)
        if param in unchecked or (value is None and param != "messages"):
            continue
        if (complaint := check(value)) is not None:
            raise invalid(param, f"Invalid '{param}': it {complaint}")
    if body.get("top_logprobs") is not None and not body.get("logprobs") and "top_logprobs" not in unchecked:
        raise invalid("top_logprobs", "Invalid 'top_logprobs': it needs 'logprobs': true")
    if "tool_choice" not in unchecked and (wrong := check_choice(body.get("tools"), body.get("tool_choice"))):
        raise invalid("tool_choice", f"Invalid 'tool_choice': it {wrong}")
    if "model" not in unchecked and not isinstance(body.get("model"), str):
        raise invalid("model", "Invalid 'model': it must be a string")
    return _freeze(body)


def _freeze(body: dict[str, Any]) -> ChatRequest:
    """A ChatRequest from a checked body; a value of a type that was left unchecked becomes the default."""

    def number(param: str, default: float) -> float:
        value = body.get(param)
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else default

    def integer(param: str) -> int | None:
        value = body.get(param)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    stop = body.get("stop")
    stops = [stop] if isinstance(stop, str) else stop if isinstance(stop, list) else []
    options = body.get("stream_options")
    messages = body.get("messages")
    listed = messages if isinstance(messages, list) else []
    return ChatRequest(
        model=str(body.get("model", "")),
        messages=tuple(message for message in listed if isinstance(message, dict)),
        stream=body.get("stream") is True,
        stream_options=options if isinstance(options, dict) else None,
        max_tokens=integer("max_tokens"),
        max_completion_tokens=integer("max_completion_tokens"),
        temperature=number("temperature", 1.0),
        top_p=number("top_p", 1.0),
        n=max(1, integer("n") or 1),
        seed=integer("seed"),
        stop=tuple(item for item in stops if isinstance(item, str)),
        logprobs=body.get("logprobs") is True,
        top_logprobs=integer("top_logprobs"),
        logit_bias=_bias(body.get("logit_bias")),
        presence_penalty=number("presence_penalty", 0.0),
        frequency_penalty=number("frequency_penalty", 0.0),
        schema=forms.schema_of(body.get("response_format")),
        tools=tuple(body["tools"]) if body.get("tools") and check_tools(body["tools"]) is None else (),
        tool_choice=body.get("tool_choice"),
        draft_tokens=integer("draft_tokens"),
        adapter=str(body.get("model", "")).partition(":")[2],
    )


def _bias(value: Any) -> dict[int, float]:
    pairs = value.items() if isinstance(value, dict) else ()
    return {int(token): float(amount) for token, amount in pairs if token.isdecimal()}
