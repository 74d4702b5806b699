"""Scripts for the probe guests: what to call with which raw arguments, in the probe's own words.

The language is described at the head of wasm/probes/script.c.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

BEGIN, TEXT, END = "%probe ", "%text ", "%end"
WRAP = 1 << 32


@dataclass(frozen=True)
class Step:
    """One statement; `function` and `arguments` (expressions) where it calls an import."""

    text: str
    function: str = ""
    arguments: tuple[str, ...] = ()


@dataclass
class Script:
    """Statements in order. Each method answers the number of its statement, whose result is `R<number>`.

    Attributes:
        steps: the statements.
        payload: a text that the script may measure with `text`.
    """

    steps: list[Step] = field(default_factory=list)
    payload: str = ""

    def do(self, statement: str) -> int:
        """A statement as it stands."""
        self.steps.append(Step(statement))
        return len(self.steps) - 1

    def call(self, function: str, *arguments: str | int, out: Sequence[str] = (), how: str = "call") -> int:
        """A watched call; each of `out` is `start size` or `start *unit` of what a success may write.

        `how` may be `times N` or `spin N`.
        """
        raw = tuple(str(argument) for argument in arguments)
        windows = "".join(f">{window}" for window in out)
        self.steps.append(Step(f"{how} {function} {' '.join(raw)}{windows}", function, raw))
        return len(self.steps) - 1

    @property
    def prompt(self) -> str:
        """What to ask the host."""
        text = f"{TEXT}{self.payload}" if self.payload else ""
        return f"{BEGIN}{';'.join(step.text for step in self.steps)};{text}{END}"


TERMS = re.compile(r"([+\-*]?)([EAMSQI]|R\d+|\d+)")


def evaluate(expression: str, named: Callable[[str], int]) -> int:
    """What the probe makes of an expression: from the left, modulo 2^32. `named` knows the letters."""
    value = 0
    for sign, term in TERMS.findall(expression):
        number = int(term) if term.isdigit() else named(term)
        value = value - number if sign == "-" else value * number if sign == "*" else value + number
    return value % WRAP
