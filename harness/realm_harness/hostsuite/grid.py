"""The grid: every import times every parameter, tried with everything that goes wrong in practice.

The cases are made from the contract, so that an import that it gains has its cases. All cells of a case are
one request.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from realm_abi.contract import Function, Param, load_contract
from realm_abi.errors import ErrorCode

from realm_harness.case import Broken, Case, Unsupported
from realm_harness.clauses import Clause
from realm_harness.hostsuite import cells as made
from realm_harness.hostsuite.baseline import HIDDEN, IDS, World, is_size_query, outputs, prepare, sane
from realm_harness.hostsuite.cells import Cell
from realm_harness.hostsuite.oracle import Known, refusal
from realm_harness.hostsuite.report import Report
from realm_harness.hostsuite.script import Script
from realm_harness.hostsuite.subject import HostSubject

SHOWN = 3
"""Breaches that a message spells out."""

BLANKET = (ErrorCode.unsupported, ErrorCode.permission_denied)
"""Answers that a host may give to every call of a function, before it looks at anything."""

Cells = Callable[[Function, Param, World], Iterator[Cell]]


@dataclass(frozen=True)
class Kind:
    """One sort of case: how it is called, what it asks, which rule of the contract it holds the host to."""

    slug: str
    rule: str
    title: str
    reason: str
    applies: Callable[[Function, Param], bool]
    cells: Cells


SCALAR = ("realm_forward", "realm_session_truncate", "realm_forward_layer", "realm_compute_logits")

KINDS = (
    Kind(
        "PTR",
        "windows",
        "{param} of {function} may lie at the memory's end and nowhere beyond it",
        "ptr + len computed in 32 bits, or not at all, lets a guest read and write the host's memory",
        lambda function, param: param.is_window or param.kind == "struct",
        made.pointer_cells,
    ),
    Kind(
        "LEN",
        "windows",
        "the length of {param} of {function} is checked before anything is allocated or written",
        "a length that the guest chose, allocated before it is checked, takes 16 GiB with one call",
        lambda function, param: param.is_window and len(param.raw) > 1,
        made.length_cells,
    ),
    Kind(
        "HANDLE",
        "order of checks",
        "{param} of {function} has to be the guest's own",
        "a handle that another guest opened is a way into its context",
        lambda function, param: param.kind == "handle",
        lambda function, param, world: made.handle_cells(param),
    ),
    Kind(
        "FLAGS",
        "order of checks",
        "unknown bits in {param} of {function} are refused",
        "a bit that is ignored today means something tomorrow",
        lambda function, param: param.kind == "flags",
        lambda function, param, world: made.flag_cells(param),
    ),
    Kind(
        "UTF8",
        "order of checks",
        "{param} of {function} has to be UTF-8",
        "text that is none breaks whoever reads it next: JSON, logs, the client",
        lambda function, param: param.kind == "text",
        lambda function, param, world: made.text_cells(param),
    ),
    Kind(
        "IDS",
        "failure changes nothing",
        "{param} of {function} has to be in the vocabulary",
        "an id past the embedding's end reads the host's memory",
        lambda function, param: param.name == "ids",
        lambda function, param, world: made.id_cells(param, world),
    ),
    Kind(
        "RANGE",
        "order of checks",
        "numbers out of range are refused by {function}",
        "rows * vocabulary that wraps, a layer that is not there, a gap in the cache: each crashes hosts",
        lambda function, param: param is function.params[0] and function.name in SCALAR,
        lambda function, param, world: made.scalar_cells(function, world),
    ),
)


def grid_cases() -> list[Case]:
    """All cases of the grid, in the order of the contract."""
    return [case for function in load_contract().imports.values() for case in _cases_of(function)]


def _cases_of(function: Function) -> Iterator[Case]:
    stem = function.name.removeprefix("realm_").replace("_", "-").upper()
    for kind in KINDS:
        applying = [param for param in function.params if kind.applies(function, param)]
        for number, param in enumerate(applying, 1):
            yield Case(
                id=f"HOST-{stem}-{kind.slug}-{number:03}",
                title=kind.title.format(function=function.name, param=f"`{param.name}`"),
                chapter="grid",
                clause=rule_clause(kind.rule),
                reason=kind.reason,
                confirm=False,
                check=_check(function, param, kind.cells),
                versions=(function.version,),
                imports=(function.name,),
            )


def rule_clause(name: str) -> Clause:
    """A rule of the contract as a clause."""
    sentence = next(rule.doc for rule in load_contract().rules if rule.name == name)
    return Clause(f"abi.{name.replace(' ', '-')}", "MUST", sentence, f"contract.toml, rule '{name}'")


def _check(function: Function, param: Param, cells: Cells) -> Callable[[HostSubject], None]:
    def check(subject: HostSubject) -> None:
        world = subject.world(function.version)
        trial = Trial(function, world, list(cells(function, param, world)))
        with subject.host(function.version).watch_memory() as watch:
            report = subject.run(function.version, trial.script)
        trial.judge(report)
        if watch.grown is not None and watch.grown > subject.settings.memory_bytes:
            calls = "; ".join(trial.script.steps[number].text for number, _ in trial.placed)[:600]
            limit = subject.settings.memory_bytes >> 20
            raise Broken(
                f"the host took {watch.grown >> 20} MiB, more than {limit}, for these calls: {calls}"
            )
        subject.still_well(function.version, f"calls of {function.name} with bad arguments")

    return check


class Trial:
    """A script with the sane call and all cells, and the judgement of what came of it."""

    def __init__(self, function: Function, world: World, cells: Sequence[Cell]) -> None:
        self.function, self.world = function, world
        self.script = Script()
        prepare(self.script, world)
        if function.version == 1:
            self.script.call("realm_embed_tokens", "M", IDS, 1, HIDDEN, out=[f"{HIDDEN} *1"])
        self.sessions = dict.fromkeys(("own", "freed"), "S")
        self.own: list[int] = []
        if any(param.of == "session" for param in function.params):
            self._open_sessions()
        self.base = 0
        self.base = self._call(Cell({}))
        self.placed = [(self._call(cell), cell) for cell in cells]

    def _open_sessions(self) -> None:
        self.own = [self.script.call("realm_session_open", "M") for _ in range(2)]
        gone = self.script.call("realm_session_open", "M")
        self.script.call("realm_session_free", f"R{gone}")
        self.sessions = {"own": f"R{self.own[0]}", "freed": f"R{gone}"}

    def _call(self, cell: Cell) -> int:
        name = self.function.name
        for statement in cell.before:
            self.script.do(statement)
        # The sane call may free its session; the others are about a handle or the like, and keep theirs.
        session = self.sessions["own"]
        arguments = sane(name, self.world, session)
        base = getattr(self, "base", 0)
        arguments |= {
            key: value.format(b=base, freed=self.sessions["freed"]) for key, value in cell.changes.items()
        }
        out = [] if is_size_query(name, arguments) else outputs(name, arguments, self.world)
        return self.script.call(name, *(arguments[key] for key in self.function.signature), out=out)

    def judge(self, report: Report) -> None:
        """Broken with what was wrong; Unsupported if the host does not offer the function."""
        results = {report[number].result for number, _ in self.placed}
        if results == {int(ErrorCode.unsupported)} and report[self.base].result == ErrorCode.unsupported:
            raise Unsupported(f"{self.function.name} is answered with unsupported, whatever the arguments")
        wrong = [self._seen(report, self.base, Cell({}))]
        wrong += [self._seen(report, number, cell) for number, cell in self.placed]
        if breaches := [line for line in wrong if line]:
            more = f"; and {len(breaches) - SHOWN} more like these" if len(breaches) > SHOWN else ""
            raise Broken("; ".join(breaches[:SHOWN]) + more)

    def _seen(self, report: Report, number: int, cell: Cell) -> str:
        """What is wrong with one call, or nothing."""
        entry, base = report[number], report[self.base].result
        if cell.needs_result and base < 2:
            return ""
        if entry.change:
            return f"{self._told(report, number)}, and {entry.change} of its memory changed that must not"
        right, why = self._right(report, number, cell)
        if right:
            fine = entry.result in right or (base in BLANKET and entry.result == base)
            names = " or ".join(sorted(f"{ErrorCode(code).name} ({int(code)})" for code in right))
            return "" if fine else f"{self._told(report, number)}; the contract says {names}: {why}"
        if entry.result < 0:
            documented = [code for code in self.function.errors if code != "internal"]
            fine = entry.result in {int(ErrorCode[code]) for code in documented}
            if cell.same and base >= 0:
                fine = False
            return (
                "" if fine else f"{self._told(report, number)}, though nothing is wrong with these arguments"
            )
        if cell.same and base >= 0 and entry.result != base and self.function.result != "handle":
            return f"{self._told(report, number)}, and {base} where the same lies elsewhere"
        return ""

    def _right(self, report: Report, number: int, cell: Cell) -> tuple[frozenset[ErrorCode], str]:
        """The codes that are right, none for a success, and why."""
        own = {report[opened].result for opened in self.own} | {report.head[3]}
        known = Known(self.world.dims, {"model": {report.head[2]}, "session": own - {0}})
        if self.function.name == "realm_session_free" and number != self.base:
            known = replace(
                known, handles={**known.handles, "session": own - {report.arguments(self.base)[0]}}
            )
        found = refusal(self.function, report.arguments(number), report.memory(number), known)
        if found:
            return found.codes, found.why
        if cell.expects:
            conditions = dict(zip(self.function.errors, self.function.conditions, strict=True))
            return cell.expects, " ".join(conditions[code.name] for code in sorted(cell.expects))
        return frozenset(), ""

    def _told(self, report: Report, number: int) -> str:
        values = report.arguments(number)
        raw = ", ".join(
            f"{name}={value}" for name, value in zip(self.function.signature, values, strict=True)
        )
        answer, memory = report[number].result, report.memory(number)
        code = f" ({ErrorCode(answer).name})" if answer in set(ErrorCode) else ""
        return f"{self.function.name}({raw}) with a memory of {memory} bytes answered {answer}{code}"
