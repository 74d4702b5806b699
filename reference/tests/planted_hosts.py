"""The reference as a host of this process, and others with a defect planted in its host functions.

`realm score --hosts reference/tests/planted_hosts.py` scores the host suite on them. A defect is a subclass
of the reference's host functions, which nothing but this file knows.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import logging
import runpy
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from realm_abi.errors import AbiError
from realm_abi.sandbox import Runtime
from realm_abi.steps import Answer, Steps, finish, settled
from realm_harness.hostsuite.score import Hosts
from realm_reference.engine import Engine, Session
from realm_reference.model.array_runner import ArrayRunner
from realm_reference.model.model import Model, load_model
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
# Guests that break are the point here; nobody wants to be told of each.
logging.getLogger("realm_reference").addHandler(logging.NullHandler())

LIMITS = GuestLimits(guest_seconds=3.0)
WALL_SECONDS = 60.0
CONTEXT = 8192
"""Room for the longest request of the suite."""


@functools.cache
def tiny_model() -> Model:
    """The tests' tiny model, once a process."""
    tests = runpy.run_path(str(Path(__file__).with_name("conftest.py")))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tiny.gguf"
        tests["write_tiny_gguf"](path, {"llama.context_length": CONTEXT})
        return load_model(path)


@functools.cache
def runtime() -> Runtime:
    """What compiles and runs guests, once a process."""
    return Runtime()


class Reference:
    """The reference as a host in this process. `v1` and `v2` are its host functions, healthy or not."""

    v1: type[HostFunctionsV1] = HostFunctionsV1
    v2: type[HostFunctionsV2] = HostFunctionsV2

    def __init__(self, wasm: bytes) -> None:
        module, self.loaded = runtime().compile(wasm), tiny_model()
        self.model = self.loaded.name
        self.engine = Engine(
            ArrayRunner(self.loaded.transformer)
        )  # its own: a defect may use up an engine's sessions
        chosen = self.v1 if module.version == 1 else self.v2

        class Runner(GuestRunner):
            def _host(self, request: GenerationRequest, generation: Generation) -> HostFunctions:
                return chosen(self.model, self.engine, request, generation, self.limits)

        self.runner = Runner(self.loaded, self.engine, runtime(), module, LIMITS)

    def complete(self, prompt: str, **params: Any) -> tuple[str, str]:
        prepared = prepare_prompt(self.loaded.tokenizer, prompt, abi_version=self.runner.module.version)
        stop = tuple(params.pop("stop", ()))
        return asyncio.run(self._collect(GenerationRequest(prepared, stop=stop, **params)))

    async def _collect(self, request: GenerationRequest) -> tuple[str, str]:
        generation = Generation(WALL_SECONDS)
        running = asyncio.to_thread(lambda: generation.end(finish(self.runner.run(request, generation))))
        ended = asyncio.create_task(running)
        texts, failure = [], ""
        async for event in generation:
            if isinstance(event, Token):
                texts.append(event.text)
            elif isinstance(event, Failed):
                failure = event.message
        await ended
        return "".join(texts), failure

    def close(self) -> None:
        """Ends the engine."""
        self.engine.close()


@dataclass(frozen=True)
class Defect:
    """A `realm_harness.hostsuite.score.PlantedHost`."""

    id: str
    sentence: str
    source: str
    claim: str
    host: type[Reference]


DEFECTS: dict[str, Defect] = {}

Functions = TypeVar("Functions", bound=HostFunctions)


def planted(
    slug: str, sentence: str, source: str, claim: str
) -> Callable[[type[Functions]], type[Functions]]:
    """Registers host functions as a defect."""

    def register(functions: type[Functions]) -> type[Functions]:
        class Wrong(Reference):
            v1 = functions if issubclass(functions, HostFunctionsV1) else HostFunctionsV1
            v2 = functions if issubclass(functions, HostFunctionsV2) else HostFunctionsV2

        DEFECTS[slug] = Defect(slug, sentence, source, f"HOST-{claim}", Wrong)
        return functions

    return register


@planted("foreign-sessions", "any guest may use any session", "realm-defects 5", "ISOLATE-003")
class ForeignSessions(HostFunctionsV2):
    everybodys: dict[int, Session] = {}  # noqa: RUF012
    numbers = itertools.count(1)

    def _adopt(self, session: Session) -> int:
        handle = next(self.numbers)
        self._sessions[handle] = self.everybodys[handle] = session
        return handle

    def _session(self, handle: int) -> Session:
        return self.everybodys.get(handle) or super()._session(handle)


@planted("freed-works", "a freed session goes on working", "realm-defects 5", "SESSION-*-HANDLE-*")
class FreedWorks(HostFunctionsV2):
    def realm_session_free(self, session: int, /) -> int:
        self._session(session)
        return 0


@planted("no-truncation", "what was cut off still has an effect", "realm-defects 9", "EFFECT-005")
class NoTruncation(HostFunctionsV2):
    def realm_session_truncate(self, session: int, length: int, /) -> int:
        if length > self._session(session).length:
            return super().realm_session_truncate(session, length)
        return 0


@planted("fork-is-an-alias", "a fork and its original share their cache", "realm-defects 7", "EFFECT-006")
class ForkAlias(HostFunctionsV2):
    def realm_session_fork(self, session: int, /) -> int:
        return self._adopt(self._session(session))

    def close(self) -> None:
        unique = {id(session): session for session in self._sessions.values()}
        self._sessions = dict(enumerate(unique.values()))
        super().close()


@planted(
    "attends-to-itself", "a decode sees only the tokens of its own call", "realm-defects 7", "EFFECT-001"
)
class OnlyItself(HostFunctionsV2):
    def realm_forward(self, session: int, ids: U32, logits: F32, rows: int, /) -> Steps[int]:
        target = self._session(session)
        if len(ids) and target.length:
            target.truncate(0)
        return super().realm_forward(session, ids, logits, rows)


@planted("appends-first", "a call that fails has appended a token", "realm-defects 2", "EFFECT-003")
class AppendsFirst(HostFunctionsV2):
    def realm_forward(self, session: int, ids: U32, logits: F32, rows: int, /) -> Steps[int]:
        try:
            return (yield from super().realm_forward(session, ids, logits, rows))
        except AbiError:
            self._session(session).forward(np.array([5], np.uint32), 0)
            raise


@planted(
    "wrapped-ids", "a token outside the vocabulary is taken for another", "realm-defects 3", "FORWARD-IDS-*"
)
class WrappedIds(HostFunctionsV2):
    def realm_forward(self, session: int, ids: U32, logits: F32, rows: int, /) -> Steps[int]:
        return super().realm_forward(session, ids % np.uint32(self._vocab_size), logits, rows)


@planted("rows-are-reversed", "the last token's logits come first", "realm-defects 19", "EFFECT-007")
class ReversedRows(HostFunctionsV2):
    def realm_forward(self, session: int, ids: U32, logits: F32, rows: int, /) -> Steps[int]:
        answer = yield from super().realm_forward(session, ids, logits, rows)
        part = logits[: rows * self._vocab_size]
        part[:] = part.reshape(rows, -1)[::-1].ravel()
        return answer


@planted("any-model", "every number is a model", "realm-defects 5", "MODEL-INFO-HANDLE-*")
class AnyModel(HostFunctionsV2):
    def _own_model(self, handle: int) -> None:
        del handle


@planted("fills-the-capacity", "what the result does not need is zeroed", "a copied buffer", "ENCODE-PTR-*")
class FillsCapacity(HostFunctionsV2):
    def realm_encode(self, model: int, text: str, flags: int, out: U32, /) -> int:
        count = settled(super().realm_encode(model, text, flags, out))
        out[count:] = 0
        return count


@planted("nul-ends-the-text", "a NUL cuts the text", "realm-defects 13", "REQUEST-008")
class CutAtNul(HostFunctionsV2):
    def realm_emit(self, session: int, token: int, text: str, logprob: float, flags: int, /) -> Answer:
        return super().realm_emit(session, token, text.partition("\0")[0], logprob, flags)


@planted("trims-pieces", "spaces at the ends of a token's text are lost", "realm-defects 17", "REQUEST-009")
class Trimmed(HostFunctionsV2):
    def realm_emit(self, session: int, token: int, text: str, logprob: float, flags: int, /) -> Answer:
        return super().realm_emit(session, token, text.strip(), logprob, flags)


@planted("position-off-by-one", "positions are wrong after the first chunk", "realm-defects 9", "EFFECT-001")
class PositionIgnored(HostFunctionsV1):
    def realm_forward_layer(
        self, model_id: int, layer: int, hidden: F32, position: int, out: F32, /
    ) -> Steps[int]:
        shifted = max(position - 1, 0)
        return super().realm_forward_layer(model_id, layer, hidden, shifted, out)


@planted("names-are-paths", "a model's name may have ../ in it", "realm-defects 4", "REQUEST-010")
class PathsAreNames(HostFunctionsV1):
    def realm_host_load_model_by_name(self, name: str, /) -> int:
        return super().realm_host_load_model_by_name(name.rpartition("/")[2])


@planted(
    "anybody-removes", "a guest may remove a model that is not its own", "realm-defects 5", "ISOLATE-006"
)
class AnybodyRemoves(HostFunctionsV1):
    def realm_remove_model(self, model_id: int, /) -> int:
        self._own_model(model_id)
        return 0


@planted("any-file-is-a-model", "bytes that are no GGUF file are stored", "realm-defects 14", "REQUEST-011")
class StoresAnything(HostFunctionsV1):
    def realm_store_model(self, gguf: NDArray[np.uint8], model_id: int, /) -> int:
        return MODEL_HANDLE + 1


HOSTS = Hosts("reference", Reference, DEFECTS, unoffered=frozenset({"HOST-DRAFT-IDS-001"}))
"""It drafts nothing."""
