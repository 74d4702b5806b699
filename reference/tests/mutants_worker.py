"""Runs mutated guests on the reference's host functions, in a process of its own: `MODEL FIRST LAST`.

Prints `run SEED`, then `SEED OUTCOME`. After each mutant the engine holds no session; the healthy guest, run
now and then, says bit for bit what it said before.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path

from mutate import mutant
from realm_abi.errors import AbiError, ErrorCode
from realm_abi.guests import guest_bytes
from realm_abi.sandbox import GuestFault, Limits, ModuleRejected, Runtime
from realm_reference.engine import Engine
from realm_reference.model.array_runner import ArrayRunner
from realm_reference.model.model import Model, load_model
from realm_reference.orchestration.events import Failed, Token
from realm_reference.orchestration.guestrun import v1_options, v2_options
from realm_reference.orchestration.hostcalls import MODEL_HANDLE
from realm_reference.orchestration.hostfunctions_v1 import HostFunctionsV1
from realm_reference.orchestration.hostfunctions_v2 import HostFunctionsV2
from realm_reference.orchestration.limits import GuestLimits
from realm_reference.orchestration.output import Sink
from realm_reference.orchestration.request import GenerationRequest, prepare_prompt

EVERY = 25
LIMITS = Limits(memory_bytes=8 << 20, guest_seconds=0.5, grace_seconds=0.1)


class Reader(Sink):
    """Takes what a guest says; a breach of its limits or its contract cancels it, as any request."""

    cancelled = False

    def __init__(self) -> None:
        self.said: list[Token] = []
        self._callbacks: list[Callable[[], None]] = []

    def put(self, token: Token) -> None:
        self.said.append(token)

    def cancel(self, cause: Failed | None = None) -> None:
        del cause
        self.cancelled = True
        for callback in self._callbacks:
            callback()

    def on_cancel(self, callback: Callable[[], None]) -> None:
        self._callbacks.append(callback)


class Side:
    """One model and engine for all guests."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._engine = Engine(ArrayRunner(model.transformer))
        self._runtime = Runtime()

    def outcome(self, wasm: bytes, reader: Reader) -> str:
        """What becomes of a module."""
        try:
            module = self._runtime.compile(wasm)
        except ModuleRejected:
            return "rejected"
        model = self._model
        prompt = prepare_prompt(model.tokenizer, "<|im_start|>hello world", abi_version=module.version)
        request = GenerationRequest(prompt, max_tokens=8, temperature=0.0)
        functions = HostFunctionsV1 if module.version == 1 else HostFunctionsV2
        host = functions(model, self._engine, request, reader, GuestLimits(host_calls_per_token=8))
        try:
            with contextlib.closing(self._runtime.instantiate(module, host, LIMITS)) as instance:
                reader.on_cancel(instance.cancel)
                if module.version == 1:
                    instance.generate_v1(prompt.text, MODEL_HANDLE, v1_options(request, model))
                    return "finished"
                answer = instance.generate_v2(prompt.text, **v2_options(request, model))
                return f"error {ErrorCode(answer).name}" if answer < 0 else "finished"
        except GuestFault as fault:
            return f"fault {fault.kind}"
        except AbiError as error:
            return f"error {error.code.name}"
        finally:
            host.close()
            if self._engine.open_sessions:
                raise AssertionError(f"{self._engine.open_sessions} sessions are still open")

    def healthy(self) -> list[Token]:
        """What the right guest says beside all this."""
        reader = Reader()
        if self.outcome(guest_bytes("v2"), reader) != "finished":
            raise AssertionError("the healthy guest fails")
        return reader.said

    def close(self) -> None:
        """Ends the engine."""
        self._engine.close()


def main(path: str, first: str, last: str) -> None:
    """Runs the mutants of these seeds."""
    with contextlib.closing(Side(load_model(Path(path)))) as side:
        before = side.healthy()
        for number, seed in enumerate(range(int(first), int(last))):
            print(f"run {seed}", flush=True)
            print(seed, side.outcome(mutant(seed), Reader()), flush=True)
            if number % EVERY == 0 and side.healthy() != before:
                raise AssertionError("the healthy guest says something else")


if __name__ == "__main__":
    main(*sys.argv[1:])
