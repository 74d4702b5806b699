"""Functions that the scripted model calls: when it must, or when the user's last message names one."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from realm_mocks.server.forms import Pick, complaint, example

Json = dict[str, Any]
NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


def check_tools(value: Any) -> str | None:
    """What is wrong with `tools`, or None."""
    if not isinstance(value, list):
        return "must be an array"
    for index, tool in enumerate(value):
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict) or tool.get("type") != "function":
            return f"has an item ({index}) that is no function"
        if not NAME.fullmatch(str(function.get("name", ""))):
            return f"has a function ({index}) without a name of up to 64 letters, digits, _ and -"
        if wrong := complaint(function.get("parameters") or {}):
            return wrong
    return None


def check_choice(tools: Any, choice: Any) -> str | None:
    """What is wrong with `tool_choice` beside these `tools`, or None."""
    names = [tool["function"]["name"] for tool in tools or ()]
    if isinstance(choice, dict):
        function = choice.get("function")
        named = function.get("name") if isinstance(function, dict) else None
        return None if named in names else "names a function that is not in tools"
    if choice not in (None, "none", "auto", "required"):
        return "must be none, auto, required or a function"
    return "needs tools" if choice == "required" and not names else None


def chosen(tools: Sequence[Json], choice: Any, messages: Sequence[Mapping[str, Any]]) -> Json | None:
    """The function that is called, or None."""
    functions: list[Json] = [tool["function"] for tool in tools]
    if isinstance(choice, dict):
        return next(one for one in functions if one["name"] == choice["function"]["name"])
    if choice == "none" or not functions:
        return None
    if choice == "required":
        return functions[0]
    last = messages[-1] if messages else {}
    said = str(last.get("content")) if last.get("role") == "user" else ""
    return next((one for one in functions if one["name"] in said), None)


def call_of(function: Json, pick: Pick) -> Json:
    """A call of the function, as OpenAI writes it."""
    arguments = example(function.get("parameters") or {"type": "object"}, pick)
    called = {"name": function["name"], "arguments": arguments}
    return {"id": f"call_{pick(17, 10**9):09d}", "type": "function", "function": called}


def deltas(call: Json | None) -> list[Json]:
    """A call in three deltas: its head, and its arguments in two pieces."""
    if call is None:
        return []
    written = call["function"]["arguments"]
    if not isinstance(written, str):
        return [{**call, "index": 0}]
    half = len(written) // 2
    head = {**call, "index": 0, "function": {**call["function"], "arguments": ""}}
    parts = [{"index": 0, "function": {"arguments": part}} for part in (written[:half], written[half:])]
    return [head, *parts]


def call_text(call: Json) -> str:
    """What the model says to call it; its tokens are counted."""
    return "<tool_call>" + json.dumps(call["function"], ensure_ascii=False) + "</tool_call>"
