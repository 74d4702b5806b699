"""The clause register: which rules a chat server is held to, from where, and how hard.

The official schema lists neither errors nor framing, so the rules are written down in `clauses.toml`. A
rule is MUST only where openapi.json or the official client's code depends on it, SHOULD where at least
three servers agree, INFO otherwise.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

LEVELS = ("MUST", "SHOULD", "INFO")


@dataclass(frozen=True)
class Clause:
    """One rule.

    Attributes:
        id: such as "stream.done-once".
        level: MUST, SHOULD or INFO.
        sentence: the rule.
        source: where it comes from.
        peers: known servers that differ, "" when none is known.
    """

    id: str
    level: str
    sentence: str
    source: str
    peers: str = ""


@cache
def register() -> Mapping[str, Clause]:
    """All clauses by id; ValueError when the file contradicts itself."""
    text = files("realm_harness").joinpath("clauses.toml").read_text("utf-8")
    clauses: dict[str, Clause] = {}
    for entry in tomllib.loads(text)["clause"]:
        made = Clause(**entry)
        if made.level not in LEVELS:
            raise ValueError(f"clause {made.id} has level {made.level}; known are {', '.join(LEVELS)}")
        if made.id in clauses:
            raise ValueError(f"clause {made.id} is there twice")
        clauses[made.id] = made
    return clauses


def clause(clause_id: str) -> Clause:
    """The clause of that id; KeyError names an unknown one."""
    return register()[clause_id]
