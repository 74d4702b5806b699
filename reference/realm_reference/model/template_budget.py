"""What a template's values cost, and the budget that pays for them."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

_SECONDS = 2.0
_MAX_WORK = 1 << 26
_MAX_VALUE = 1 << 22  # of any one value; a character costs 1
_ELEMENT = 16  # the price of a list's element, a loop's round, any other object


class TemplateLimit(Exception):
    """The template wanted more time or memory than a chat template may have."""


class Budget(threading.local):
    """The work and the time that are left to the rendering in this thread."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Start afresh, for one rendering."""
        self._work = _MAX_WORK
        self._deadline = time.monotonic() + _SECONDS

    def pay(self, work: int = _ELEMENT) -> None:
        """Take `work`, in characters, from the budget, or raise TemplateLimit."""
        self._work -= work
        if self._work < 0:
            raise TemplateLimit(f"it made more than {_MAX_WORK} characters")
        if time.monotonic() > self._deadline:
            raise TemplateLimit(f"it ran for more than {_SECONDS:g} seconds")

    def pay_times(self, price_of_one: int, times: int) -> None:
        """Pay for one value that repeats something, before it is made."""
        if price_of_one * times > _MAX_VALUE:
            raise TemplateLimit(f"one of its values would exceed {_MAX_VALUE} characters")
        self.pay(price_of_one * times)


def price(value: Any) -> int:
    """The characters in `value`, counting what it contains as often as it does.

    Raises TemplateLimit above the limit for one value, without looking at the rest of it.
    """
    total, stack = 0, [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            total += len(item)
        elif isinstance(item, range):
            total += len(item) * _ELEMENT
        elif isinstance(item, Mapping):
            stack += [*item.keys(), *item.values()]
        elif isinstance(item, (list, tuple)):
            stack += item
        elif isinstance(item, int):
            total += item.bit_length()
        total += _ELEMENT
        if total > _MAX_VALUE or len(stack) > _MAX_VALUE // _ELEMENT:
            raise TemplateLimit(f"one of its values exceeds {_MAX_VALUE} characters")
    return total


def price_of_product(operator: str, left: Any, right: Any) -> tuple[int, int]:
    """What `left * right`, `left ** right` or `left % right` costs: so much, so many times.

    Raises TemplateLimit for formatting with %, and for products of things that have none.
    """
    if _is_number(left) and _is_number(right):
        bits = [value.bit_length() if isinstance(value, int) else 64 for value in (left, right)]
        if operator == "**":
            return bits[0], int(min(abs(right), _MAX_VALUE)) + 1
        return sum(bits), 1
    times, repeated = (left, right) if isinstance(left, int) else (right, left)
    if operator != "*" or not isinstance(times, int):
        raise TemplateLimit(f"it computes {type(left).__name__} {operator} {type(right).__name__}")
    return price(repeated), max(0, times)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float))
