"""Calls of functions in a model's text: how they are written, and how they are read out of a stream.

The syntax is that of Hermes and Qwen, whose chat templates ask for it: each call is a JSON object with `name`
and `arguments` between two tags.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, field
from typing import Any, Final

from realm_reference.orchestration.grammar import WHITESPACE
from realm_reference.server.response_format import JsonSchema
from realm_reference.server.tools import ToolUse

BEGIN: Final = "<tool_call>"
END: Final = "</tool_call>"
_ONE_SPACE: Final = "[ ]?"  # calls are written on one line


@dataclass(frozen=True)
class Call:
    """A function to call; `arguments` is JSON, as OpenAI has it."""

    index: int
    name: str
    arguments: str
    id: str = field(default_factory=lambda: f"call_{secrets.token_hex(12)}")


def call_grammar(use: ToolUse, answer: JsonSchema | None) -> str:
    """What may be said where `use.tools` may be called: text or an `answer` of that schema, and calls.

    In the notation of Lark, for `GrammarCompiler`. A call keeps the schema of its function's parameters.
    """
    calls = _json({"anyOf": [_call_schema(tool.name, tool.parameters) for tool in use.tools]}, _ONE_SPACE)
    begin, end = json.dumps(BEGIN), json.dumps("\n" + END)
    rules = [f'body: "\\n" {calls} {end}']
    if use.required:
        rules += [f"call: {begin} body", 'start: call ("\\n" call)*' if use.parallel else "start: call"]
    elif answer is not None:
        rules += [f"call: {begin} body", f"answer: {_json(answer, WHITESPACE)}"]
        rules += ['start: answer | call ("\\n" call)*' if use.parallel else "start: answer | call"]
    else:
        # Lazy: the text ends with the first tag, and from there on it is a call.
        rules += ["TEXT: /(.|\\n)*/", f"head[lazy]: TEXT {begin}", "call: head body"]
        rules += ["start: call* TEXT" if use.parallel else "start: call | TEXT"]
    return "\n".join(["%llguidance {}", *rules, ""])


def _call_schema(name: str, parameters: JsonSchema) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"name": {"const": name}, "arguments": parameters},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


def _json(schema: JsonSchema, space: str) -> str:
    options = {"whitespace_pattern": space, "lenient": False, "coerce_one_of": False}
    return f"%json {json.dumps({**schema, 'x-guidance': options})}"


class CallReader:
    """Takes a text as it comes and tells calls from what is said beside them.

    What may become a tag is held back, and so is space that may be the space round a call. A call is told
    when it is whole; what looks like one and is none is text.
    """

    def __init__(self) -> None:
        self._held = ""
        self._inside = False
        self._behind = False  # a call, so that space is no text yet
        self.calls = 0

    def push(self, text: str) -> tuple[str, list[Call]]:
        """The text and the calls that are certain now."""
        self._held += text
        said, calls = "", list[Call]()
        while (tag := END if self._inside else BEGIN) in self._held:
            before, _, self._held = self._held.partition(tag)
            if not self._inside:
                said += self._shown(before).rstrip()
            elif (call := self._call(before)) is not None:
                calls.append(call)
                self._behind = True
            else:
                said += BEGIN + before + END
            self._inside = not self._inside
        return said + ("" if self._inside else self._certain()), calls

    def end(self) -> str:
        """What was held back, when nothing more comes: a call that is not whole is text."""
        held, self._held = self._held, ""
        if self._inside:
            return BEGIN + held
        return self._shown(held)

    def _shown(self, text: str) -> str:
        """`text` without the space behind a call."""
        shown = text.lstrip() if self._behind else text
        self._behind = self._behind and not shown
        return shown

    def _certain(self) -> str:
        keep = len(self._held.rstrip())
        for size in range(min(len(BEGIN) - 1, len(self._held)), 0, -1):
            if BEGIN.startswith(self._held[-size:]):
                keep = len(self._held[:-size].rstrip())
                break
        said, self._held = self._held[:keep], self._held[keep:]
        return self._shown(said)

    def _call(self, body: str) -> Call | None:
        try:
            read = json.loads(body)
            name, arguments = read["name"], read["arguments"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return None
        if not isinstance(name, str) or not isinstance(arguments, dict):
            return None
        self.calls += 1
        return Call(self.calls - 1, name, json.dumps(arguments, ensure_ascii=False))
