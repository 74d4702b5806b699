"""MockHost: runs any guest module of the contract, without a model."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, Unpack, cast

import wasmtime
from realm_abi.contract import load_contract
from realm_abi.errors import AbiError, ErrorCode, FinishReason
from realm_abi.requests import OptionsV1, OptionsV2, defaults_v1
from realm_abi.sandbox import GuestFault, GuestModule, Limits, ModuleRejected, Runtime

from realm_mocks.host.canaries import Mode
from realm_mocks.host.faults import Fault, FaultPlan
from realm_mocks.host.findings import Findings
from realm_mocks.host.functions import HostFunctions
from realm_mocks.host.functions_v1 import FunctionsV1
from realm_mocks.host.functions_v2 import FunctionsV2
from realm_mocks.host.inject import MAX_CALLS, Interceptor
from realm_mocks.host.model import Drafter, ScriptedModel
from realm_mocks.host.outcome import Answer, Run
from realm_mocks.host.record import Call, Trace
from realm_mocks.host.rules import Expected, Finding
from realm_mocks.host.script import Script, Step, winners
from realm_mocks.host.sessions import SessionTable
from realm_mocks.host.vocabulary import Tokenizer, default_vocabulary

GREEDY = 1e-7
"""Below this temperature the most likely token is taken."""

Guest = bytes | str | Path | GuestModule
"""A wasm binary, the path of one, WAT text, or a module that is compiled already."""


@functools.cache
def shared_runtime() -> Runtime:
    """One engine for all mocks of a process, so that a module is compiled once."""
    return Runtime()


def load_guest(guest: Guest, runtime: Runtime) -> GuestModule:
    """A guest compiled; a `str` is WAT if it begins with a parenthesis or a comment, else a path."""
    if isinstance(guest, GuestModule):
        return guest
    if isinstance(guest, str) and not guest.lstrip().startswith(("(", ";;")):
        guest = Path(guest)
    if isinstance(guest, str):
        try:
            guest = bytes(wasmtime.wat2wasm(guest))
        except wasmtime.WasmtimeError as error:
            raise ModuleRejected(f"the WAT text does not parse: {error}; correct it") from None
    return runtime.compile(guest)


class MockHost:
    """A host whose model is a script: what a guest does with it is recorded, checked, and can be meddled
    with.

    >>> host = MockHost(guest_bytes("v2"), "hello world")        # doctest: +SKIP
    >>> host.generate("a prompt", max_tokens=8).check().text     # doctest: +SKIP
    'hello world'

    `script` is a `Script`, or what `winners` makes one of. `generate` starts a fresh instance each time,
    `instance` gives one that stays. After `max_calls` host calls of one request each further one answers
    limit_exceeded. `text`, `tokens`, `trace`, `calls` and `findings` are those of the last run.
    """

    def __init__(
        self,
        guest: Guest,
        script: Script | str | Sequence[Step] = "",
        *,
        tokenizer: Tokenizer | None = None,
        layers: int = 2,
        hidden_size: int = 16,
        context_length: int = 4096,
        draft: Drafter | None = None,
        faults: Iterable[Fault] = (),
        limits: Limits | None = None,
        canaries: Mode = "edges",
        max_calls: int = MAX_CALLS,
        runtime: Runtime | None = None,
    ) -> None:
        tokenizer = tokenizer or default_vocabulary()
        if isinstance(script, str | Sequence):
            script = winners(script, tokenizer)
        self.model = ScriptedModel(script, tokenizer, layers, hidden_size, context_length, draft=draft)
        self.runtime = runtime or shared_runtime()
        self.module = load_guest(guest, self.runtime)
        self.faults = FaultPlan(tuple(faults))
        self.limits = limits or Limits(memory_bytes=64 << 20)
        self.canaries: Mode = canaries
        self.max_calls = max_calls
        self.sessions = SessionTable(context_length)
        self.runs: list[Run] = []
        self._owners = itertools.count(1)

    def instance(self) -> MockInstance:
        """A new instance of the guest; several may be there at once. Raises GuestFault if it cannot start."""
        return MockInstance(self, next(self._owners))

    def generate(self, prompt: str, **options: Unpack[OptionsV2]) -> Run:
        """Runs a fresh instance once. For `options` see `MockInstance.generate`."""
        with self.instance() as instance:
            return instance.generate(prompt, **options)

    @property
    def last(self) -> Run:
        """The last run."""
        return self.runs[-1]

    @property
    def text(self) -> str:
        """What the last run emitted."""
        return self.last.text

    @property
    def tokens(self) -> tuple[int, ...]:
        """The tokens of the last run."""
        return self.last.tokens

    @property
    def trace(self) -> Trace:
        """All host calls of the last run."""
        return self.last.trace

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The rules that the last run broke."""
        return self.last.findings

    def calls(self, function: str) -> list[Call]:
        """The last run's calls of one function."""
        return self.last.calls(function)


class MockInstance:
    """One guest instance on a MockHost; made by `MockHost.instance`, a context manager."""

    def __init__(self, mock: MockHost, owner: int) -> None:
        self.mock = mock
        functions: FunctionsV1 | FunctionsV2
        if mock.module.version == 1:
            functions = FunctionsV1(mock.model)
        else:
            functions = FunctionsV2(mock.model, mock.sessions, owner)
        self._functions: HostFunctions = functions
        self._interceptor = Interceptor(functions, mock.faults, mock.canaries, self._grow, mock.max_calls)
        self._instance = mock.runtime.instantiate(
            mock.module, functions, mock.limits, wrap=self._interceptor.wrap
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._instance.close()

    def cancel(self) -> None:
        """Ends the generation that is running; may be called from any thread."""
        self._instance.cancel()

    def generate(self, prompt: str, *, no_options: bool = False, **options: Unpack[OptionsV2]) -> Run:
        """Runs `generate` once; with `no_options` a v1 guest is given an options_ptr of 0.

        Unlike the contract's defaults those of a mock are repeatable: temperature 0, no repetition penalty,
        at most 64 tokens, BOS first, the tokenizer's EOS tokens as stop tokens. Raises ValueError for an
        option that the guest's version does not have.
        """
        if no_options and (options or self.mock.module.version != 1):
            raise ValueError("no_options is for v1 guests, and alone")
        chosen = cast(OptionsV2, defaults_v1()) if no_options else self._chosen(options)
        log = self._interceptor.begin(Findings())
        self._functions.begin(self._expected(prompt, chosen), log.findings)
        answer = self._answer(prompt, None if no_options else chosen)
        self._functions.finished(answer)
        met = tuple(log.met)
        run = Run(
            answer=answer,
            texts=tuple(self._functions.texts),
            tokens=tuple(self._functions.tokens),
            trace=log.trace,
            findings=tuple(log.findings.seen),
            faults_met=met,
            faults_unmet=tuple(fault for fault in self.mock.faults if fault not in met),
            stains=tuple(log.stains),
            memory_bytes=len(self._instance.memory.data()),
        )
        self.mock.runs.append(run)
        return run

    def _chosen(self, options: OptionsV2) -> OptionsV2:
        eos = () if options.get("ignore_eos") else self.mock.model.tokenizer.eos_ids
        chosen: OptionsV2 = {
            "temperature": 0.0,
            "repetition_penalty": 1.0,
            "max_tokens": 64,
            "stop_tokens": eos,
        }
        if self.mock.module.version == 2:
            chosen |= {"model": self.mock.model.handle, "add_bos": True}
        return chosen | options

    def _expected(self, prompt: str, options: OptionsV2) -> Expected:
        tokenizer = self.mock.model.tokenizer
        add_bos = options.get("add_bos", True)
        ids = tokenizer.encode(prompt, add_bos=add_bos, parse_special=not options.get("plain_text"))
        return Expected(
            prompt=tuple(ids),
            max_tokens=options["max_tokens"],
            greedy=options["temperature"] < GREEDY and options["repetition_penalty"] == 1.0,
            context_length=self.mock.model.context_length,
            stop_strings=tuple(options.get("stop_strings", ())),
            stop_tokens=tuple(options["stop_tokens"]),
        )

    def _answer(self, prompt: str, options: OptionsV2 | None) -> Answer:
        try:
            if self.mock.module.version == 2 and options is not None:
                result = self._instance.generate_v2(prompt, **options)
                return Answer(reason=FinishReason(result)) if result >= 0 else Answer(error=ErrorCode(result))
            unknown = (options or {}).keys() - OptionsV1.__annotations__.keys()
            if unknown:
                raise ValueError(f"a v1 guest has no option {', '.join(sorted(unknown))}")
            handle = self.mock.model.handle
            text = self._instance.generate_v1(prompt, handle, cast(OptionsV1 | None, options))
            return Answer(returned=text.decode())
        except AbiError as error:
            return Answer(error=error.code)
        except GuestFault as fault:
            return Answer(fault=fault)

    def _grow(self, pages: int) -> None:
        page_bytes = load_contract().page_bytes
        memory = self._instance.memory
        memory.grow_to(len(memory.data()) + pages * page_bytes, page_bytes)
