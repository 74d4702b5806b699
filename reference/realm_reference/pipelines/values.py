"""Checks of single values in a pipeline: each returns the value as Python wants it, or says what is wrong."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

T = TypeVar("T")
Check = Callable[[Any], T]

_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")


class ValueFault(Exception):
    """What a value must be, as the end of a sentence that begins with its name."""


def text(value: Any) -> str:
    """A string that is not empty and has a UTF-8 form."""
    if not isinstance(value, str) or not value:
        raise ValueFault("must be a string that is not empty")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueFault("holds an unpaired surrogate") from None
    return value


def identifier(value: Any) -> str:
    """A name: 1 to 64 letters, digits, `_` and `-`, no digit first."""
    if not isinstance(value, str) or not _IDENTIFIER.fullmatch(value):
        raise ValueFault("must be 1 to 64 letters, digits, '_' or '-', not beginning with a digit or '-'")
    return value


def boolean(value: Any) -> bool:
    """true or false."""
    if not isinstance(value, bool):
        raise ValueFault("must be true or false")
    return value


def _integer(low: int, high: int) -> Check[int]:
    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueFault(f"must be an integer from {low} to {high}")
        return value

    return check


def _number(low: float, high: float) -> Check[float]:
    def check(value: Any) -> float:
        fine = isinstance(value, int | float) and not isinstance(value, bool)
        if not fine or not low <= value <= high:
            raise ValueFault(f"must be a number from {low:g} to {high:g}")
        return float(value)

    return check


def _stop(value: Any) -> tuple[str, ...]:
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list) or not 1 <= len(listed) <= 4:
        raise ValueFault("must be 1 to 4 strings")
    return tuple(text(item) for item in listed)


# The ranges of the chat API's parameters of the same names.
SAMPLING: Final[Mapping[str, Check[Any]]] = {
    "max_tokens": _integer(1, 2**31 - 1),
    "temperature": _number(0, 2),
    "top_p": _number(0, 1),
    "top_k": _integer(0, 2**31 - 1),
    "min_p": _number(0, 1),
    "repetition_penalty": _number(0.01, 10),
    "seed": _integer(-(2**63), 2**63 - 1),
    "stop": _stop,
    "draft_tokens": _integer(0, 16),
}
