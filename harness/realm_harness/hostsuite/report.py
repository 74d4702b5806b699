"""What a probe tells of its script, read from the text that the host handed on."""

from __future__ import annotations

import re
from dataclasses import dataclass

from realm_harness.case import Broken
from realm_harness.hostsuite.script import Script, evaluate

REPORT = re.compile(r"\[probe ((?:(?!\[probe ).)*?) probe\]", re.DOTALL)
ENTRY = re.compile(
    r"(?P<number>\d+):(?P<result>-?\d*)(?:~(?P<code>-\d+)@(?P<round>\d+))?"
    r"(?:!(?P<changed>\d+),(?P<first>\d+),(?P<last>\d+))?(?P<digests>(?:#[0-9a-f]{16})*)"
    r"(?:=(?P<data>[0-9a-f]*))?"
)
HEAD = 5


@dataclass(frozen=True)
class Change:
    """Bytes that changed though they must not: how many, the first and the last one's offset."""

    count: int
    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.count} bytes from {self.first} to {self.last}"


@dataclass(frozen=True)
class Entry:
    """What came of one statement.

    Attributes:
        result: what the import answered, or the statement's own result.
        failure: of a repeated call the first error and the round (from 0) that it came in.
        change: what the host wrote outside of the windows.
        digests: of each declared window after a success.
        data: the bytes of a peek.
    """

    result: int
    failure: tuple[int, int] | None = None
    change: Change | None = None
    digests: tuple[str, ...] = ()
    data: bytes = b""


@dataclass(frozen=True)
class Report:
    """What the probe told. `head` has the values of E, A, M, S and Q as the script began."""

    script: Script
    head: tuple[int, ...]
    entries: tuple[Entry, ...]

    def __getitem__(self, number: int) -> Entry:
        return self.entries[number]

    def memory(self, number: int) -> int:
        """The memory's bytes when a statement ran."""
        grown = 0
        for step, entry in zip(self.script.steps[:number], self.entries, strict=False):
            if step.text.startswith("grow ") and entry.result >= 0:
                grown += int(step.text.split()[1]) << 16
        return self.head[0] + grown

    def value(self, expression: str, number: int) -> int:
        """What an expression of a statement was."""

        def named(name: str) -> int:
            if name[0] == "R":
                return self.entries[int(name[1:])].result
            if name == "E":
                return self.memory(number)
            return self.head["EAMSQ".index(name)]

        return evaluate(expression, named)

    def arguments(self, number: int) -> list[int]:
        """The raw arguments of a call."""
        return [self.value(argument, number) for argument in self.script.steps[number].arguments]


def read_report(script: Script, text: str) -> Report:
    """The report in a text. Broken if it is not there whole: then the host lost or changed text."""
    found = REPORT.findall(text)
    if not found:
        raise Broken(f"the probe's report did not come back whole; the text was {text[-300:]!r}")
    *head, rest = found[-1].split(" ", HEAD) if found[-1].count(" ") >= HEAD else ("", "")
    entries = [_entry(match) for piece in rest.split(";") if (match := ENTRY.fullmatch(piece))]
    if len(head) != HEAD or len(entries) != len(script.steps):
        raise Broken(
            f"the probe tells of {len(entries)} statements of {len(script.steps)}: {found[-1][-300:]!r}"
        )
    return Report(script, tuple(int(value) for value in head), tuple(entries))


def _entry(match: re.Match[str]) -> Entry:
    part = match.groupdict()
    changed = (part["changed"], part["first"], part["last"])
    return Entry(
        result=int(part["result"] or 0),
        failure=(int(part["code"]), int(part["round"])) if part["code"] else None,
        change=Change(*(int(value) for value in changed)) if part["changed"] else None,
        digests=tuple(part["digests"].split("#")[1:]),
        data=bytes.fromhex(part["data"] or ""),
    )
