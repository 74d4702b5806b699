"""response_format in the scripted model: an example of a JSON schema, chosen by the answer's key."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

Pick = Callable[[int, int], int]
"""(index, choices) to a choice."""

Example = Callable[[Mapping[str, Any], Pick], Any]
"""A value of a schema."""

ANY_OBJECT = {"type": "object", "properties": {"answer": {"type": "string"}, "sure": {"type": "boolean"}}}
"""What the model makes of `json_object`."""

KNOWN = frozenset(
    [
        "type",
        "properties",
        "required",
        "additionalProperties",
        "items",
        "minItems",
        "maxItems",
        "enum",
        "const",
        "anyOf",
        "title",
        "description",
        "minimum",
        "maximum",
        "minLength",
        "maxLength",
        "default",
    ]
)


def complaint(schema: Any) -> str | None:
    """Why the model cannot keep a schema; None when it can."""
    if not isinstance(schema, dict):
        return "has a schema that is no object"
    unknown = schema.keys() - KNOWN
    if unknown:
        return f"has a schema with `{min(unknown)}`, which is not supported"
    if schema.get("type", "object") not in _EXAMPLES:
        return f"has a schema of the unknown type {schema['type']!r}"
    properties = schema.get("properties", {})
    parts = [*properties.values()] if isinstance(properties, dict) else [properties]
    parts += [*schema.get("anyOf", [])] + ([schema["items"]] if "items" in schema else [])
    return next((found for part in parts if (found := complaint(part))), None)


def check_format(value: Any) -> str | None:
    """What is wrong with a `response_format`, or None."""
    kind = value.get("type") if isinstance(value, dict) else None
    if kind not in ("text", "json_object", "json_schema"):
        return "must be an object with the type text, json_object or json_schema"
    if kind != "json_schema":
        return None
    named = value.get("json_schema")
    if not isinstance(named, dict) or not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", str(named.get("name", ""))):
        return "has no json_schema with a name of up to 64 letters, digits, _ and -"
    return complaint(named.get("schema", {}))


def schema_of(value: Any) -> Mapping[str, Any] | None:
    """The schema that a checked `response_format` asks for; None for text."""
    if not isinstance(value, dict) or value.get("type") not in ("json_object", "json_schema"):
        return None
    named = value.get("json_schema")
    schema = named.get("schema") if isinstance(named, dict) else None
    return schema if isinstance(schema, dict) else ANY_OBJECT


def example(schema: Mapping[str, Any], pick: Pick) -> str:
    """JSON that `schema` accepts."""
    return json.dumps(_example(schema, pick), ensure_ascii=False)


def _example(schema: Mapping[str, Any], pick: Pick) -> Any:
    if "const" in schema:
        return schema["const"]
    for choices in (schema.get("enum"), schema.get("anyOf")):
        if choices:
            chosen = choices[pick(len(choices), len(choices))]
            return _example(chosen, pick) if choices is schema.get("anyOf") else chosen
    kind = schema.get("type", "object")
    make: Example = _EXAMPLES.get(kind, _string)
    return make(schema, pick)


def _object(schema: Mapping[str, Any], pick: Pick) -> Any:
    return {name: _example(part, pick) for name, part in schema.get("properties", {}).items()}


def _array(schema: Mapping[str, Any], pick: Pick) -> Any:
    count = max(schema.get("minItems", 0), min(2, schema.get("maxItems", 2)))
    return [_example(schema.get("items", {"type": "string"}), pick) for _ in range(count)]


def _integer(schema: Mapping[str, Any], pick: Pick) -> int:
    low = schema.get("minimum", 0)
    return int(low + pick(7, min(100, schema.get("maximum", low + 99) - low + 1)))


def _string(schema: Mapping[str, Any], pick: Pick) -> str:
    word = ("river", "naïve 🙂", "日本語")[pick(11, 3)]
    return word.ljust(schema.get("minLength", 0), "x")[: schema.get("maxLength", 100)]


_EXAMPLES: dict[str, Example] = {
    "object": _object,
    "array": _array,
    "integer": _integer,
    "number": lambda schema, pick: _integer(schema, pick) + 0.0,
    "string": _string,
    "boolean": lambda schema, pick: bool(pick(13, 2)),
    "null": lambda schema, pick: None,
}
