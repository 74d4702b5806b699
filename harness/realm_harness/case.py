"""What a conformance case is: a function with an id and a clause; and the three ways not to be ok."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from realm_harness.clauses import Clause, clause

CHAPTERS = (
    "http", "replies", "errors", "refusals", "auth", "schema", "models", "stream", "same", "utf8", "stop",
    "length", "usage", "sample", "logprobs", "bias", "format", "tools", "tokenize", "completions",
    "several", "exact", "read", "metrics", "counts", "concurrency",
    "batch", "prefix", "draft", "cancel", "tenants", "adapters",
    "wsauth", "wscalls", "wsanswers", "wsframes", "hostile", "crowd",
)  # fmt: skip
"""The chapters in the order in which they run: what may hurt a server comes last."""

ATTRIBUTE = "__realm_case__"


class Broken(Exception):
    """The target broke the case's clause; the message says what was seen, for a reader who knows neither."""


class Unsupported(Exception):
    """The target says clearly that it does not offer what the case needs."""


class Unjudged(Exception):
    """The case could not be judged, or only informs; the message says why or what."""


Check = Callable[[Any], None]
"""Takes what is under test (a `Target`, a guest, ...) and raises one of the above."""


@dataclass(frozen=True)
class Suite:
    """Chapters that are judged together: the modules `test_CHAPTER` of a package, in order."""

    package: str
    chapters: tuple[str, ...]


CHAT = Suite("realm_harness.chapters", CHAPTERS)


@dataclass(frozen=True)
class Case:
    """One conformance case.

    Attributes:
        id: stable for ever, such as CHAT-STREAM-007.
        title: the requirement in one line.
        chapter: the file it stands in, such as "stream".
        clause: the rule it holds the target to; its level is the case's.
        reason: why anybody should care, in one line.
        confirm: the verdict rests on the target being deterministic: a breach must be seen twice.
        check: the function.
        versions: the versions of the ABI in which it can be asked; empty when it is not about the ABI.
        imports: imports of the ABI that it is about; who does without them is not asked.
    """

    id: str
    title: str
    chapter: str
    clause: Clause
    reason: str
    confirm: bool
    check: Check
    versions: tuple[int, ...] = ()
    imports: tuple[str, ...] = ()

    @property
    def level(self) -> str:
        """MUST, SHOULD or INFO."""
        return self.clause.level


def case(
    case_id: str,
    *,
    clause_id: str,
    reason: str,
    confirm: bool = False,
    versions: tuple[int, ...] = (),
    imports: tuple[str, ...] = (),
) -> Callable[[Check], Check]:
    """Mark a function of a chapter as a case. The first line of its docstring is the requirement."""

    def mark(check: Check) -> Check:
        title = (check.__doc__ or "").strip().partition("\n")[0]
        chapter = check.__module__.rpartition(".test_")[2]
        made = Case(case_id, title, chapter, clause(clause_id), reason, confirm, check, versions, imports)
        setattr(check, ATTRIBUTE, made)
        return check

    return mark


def demand(condition: object, seen: str) -> None:
    """Raise Broken(`seen`) unless the condition holds."""
    if not condition:
        raise Broken(seen)


def case_of(function: object) -> Case | None:
    """The case that a function is, or None."""
    found = getattr(function, ATTRIBUTE, None)
    return found if isinstance(found, Case) else None


def load_cases(globs: Iterable[str] = (), suite: Suite = CHAT) -> list[Case]:
    """All cases of a suite in the order in which they run, or those whose id matches one of `globs`."""
    cases: list[Case] = []
    for chapter in suite.chapters:
        module = importlib.import_module(f"{suite.package}.test_{chapter}")
        cases.extend(found for value in vars(module).values() if (found := case_of(value)) is not None)
    wanted = list(globs)
    if not wanted:
        return cases
    return [found for found in cases if any(fnmatchcase(found.id, glob) for glob in wanted)]
