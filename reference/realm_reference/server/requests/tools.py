"""`tools`, `tool_choice`, `parallel_tool_calls`: functions that the model may, must or must not call."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from realm_reference.server.errors import invalid, unsupported
from realm_reference.server.requests import checks, parameters
from realm_reference.server.requests.parameters import Table

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MAX_TOOLS: Final = 128
_FUNCTION_FIELDS: Final = {
    "name": {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"},
    "description": {"type": ["string", "null"]},
    "parameters": {"type": ["object", "null"]},
    "strict": {"type": ["boolean", "null"]},
}


@dataclass(frozen=True)
class Tool:
    """A function that the model may call; `parameters` is the JSON schema of its arguments."""

    name: str
    description: str
    parameters: Mapping[str, Any]

    def for_template(self) -> dict[str, Any]:
        """The mapping that chat templates write out."""
        function = {"name": self.name, "description": self.description, "parameters": dict(self.parameters)}
        return {"type": "function", "function": function}


@dataclass(frozen=True)
class ToolUse:
    """The functions that may be called in this turn (none: no calls), whether one must be, and how many."""

    tools: tuple[Tool, ...] = ()
    required: bool = False
    parallel: bool = True


NO_TOOLS: Final = ToolUse()


def _function_schema(fields: Mapping[str, Any]) -> dict[str, Any]:
    function = {
        "type": "object",
        "properties": fields,
        "required": ["name"],
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": {"type": {"const": "function"}, "function": function},
        "required": ["type", "function"],
        "additionalProperties": False,
    }


@checks.described(type="array", items=_function_schema(_FUNCTION_FIELDS), maxItems=_MAX_TOOLS)
def _tools(name: str, value: Any) -> tuple[Tool, ...]:
    entries = checks.sequence(name, value)
    if len(entries) > _MAX_TOOLS:
        raise invalid(name, f"'{name}' may hold at most {_MAX_TOOLS} functions.", "out_of_range")
    tools = tuple(_tool(f"{name}[{index}]", entry) for index, entry in enumerate(entries))
    if len({tool.name for tool in tools}) < len(tools):
        raise invalid(name, f"'{name}' has two functions of the same name.")
    return tools


def _tool(name: str, value: Any) -> Tool:
    function = _function(name, value, frozenset(_FUNCTION_FIELDS))
    for field, check in (("description", checks.string), ("strict", checks.boolean)):
        if function.get(field) is not None:
            check(f"{name}.function.{field}", function[field])
    # Without parameters it is a function of none.
    parameters = function.get("parameters") or {"type": "object", "properties": {}}
    checks.mapping(f"{name}.function.parameters", parameters)
    return Tool(function["name"], function.get("description") or "", parameters)


def _function(name: str, value: Any, fields: frozenset[str]) -> Mapping[str, Any]:
    """The `function` of an entry of type "function", its name checked."""
    entry = checks.mapping(name, value)
    kind = checks.string(f"{name}.type", entry.get("type"))
    if kind != "function":
        raise unsupported(f"{name}.type", f"'{name}.type' must be 'function': no other tools are supported.")
    checks.known_keys(f"{name}.", entry, frozenset({"type", "function"}))
    function = checks.mapping(f"{name}.function", entry.get("function"))
    checks.known_keys(f"{name}.function.", function, fields)
    if not _NAME.fullmatch(checks.string(f"{name}.function.name", function.get("name"))):
        raise invalid(f"{name}.function.name", f"'{name}.function.name' must be 1 to 64 of A-Z a-z 0-9 _ -.")
    return function


_CHOICES: Final = ("none", "auto", "required")


@checks.described(
    anyOf=[{"enum": list(_CHOICES)}, _function_schema({"name": _FUNCTION_FIELDS["name"]})],
)
def _choice(name: str, value: Any) -> str | Mapping[str, Any]:
    """One of the words, or the named function."""
    if isinstance(value, str):
        if value not in _CHOICES:
            raise invalid(name, f"'{name}' must be none, auto, required or a function.")
        return value
    return _function(name, value, frozenset({"name"}))


PARAMETERS: Final[Table] = {
    "tools": _tools,
    "tool_choice": _choice,
    "parallel_tool_calls": checks.boolean,
}


def tool_use(given: Mapping[str, Any]) -> ToolUse:
    """What the three parameters say together; ApiError 400 when they contradict each other."""
    asked = parameters.checked(given, PARAMETERS)
    tools: tuple[Tool, ...] = asked.get("tools", ())
    choice, parallel = asked.get("tool_choice", "auto"), asked.get("parallel_tool_calls", True)
    if isinstance(choice, str):
        if choice == "required" and not tools:
            raise invalid("tool_choice", "'tool_choice' is 'required', and there are no 'tools'.")
        return NO_TOOLS if choice == "none" else ToolUse(tools, choice == "required", parallel)
    named = tuple(tool for tool in tools if tool.name == choice["name"])
    if not named:
        raise invalid("tool_choice", f"'tool_choice' names '{choice['name']}', which is not in 'tools'.")
    return ToolUse(named, required=True, parallel=False)
