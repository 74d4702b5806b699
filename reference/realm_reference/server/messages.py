"""The conversation in a chat request: roles, string and text-part content."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from realm_reference.server import checks
from realm_reference.server.errors import invalid, unsupported


@dataclass(frozen=True)
class Message:
    """One turn, as the chat template sees it: text parts are already joined."""

    role: str
    content: str

    def for_template(self) -> dict[str, str]:
        """The mapping that chat templates index."""
        return {"role": self.role, "content": self.content}


# "developer" is OpenAI's newer name for the system role; templates know the old one.
_ROLES: Final = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}
# null for these is what clients send back when they echo an assistant message.
_ABSENT_ONLY: Final = ("tool_calls", "function_call", "refusal", "audio", "annotations", "reasoning_content")
_KNOWN: Final = frozenset({"role", "content", "name", "tool_call_id", *_ABSENT_ONLY})
_OTHER_PARTS: Final = frozenset({"image_url", "input_audio", "file", "refusal"})


_TEXT_PART: Final = {
    "type": "object",
    "properties": {"type": {"const": "text"}, "text": {"type": "string"}},
    "required": ["type", "text"],
    "additionalProperties": False,
}
_MESSAGE: Final = {
    "type": "object",
    "properties": {
        "role": {"enum": list(_ROLES)},
        "content": {"anyOf": [{"type": "string"}, {"type": "array", "items": _TEXT_PART, "minItems": 1}]},
        "name": {"type": ["string", "null"]},
        "tool_call_id": {"type": ["string", "null"]},
        **{name: {"enum": [None, []]} for name in _ABSENT_ONLY},
    },
    "required": ["role", "content"],
    "additionalProperties": False,
    # A tool's answer says which call it answers.
    "if": {"properties": {"role": {"const": "tool"}}, "required": ["role"]},
    "then": {"properties": {"tool_call_id": {"type": "string"}}, "required": ["tool_call_id"]},
}


@checks.described(type="array", items=_MESSAGE, minItems=1)
def parse_messages(name: str, value: Any) -> tuple[Message, ...]:
    """All messages, at least one; ApiError 400 names the place, such as ``messages[2].content``."""
    entries = checks.sequence(name, value)
    if not entries:
        raise invalid(name, f"'{name}' must hold at least one message.", "out_of_range")
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
    if role == "tool":
        checks.string(f"{name}.tool_call_id", entry.get("tool_call_id"))
    return Message(_ROLES[role], _content(f"{name}.content", entry.get("content")))


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
