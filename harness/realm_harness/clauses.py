"""The clause register: which rules a chat server is held to, from where, and how hard.

The official schema lists neither errors nor framing, so the rules are written down in `clauses.toml`. A
rule of `clauses.toml` is MUST only where openapi.json or the official client's code depends on it, SHOULD
where at least three servers agree, INFO otherwise. A rule of a suite about the ABI is MUST where the
contract says it, SHOULD where a guest may do otherwise and its users would be sorry.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

LEVELS = ("MUST", "SHOULD", "INFO")
REGISTERS = (
    "clauses.toml",
    "chapters/clauses.toml",
    "websocket/clauses.toml",
    "guestsuite/clauses.toml",
    "hostsuite/clauses.toml",
)
"""The files of the register, one a suite; ids are unique in all of them."""


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
    """All clauses by id; ValueError when the files contradict themselves."""
    texts = [files("realm_harness").joinpath(name).read_text("utf-8") for name in REGISTERS]
    clauses: dict[str, Clause] = {}
    for entry in [entry for text in texts for entry in tomllib.loads(text)["clause"]]:
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
