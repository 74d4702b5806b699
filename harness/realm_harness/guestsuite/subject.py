"""The guest under test, as the cases see it: give it a script and a request, look at the run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from realm_abi.sandbox import GuestFault, GuestModule, Limits, Runtime
from realm_mocks.host import (
    Fault,
    MockHost,
    MockInstance,
    Run,
    Script,
    Step,
    Tokenizer,
    default_vocabulary,
    load_guest,
    shared_runtime,
)

from realm_harness.case import Broken, Case
from realm_harness.results import Evidence

VOCABULARY = default_vocabulary()
PROMPT = "a prompt"
CONTEXT = 4096
MEMORY = 64 << 20
SECONDS = 2.0
"""What a guest may compute between two host calls: thousands of times what these requests need."""

MOST_CALLS = 50_000
"""Host calls of one request: three times those of the longest one here, layer by layer and token by token."""

SHOWN_CALLS = 400
"""Calls that are kept as evidence: the first half and the last."""

Said = Script | str | Sequence[Step]


@dataclass(frozen=True)
class GuestFacts:
    """What is known of the guest under test."""

    guest: str
    version: int
    sha256: str

    @property
    def name(self) -> str:
        """The module's file."""
        return self.guest

    @property
    def detail(self) -> str:
        """What it speaks."""
        return f"ABI v{self.version}"

    def as_json(self) -> dict[str, Any]:
        """The `target` of a results file."""
        return {"guest": self.guest, "abi_version": self.version, "sha256": self.sha256}


class GuestSubject:
    """A module and its runs; what cases are asked of.

    `runtime` is the one that compiled the module; `seconds` what the guest may compute between two calls,
    `calls` how many it may make in one request.
    """

    def __init__(
        self,
        module: GuestModule,
        path: str,
        *,
        runtime: Runtime | None = None,
        seconds: float = SECONDS,
        calls: int = MOST_CALLS,
    ) -> None:
        self.module = module
        self.path = path
        self.runtime = runtime or shared_runtime()
        self.seconds = seconds
        self.calls = calls
        self._runs: list[Run] = []

    @classmethod
    def open(cls, path: Path) -> GuestSubject:
        """The module in a file. Raises ModuleRejected, which says in one line why it is none."""
        return cls(load_guest(path, shared_runtime()), str(path))

    @property
    def version(self) -> int:
        """The version of the ABI that it speaks."""
        return self.module.version

    def answers(self, case: Case) -> bool:
        """Whether a case is one for this guest."""
        speaks = self.version in case.versions
        return speaks and (not case.imports or not set(case.imports).isdisjoint(self.module.imports))

    @contextmanager
    def instance(
        self,
        script: Said,
        *,
        faults: Iterable[Fault] = (),
        limits: Limits | None = None,
        tokenizer: Tokenizer = VOCABULARY,
        context_length: int = CONTEXT,
        layers: int = 2,
        draft: Any = None,
    ) -> Iterator[Requests]:
        """An instance that takes requests one after the other. Broken if it does not start."""
        host = MockHost(
            self.module,
            script,
            faults=faults,
            limits=limits or Limits(memory_bytes=MEMORY, guest_seconds=self.seconds),
            tokenizer=tokenizer,
            context_length=context_length,
            layers=layers,
            hidden_size=4,
            draft=draft,
            canaries="off",
            runtime=self.runtime,
            max_calls=self.calls,
        )
        try:
            started = host.instance()
        except GuestFault as fault:
            raise Broken(f"the module does not start: {fault}") from None
        with started:
            yield Requests(started, self._runs)

    def run(
        self,
        script: Said,
        prompt: str = PROMPT,
        *,
        faults: Iterable[Fault] = (),
        limits: Limits | None = None,
        tokenizer: Tokenizer = VOCABULARY,
        context_length: int = CONTEXT,
        layers: int = 2,
        draft: Any = None,
        **options: Any,
    ) -> Run:
        """One request to a fresh instance; `options` are those of `MockInstance.generate`, `draft` is what
        the host drafts with.
        """
        with self.instance(
            script,
            faults=faults,
            limits=limits,
            tokenizer=tokenizer,
            context_length=context_length,
            layers=layers,
            draft=draft,
        ) as requests:
            return requests.run(prompt, **options)

    def begin_case(self) -> None:
        """Forget the runs of the case before."""
        self._runs.clear()

    def evidence(self, case: Case) -> Evidence:
        """The calls of the last run, and the command that makes it again."""
        repro = f"realm conform --guest {self.path} --case {case.id}"
        if not self._runs:
            return Evidence("", repro, [])
        last = self._runs[-1]
        return Evidence(str(last.answer), repro, wire_of(last))

    @property
    def facts(self) -> GuestFacts:
        """What is known of the guest."""
        return GuestFacts(self.path, self.version, self.module.digest)


class Requests:
    """Requests to one instance."""

    def __init__(self, instance: MockInstance, runs: list[Run]) -> None:
        self._instance = instance
        self._runs = runs

    def run(self, prompt: str = PROMPT, **options: Any) -> Run:
        """One request."""
        run = self._instance.generate(prompt, **options)
        self._runs.append(run)
        return run


def wire_of(run: Run) -> list[dict[str, object]]:
    """A run's calls as a wire log: the guest asks (>), and the answer is part of the line."""
    half = SHOWN_CALLS // 2
    entries: list[dict[str, object]] = []
    elapsed = 0
    for call in run.trace:
        elapsed += call.guest_ns
        if call.index < half or call.index >= len(run.trace) - half:
            entries.append({"t_ms": round(elapsed / 1e6, 3), "dir": ">", "text": str(call)})
        elapsed += call.host_ns
    return entries
