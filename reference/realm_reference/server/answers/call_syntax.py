"""The ways in which families of models write calls of functions: what may be said, and how it is read.

Hermes and Qwen put each call between two tags. Llama 3 answers with one call as the whole message, Mistral
with a list of calls behind a control token.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from realm_reference.model.tokenizer import Tokenizer
from realm_reference.orchestration.grammar import WHITESPACE, check_numbers
from realm_reference.server.answers.bare_calls import BareCallReader
from realm_reference.server.answers.calls import Reader
from realm_reference.server.answers.tagged_calls import BEGIN, END, TaggedCallReader
from realm_reference.server.requests.response_format import JsonSchema
from realm_reference.server.requests.tools import Tool, ToolUse

MISTRAL_MARK: Final = "[TOOL_CALLS]"
_ONE_SPACE: Final = "[ ]?"  # calls are written on one line


@dataclass(frozen=True)
class CallSyntax:
    """One way. `grammar` says what may be said where functions may be called: text or an answer of a schema,
    and calls. In the notation of Lark, for `GrammarCompiler`; a call keeps its function's schema.
    """

    reader: Callable[[], Reader]
    grammar: Callable[[ToolUse, JsonSchema | None, Tokenizer], str]


def _hermes(use: ToolUse, answer: JsonSchema | None, _: Tokenizer) -> str:
    begin, end = json.dumps(BEGIN), json.dumps("\n" + END)
    rules = [f'body: "\\n" {_calls(use, "arguments")} {end}']
    if use.required:
        rules += [f"call: {begin} body", 'start: call ("\\n" call)*' if use.parallel else "start: call"]
    elif answer is not None:
        rules += [f"call: {begin} body", f"answer: {_json(answer, WHITESPACE)}"]
        rules += ['start: answer | call ("\\n" call)*' if use.parallel else "start: answer | call"]
    else:
        # Lazy: the text ends with the first tag, and from there on it is a call.
        rules += ["TEXT: /(.|\\n)*/", f"head[lazy]: TEXT {begin}", "call: head body"]
        rules += ["start: call* TEXT" if use.parallel else "start: call | TEXT"]
    return _lark(rules)


def _llama3(use: ToolUse, answer: JsonSchema | None, _: Tokenizer) -> str:
    return _lark([f"calls: {_calls(use, 'parameters')}", *_whole_message(use, answer, "{")])


def _mistral(use: ToolUse, answer: JsonSchema | None, tokenizer: Tokenizer) -> str:
    mark = tokenizer.encode(MISTRAL_MARK, parse_special=True)
    named = f"<[{mark[0]}]>" if len(mark) == 1 and tokenizer.is_special(mark[0]) else json.dumps(MISTRAL_MARK)
    more = " (/,[ ]?/ call)*" if use.parallel else ""
    rules = [f"call: {_calls(use, 'arguments')}", f'calls: ({named})? "[" call{more} "]"']
    return _lark([*rules, *_whole_message(use, answer, "[")])


def _whole_message(use: ToolUse, answer: JsonSchema | None, opening: str) -> list[str]:
    """What a message may be whose calls are all of it. A text begins otherwise, so that nothing is both."""
    if use.required:
        return ["start: calls"]
    if answer is not None:
        return [f"answer: {_json(answer, WHITESPACE)}", "start: answer | calls"]
    return [f"TEXT: /([^\\{opening}\\s](.|\\n)*)?/", "start: calls | TEXT"]


def _lark(rules: list[str]) -> str:
    return "\n".join(["%llguidance {}", *rules, ""])


def _calls(use: ToolUse, arguments: str) -> str:
    return _json({"anyOf": [_call_schema(tool, arguments) for tool in use.tools]}, _ONE_SPACE)


def _call_schema(tool: Tool, arguments: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"name": {"const": tool.name}, arguments: tool.parameters},
        "required": ["name", arguments],
        "additionalProperties": False,
    }


def _json(schema: JsonSchema, space: str) -> str:
    check_numbers(schema)
    options = {"whitespace_pattern": space, "lenient": False, "coerce_one_of": False}
    return f"%json {json.dumps({**schema, 'x-guidance': options})}"


SYNTAXES: Final[Mapping[str, CallSyntax]] = {
    "hermes": CallSyntax(TaggedCallReader, _hermes),
    "llama3": CallSyntax(lambda: BareCallReader("parameters"), _llama3),
    "mistral": CallSyntax(lambda: BareCallReader("arguments", mark=MISTRAL_MARK, listed=True), _mistral),
}
"""By the names that `ChatTemplate.call_syntax` gives them."""
