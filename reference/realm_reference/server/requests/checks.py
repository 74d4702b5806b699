"""Small checkers for JSON values: each takes (name, value), returns the value as Python wants it, or raises
400.

They are combined in tables (see `chat_request`), so that every parameter is checked in type and range by the
same lines and every refusal names its parameter. Each carries the JSON Schema of what it lets through: the
OpenAPI document is made from the tables, and so it cannot say anything else than the server does.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from realm_reference.server.errors import invalid, unsupported

T = TypeVar("T")
Check = Callable[[str, Any], T]
Schema = Mapping[str, Any]

_JSON_NAMES = {
    type(None): "null",
    bool: "a boolean",
    int: "an integer",
    float: "a number",
    str: "a string",
    list: "an array",
    dict: "an object",
}


def described(**schema: Any) -> Callable[[Check[T]], Check[T]]:
    """Say in JSON Schema what a check lets through."""

    def mark(check: Check[T]) -> Check[T]:
        check.schema = schema  # type: ignore[attr-defined]
        return check

    return mark


def schema_of(check: Check[Any]) -> Schema:
    """The JSON Schema that `check` was described with."""
    schema: Schema = check.schema  # type: ignore[attr-defined]
    return schema


def _wrong_type(name: str, wanted: str, value: object) -> Exception:
    # A member that is not there is looked up as None, so null and nothing are told together.
    found = ", and is null or missing" if value is None else f", not {_JSON_NAMES[type(value)]}"
    return invalid(name, f"'{name}' must be {wanted}{found}.", "invalid_type")


@described(type="boolean")
def boolean(name: str, value: Any) -> bool:
    """true or false, nothing that merely looks like it."""
    if not isinstance(value, bool):
        raise _wrong_type(name, "a boolean", value)
    return value


@described(type="string")
def string(name: str, value: Any) -> str:
    """A string of any length; the body's size limit bounds it."""
    if not isinstance(value, str):
        raise _wrong_type(name, "a string", value)
    return value


def integer(low: int, high: int) -> Check[int]:
    """An integer in [low, high]. 5.0 is one (JSON Schema's reading of "integer"), true is not."""

    @described(type="integer", minimum=low, maximum=high)
    def check(name: str, value: Any) -> int:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise _wrong_type(name, "an integer", value)
        if not low <= value <= high:
            raise invalid(name, f"'{name}' must be between {low} and {high}.", "out_of_range")
        return value

    return check


def number(low: float, high: float) -> Check[float]:
    """A finite number in [low, high]."""

    @described(type="number", minimum=low, maximum=high)
    def check(name: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _wrong_type(name, "a number", value)
        # Compared before the conversion: float() of a thousand-digit integer overflows.
        if not low <= value <= high:
            raise invalid(name, f"'{name}' must be between {low:g} and {high:g}.", "out_of_range")
        result = float(value)
        assert math.isfinite(result)
        return result

    return check


@described(type="object")
def mapping(name: str, value: Any) -> Mapping[str, Any]:
    """A JSON object."""
    if not isinstance(value, dict):
        raise _wrong_type(name, "an object", value)
    return value


@described(type="array")
def sequence(name: str, value: Any) -> Sequence[Any]:
    """A JSON array."""
    if not isinstance(value, list):
        raise _wrong_type(name, "an array", value)
    return value


def only(*accepted: Any, because: str) -> Check[None]:
    """A parameter that this server knows and does not do: its neutral values pass, all else is
    `unsupported`.
    """

    @described(enum=list(accepted), description=f"Not supported: {because}")
    def check(name: str, value: Any) -> None:
        # 0 == False in Python, and not in JSON.
        if not any(value == fine and isinstance(value, bool) == isinstance(fine, bool) for fine in accepted):
            raise unsupported(name, f"'{name}' is not supported by this server: {because}")

    return check


def known_keys(prefix: str, value: Mapping[str, Any], known: frozenset[str]) -> None:
    """400 for a key that the contract does not have: a typo must not silently change the answer."""
    for key in value:
        if key not in known:
            name = f"{prefix}{key[:64]}"
            close = difflib.get_close_matches(key[:64], known, 1)
            hint = f" Did you mean '{prefix}{close[0]}'?" if close else ""
            raise invalid(name, f"Unrecognized request argument: '{name}'.{hint}", "unknown_parameter")
