"""Defects planted in the reference's own host functions: the host suite catches each, and only them.

The reference runs in this process behind the suite's Python adapter; a defect is a subclass of its host
functions, which nothing but this file knows.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray
from realm_abi.errors import AbiError
from realm_abi.sandbox import Runtime
from realm_harness.conform import run_cases
from realm_harness.hostsuite.conform import host_cases, open_host
from realm_harness.hostsuite.local import LocalLauncher
from realm_harness.hostsuite.subject import Settings
from realm_harness.results import CaseResult
from realm_reference.engine import Engine, Session
from realm_reference.model.model import Model
from realm_reference.orchestration import GenerationRequest, GuestLimits
from realm_reference.orchestration.events import Failed, Token
from realm_reference.orchestration.generation import Generation
from realm_reference.orchestration.guestrun import GuestRunner, HostFunctions
from realm_reference.orchestration.hostcalls import MODEL_HANDLE
from realm_reference.orchestration.hostfunctions_v1 import HostFunctionsV1
from realm_reference.orchestration.hostfunctions_v2 import HostFunctionsV2
from realm_reference.orchestration.request import prepare_prompt

U32 = NDArray[np.uint32]
F32 = NDArray[np.float32]
LIMITS = GuestLimits(guest_seconds=1.0)


@dataclass
class Collected:
    """What a generation reports, without an event loop."""

    texts: list[str] = field(default_factory=list)
    cause: Failed | None = None
    cancelled: bool = False

    def put(self, token: Token) -> None:
        self.texts.append(token.text)

    def cancel(self, cause: Failed | None = None) -> None:
        self.cancelled, self.cause = True, self.cause or cause

    def on_cancel(self, callback: Callable[[], None]) -> None:
        del callback


class Reference:
    """The reference as a host in this process. `v1` and `v2` are its host functions, healthy or not."""

    v1: type[HostFunctionsV1] = HostFunctionsV1
    v2: type[HostFunctionsV2] = HostFunctionsV2

    def __init__(self, wasm: bytes, model: Model, engine: Engine, runtime: Runtime) -> None:
        self.model, self.loaded = model.name, model
        module = runtime.compile(wasm)
        chosen = self.v1 if module.version == 1 else self.v2

        class Runner(GuestRunner):
            def _host(self, request: GenerationRequest, generation: Generation) -> HostFunctions:
                return chosen(self.model, self.engine, request, generation, self.limits)

        self.runner = Runner(model, engine, runtime, module, LIMITS)

    def complete(self, prompt: str, **params: Any) -> tuple[str, str]:
        prepared = prepare_prompt(self.loaded.tokenizer, prompt, abi_version=self.runner.module.version)
        stop = tuple(params.pop("stop", ()))
        generation = Collected()
        request = GenerationRequest(prepared, stop=stop, **params)
        end = self.runner.run(request, cast(Generation, generation))
        failed = end.message if isinstance(end, Failed) else ""
        return "".join(generation.texts), failed

    def close(self) -> None:
        """Nothing is kept open."""


class ForeignSessions(HostFunctionsV2):
    everybodys: dict[int, Session] = {}  # noqa: RUF012
    numbers = itertools.count(1)

    def _adopt(self, session: Session) -> int:
        handle = next(self.numbers)
        self._sessions[handle] = self.everybodys[handle] = session
        return handle

    def _session(self, handle: int) -> Session:
        return self.everybodys.get(handle) or super()._session(handle)


class FreedWorks(HostFunctionsV2):
    def realm_session_free(self, session: int, /) -> int:
        self._session(session)
        return 0


class NoTruncation(HostFunctionsV2):
    def realm_session_truncate(self, session: int, length: int, /) -> int:
        if length > self._session(session).length:
            return super().realm_session_truncate(session, length)
        return 0


class ForkAlias(HostFunctionsV2):
    def realm_session_fork(self, session: int, /) -> int:
        return self._adopt(self._session(session))

    def close(self) -> None:
        unique = {id(session): session for session in self._sessions.values()}
        self._sessions = dict(enumerate(unique.values()))
        super().close()


class OnlyItself(HostFunctionsV2):
    def realm_forward(self, session: int, ids: U32, logits: F32, rows: int, /) -> int:
        target = self._session(session)
        if len(ids) and target.length:
            target.truncate(0)
        return super().realm_forward(session, ids, logits, rows)


class AppendsFirst(HostFunctionsV2):
    def realm_forward(self, session: int, ids: U32, logits: F32, rows: int, /) -> int:
        try:
            return super().realm_forward(session, ids, logits, rows)
        except AbiError:
            self._session(session).forward(np.array([5], np.uint32), 0)
            raise


class WrappedIds(HostFunctionsV2):
    def realm_forward(self, session: int, ids: U32, logits: F32, rows: int, /) -> int:
        return super().realm_forward(session, ids % np.uint32(self._vocab_size), logits, rows)


class ReversedRows(HostFunctionsV2):
    def realm_forward(self, session: int, ids: U32, logits: F32, rows: int, /) -> int:
        answer = super().realm_forward(session, ids, logits, rows)
        part = logits[: rows * self._vocab_size]
        part[:] = part.reshape(rows, -1)[::-1].ravel()
        return answer


class AnyModel(HostFunctionsV2):
    def _own_model(self, handle: int) -> None:
        del handle


class FillsCapacity(HostFunctionsV2):
    def realm_encode(self, model: int, text: str, flags: int, out: U32, /) -> int:
        count = super().realm_encode(model, text, flags, out)
        out[count:] = 0
        return count


class CutAtNul(HostFunctionsV2):
    def realm_emit(self, session: int, token: int, text: str, logprob: float, flags: int, /) -> int:
        return super().realm_emit(session, token, text.partition("\0")[0], logprob, flags)


class Trimmed(HostFunctionsV2):
    def realm_emit(self, session: int, token: int, text: str, logprob: float, flags: int, /) -> int:
        return super().realm_emit(session, token, text.strip(), logprob, flags)


class PositionIgnored(HostFunctionsV1):
    def realm_forward_layer(self, model_id: int, layer: int, hidden: F32, position: int, out: F32, /) -> int:
        shifted = max(position - 1, 0)
        return super().realm_forward_layer(model_id, layer, hidden, shifted, out)


class PathsAreNames(HostFunctionsV1):
    def realm_host_load_model_by_name(self, name: str, /) -> int:
        return super().realm_host_load_model_by_name(name.rpartition("/")[2])


class AnybodyRemoves(HostFunctionsV1):
    def realm_remove_model(self, model_id: int, /) -> int:
        self._own_model(model_id)
        return 0


class StoresAnything(HostFunctionsV1):
    def realm_store_model(self, gguf: NDArray[np.uint8], model_id: int, /) -> int:
        return MODEL_HANDLE + 1


PLANTED: list[tuple[type[HostFunctions], str]] = [
    (ForeignSessions, "HOST-ISOLATE-003"),
    (FreedWorks, "HOST-SESSION-*-HANDLE-*"),
    (NoTruncation, "HOST-EFFECT-005"),
    (ForkAlias, "HOST-EFFECT-006"),
    (OnlyItself, "HOST-EFFECT-001"),
    (AppendsFirst, "HOST-EFFECT-003"),
    (WrappedIds, "HOST-FORWARD-IDS-*"),
    (ReversedRows, "HOST-EFFECT-007"),
    (AnyModel, "HOST-MODEL-INFO-HANDLE-*"),
    (FillsCapacity, "HOST-ENCODE-PTR-*"),
    (CutAtNul, "HOST-REQUEST-008"),
    (Trimmed, "HOST-REQUEST-009"),
    (PositionIgnored, "HOST-EFFECT-001"),
    (PathsAreNames, "HOST-REQUEST-010"),
    (AnybodyRemoves, "HOST-ISOLATE-006"),
    (StoresAnything, "HOST-REQUEST-011"),
]


@pytest.fixture(scope="module")
def engine(tiny_model: Model) -> Iterator[Engine]:
    engine = Engine(tiny_model.transformer)
    yield engine
    engine.close()


@pytest.fixture
def judged(tiny_model: Model, engine: Engine) -> Callable[[type[Reference], str], list[CaseResult]]:
    runtime = Runtime()

    def judge(host: type[Reference], glob: str) -> list[CaseResult]:
        launcher = LocalLauncher(host.__name__, lambda wasm: host(wasm, tiny_model, engine, runtime), 30.0)
        with open_host(launcher, Settings(calls=2000)) as subject:
            return run_cases(host_cases([glob]), subject).results

    return judge


Judged = Callable[[type[Reference], str], list[CaseResult]]


@pytest.mark.parametrize(("functions", "claim"), PLANTED, ids=[made.__name__ for made, _ in PLANTED])
def test_a_planted_defect_is_caught(judged: Judged, functions: type[HostFunctions], claim: str) -> None:
    class Wrong(Reference):
        v1 = functions if issubclass(functions, HostFunctionsV1) else HostFunctionsV1
        v2 = functions if issubclass(functions, HostFunctionsV2) else HostFunctionsV2

    assert any(result.verdict == "failed" for result in judged(Wrong, claim)), claim
    healthy = {result.case.id: result.message for result in judged(Reference, claim)}
    assert not any(healthy.values()), healthy
