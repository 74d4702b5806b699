"""How a chapter of this suite marks its cases."""

from __future__ import annotations

from collections.abc import Callable

from realm_harness.case import Check, case

V1, V2, BOTH = (1,), (2,), (1, 2)

LOOP = ("realm_compute_logits", "realm_forward")
"""A guest that imports one of these runs the loop itself; one that does not lets the host generate."""


def guest_case(
    case_id: str,
    clause_id: str,
    reason: str,
    *,
    versions: tuple[int, ...] = BOTH,
    imports: tuple[str, ...] = LOOP,
) -> Callable[[Check], Check]:
    """A case for guests of these versions that import any of `imports` (of all guests, if there are none).

    `clause_id` is without its prefix `guest.`. The first line of the docstring is the requirement.
    """
    return case(case_id, clause_id=f"guest.{clause_id}", reason=reason, versions=versions, imports=imports)
