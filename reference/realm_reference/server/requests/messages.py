"""The conversation in a chat request: roles, string and text-part content."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from realm_reference.server.errors import invalid, unsupported
from realm_reference.server.requests import checks


@dataclass(frozen=True)
class Message:
    """One turn, as the chat template sees it: text parts are already joined.

    `tool_calls` are an assistant's, with arguments as objects, which is what templates write out; a tool's
    message answers the one of `tool_call_id`.
    """

    role: str
    content: str
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    tool_call_id: str | None = None

    def for_template(self) -> dict[str, Any]:
        """The mapping that chat templates index."""
        calls = {"tool_calls": list(self.tool_calls)} if self.tool_calls else {}
        answered = {"tool_call_id": self.tool_call_id} if self.tool_call_id is not None else {}
        return {"role": self.role, "content": self.content, **calls, **answered}


# "developer" is OpenAI's newer name for the system role; templates know the old one.
_ROLES: Final = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}
# null for these is what clients send back when they echo an assistant message.
_ABSENT_ONLY: Final = ("function_call", "refusal", "audio", "annotations", "reasoning_content")
_KNOWN: Final = frozenset({"role", "content", "name", "tool_call_id", "tool_calls", "parsed", *_ABSENT_ONLY})
_OTHER_PARTS: Final = frozenset({"image_url", "input_audio", "file", "refusal"})


_TEXT_PART: Final = {
    "type": "object",
    "properties": {"type": {"const": "text"}, "text": {"type": "string"}},
    "required": ["type", "text"],
    "additionalProperties": False,
}
_TOOL_CALL: Final = {
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "type": {"const": "function"},
        "index": {},
        "function": {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "arguments": {"type": "string", "contentMediaType": "application/json"},
                "parsed_arguments": {},
            },
            "required": ["name", "arguments"],
            "additionalProperties": False,
        },
    },
    "required": ["id", "type", "function"],
    "additionalProperties": False,
}
_MESSAGE: Final = {
    "type": "object",
    "properties": {
        "role": {"enum": list(_ROLES)},
        "content": {"anyOf": [{"type": "string"}, {"type": "array", "items": _TEXT_PART, "minItems": 1}]},
        "name": {"type": ["string", "null"]},
        "tool_call_id": {"type": ["string", "null"]},
        "tool_calls": {"type": ["array", "null"], "items": _TOOL_CALL},
        "parsed": {},
        **{name: {"enum": [None, []]} for name in _ABSENT_ONLY},
    },
    "required": ["role", "content"],
    "additionalProperties": False,
    # A tool's answer says which call it answers.
    "if": {"properties": {"role": {"const": "tool"}}, "required": ["role"]},
    "then": {"properties": {"tool_call_id": {"type": "string"}}, "required": ["tool_call_id"]},
}


_MAX_MESSAGES: Final = 2048


@checks.described(type="array", items=_MESSAGE, minItems=1, maxItems=_MAX_MESSAGES)
def parse_messages(name: str, value: Any) -> tuple[Message, ...]:
    """All messages, 1 to 2048 as with OpenAI; ApiError 400 names the place (``messages[2].content``)."""
    entries = checks.sequence(name, value)
    if not 1 <= len(entries) <= _MAX_MESSAGES:
        raise invalid(name, f"'{name}' must hold 1 to {_MAX_MESSAGES} messages.", "out_of_range")
    return tuple(_message(f"{name}[{index}]", entry) for index, entry in enumerate(entries))


def _message(name: str, value: Any) -> Message:
    entry = checks.mapping(name, value)
    checks.known_keys(f"{name}.", entry, _KNOWN)
    role = checks.string(f"{name}.role", entry.get("role"))
    if role == "function":
        raise unsupported(f"{name}.role", "The deprecated role 'function' is not supported by this server.")
    if role not in _ROLES:
        raise invalid(f"{name}.role", f"'{name}.role' must be one of {', '.join(_ROLES)}.")
    for absent in _ABSENT_ONLY:
        if entry.get(absent) not in (None, []):
            raise unsupported(f"{name}.{absent}", f"'{name}.{absent}' is not supported by this server.")
    for text in ("name", "tool_call_id"):
        if entry.get(text) is not None:
            checks.string(f"{name}.{text}", entry[text])
    answered = None
    if role == "tool":
        answered = checks.string(f"{name}.tool_call_id", entry.get("tool_call_id"))
    calls = _tool_calls(f"{name}.tool_calls", entry.get("tool_calls"), role)
    # Who calls a function need not say anything.
    silent = bool(calls) and entry.get("content") is None
    content = "" if silent else _content(f"{name}.content", entry.get("content"))
    return Message(_ROLES[role], content, calls, answered)


def _tool_calls(name: str, value: Any, role: str) -> tuple[dict[str, Any], ...]:
    if value is None or value == []:
        return ()
    if role != "assistant":
        raise invalid(name, f"'{name}' is only allowed in an assistant's message.")
    entries = checks.sequence(name, value)
    return tuple(_tool_call(f"{name}[{index}]", entry) for index, entry in enumerate(entries))


def _tool_call(name: str, value: Any) -> dict[str, Any]:
    entry = checks.mapping(name, value)
    # The official client sends back what it has made of a message: places in a stream, parsed values.
    checks.known_keys(f"{name}.", entry, frozenset({"id", "type", "function", "index"}))
    if entry.get("type") != "function":
        raise invalid(f"{name}.type", f"'{name}.type' must be 'function'.")
    function = checks.mapping(f"{name}.function", entry.get("function"))
    checks.known_keys(f"{name}.function.", function, frozenset({"name", "arguments", "parsed_arguments"}))
    written = checks.string(f"{name}.function.arguments", function.get("arguments"))
    try:
        arguments = json.loads(written)
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        raise invalid(f"{name}.function.arguments", f"'{name}.function.arguments' must be a JSON object.")
    called = checks.string(f"{name}.function.name", function.get("name"))
    return {
        "id": checks.string(f"{name}.id", entry.get("id")),
        "type": "function",
        "function": {"name": called, "arguments": arguments},
    }


def _content(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    if not isinstance(value, list) or not value:
        raise invalid(name, f"'{name}' must be a string or a non-empty array of text parts.", "invalid_type")
    return "".join(_text_part(f"{name}[{index}]", part) for index, part in enumerate(value))


def _text_part(name: str, value: Any) -> str:
    part: Mapping[str, Any] = checks.mapping(name, value)
    kind = checks.string(f"{name}.type", part.get("type"))
    if kind in _OTHER_PARTS:
        raise unsupported(f"{name}.type", f"Content of type '{kind}' is not supported by this server.")
    if kind != "text":
        raise invalid(f"{name}.type", f"'{name}.type' must be 'text'.")
    checks.known_keys(f"{name}.", part, frozenset({"type", "text"}))
    return checks.string(f"{name}.text", part.get("text"))
