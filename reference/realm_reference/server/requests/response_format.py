"""`response_format`: an answer as text, as any JSON object, or as JSON of a given schema."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from realm_reference.server.errors import invalid
from realm_reference.server.requests import checks

JsonSchema = Mapping[str, Any]

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_ANY_OBJECT: Final[JsonSchema] = {"type": "object"}
_SCHEMA_FIELDS: Final = {
    "name": {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"},
    "description": {"type": ["string", "null"]},
    "schema": {"type": ["object", "null"]},
    "strict": {"type": ["boolean", "null"]},
}


def _form(kind: str, **fields: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"type": {"const": kind}, **fields},
        "required": ["type", *fields],
        "additionalProperties": False,
    }


@checks.described(
    anyOf=[
        _form("text"),
        _form("json_object"),
        _form(
            "json_schema",
            json_schema={
                "type": "object",
                "properties": _SCHEMA_FIELDS,
                "required": ["name"],
                "additionalProperties": False,
            },
        ),
    ]
)
def parse_response_format(name: str, value: Any) -> JsonSchema | None:
    """The schema that the answer has to keep; None for plain text.

    `strict` makes no difference here: a schema is kept, or refused when the answer is prepared.
    """
    form = checks.mapping(name, value)
    kind = checks.string(f"{name}.type", form.get("type"))
    fields = {"text": {"type"}, "json_object": {"type"}, "json_schema": {"type", "json_schema"}}
    if kind not in fields:
        raise invalid(f"{name}.type", f"'{name}.type' must be text, json_object or json_schema.")
    checks.known_keys(f"{name}.", form, frozenset(fields[kind]))
    if kind == "json_schema":
        return _schema(f"{name}.json_schema", form.get("json_schema"))
    return _ANY_OBJECT if kind == "json_object" else None


def _schema(name: str, value: Any) -> JsonSchema:
    entry = checks.mapping(name, value)
    checks.known_keys(f"{name}.", entry, frozenset(_SCHEMA_FIELDS))
    if not _NAME.fullmatch(checks.string(f"{name}.name", entry.get("name"))):
        raise invalid(f"{name}.name", f"'{name}.name' must be 1 to 64 letters, digits, '-' or '_'.")
    for field, check in (("description", checks.string), ("strict", checks.boolean)):
        if entry.get(field) is not None:
            check(f"{name}.{field}", entry[field])
    if entry.get("schema") is None:
        return _ANY_OBJECT
    return checks.mapping(f"{name}.schema", entry["schema"])
