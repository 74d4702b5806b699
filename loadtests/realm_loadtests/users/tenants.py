"""The tenants of a run: whose key a request carries, and how often each has its turn.

A file of lines `NAME KEY [WEIGHT]`, so that no key is an argument; `#` begins a comment. A tenant of weight 9
beside one of weight 1 is a flood: it has nine users of ten, or nine arrivals of ten.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


class TenantsError(Exception):
    """The file of tenants cannot be used; one line that never holds a key."""


@dataclass(frozen=True, repr=False)
class Tenant:
    """A tenant: its name in the figures, its key, and its part of the load."""

    name: str
    key: str
    weight: float = 1.0


def read_tenants(path: Path) -> list[Tenant]:
    """Read a file of tenants; raises TenantsError."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TenantsError(f"{path} cannot be read: {getattr(error, 'strerror', error)}") from None
    found = [
        _tenant(path, number, parts)
        for number, line in enumerate(lines, 1)
        if (parts := line.partition("#")[0].split())
    ]
    if not found:
        raise TenantsError(f"{path} names no tenant; its lines are NAME KEY [WEIGHT]")
    if len({tenant.name for tenant in found}) < len(found):
        raise TenantsError(f"{path} names a tenant twice")
    return found


def _tenant(path: Path, number: int, parts: Sequence[str]) -> Tenant:
    try:
        name, key, weight = *parts[:2], float(parts[2]) if len(parts) == 3 else 1.0
    except (ValueError, IndexError):
        weight = math.nan
    if not 2 <= len(parts) <= 3 or not 0 < weight < math.inf:
        raise TenantsError(f"{path}, line {number}: a line is NAME KEY [WEIGHT], the weight above 0")
    return Tenant(name, key, weight)


class Turns:
    """Whose turn each user's or arrival's is: in proportion to the tenants' weights, evenly spread, the same
    each run.

    The fractional parts of multiples of the golden ratio fill [0, 1) evenly for any count (Weyl).
    """

    def __init__(self, tenants: Sequence[Tenant]) -> None:
        self._tenants = tenants
        self._borders = list(itertools.accumulate(tenant.weight for tenant in tenants))

    def of(self, number: int) -> Tenant:
        """The tenant of user or arrival `number`."""
        place = (number * ((5**0.5 - 1) / 2)) % 1.0
        index = bisect_right(self._borders, place * self._borders[-1])
        return self._tenants[min(index, len(self._tenants) - 1)]


def jain(values: Sequence[float]) -> float | None:
    """Jain's fairness index of what each tenant got: 1 for equal, 1/n for all to one; None without values.

    Source: https://www.cse.wustl.edu/~jain/papers/ftp/fairness.pdf.
    """
    squares = sum(value * value for value in values)
    return round(sum(values) ** 2 / (len(values) * squares), 6) if squares else None
