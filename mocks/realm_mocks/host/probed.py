"""MockHost's host functions as a host that completes prompts, so that the host suite can be run on them.

`mock_host` is a factory for `realm conform --host python:realm_mocks.host.probed:mock_host`. What a planted
defect changes is a method of `ProbedMock`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, cast

from realm_abi.errors import AbiError, ErrorCode, FinishReason
from realm_abi.requests import OptionsV1, OptionsV2
from realm_abi.sandbox import GuestFault, GuestModule, Instance, Limits, Runtime, Wrap

from realm_mocks.host.findings import Findings
from realm_mocks.host.functions import NOTHING
from realm_mocks.host.functions_v1 import FunctionsV1
from realm_mocks.host.functions_v2 import FunctionsV2
from realm_mocks.host.mock import shared_runtime
from realm_mocks.host.model import ScriptedModel
from realm_mocks.host.script import Hashed, Script
from realm_mocks.host.sessions import SessionTable

CONTEXT = 4096
Functions = FunctionsV1 | FunctionsV2


def repeat(tokens: tuple[int, ...], most: int) -> Sequence[int]:
    """A drafter: the last token, over and over."""
    return tokens[-1:] * most


class ProbedMock:
    """A host of one module: each request gets an instance of its own; the logits depend on all tokens."""

    limits = Limits(memory_bytes=32 << 20, guest_seconds=1.0)
    script: Script = Hashed()

    def __init__(self, wasm: bytes) -> None:
        self.guest = self.load(wasm)
        self.scripted = ScriptedModel(self.script, context_length=CONTEXT, draft=repeat)
        self.model = self.scripted.name
        self.sessions = SessionTable(CONTEXT)
        self._owners = itertools.count(1)

    # What defects change

    def runtime(self) -> Runtime:
        """The engine that compiles and runs modules."""
        return shared_runtime()

    def load(self, wasm: bytes) -> GuestModule:
        """Checks and compiles the module; ModuleRejected says why not."""
        return self.runtime().compile(wasm)

    def functions(self) -> Functions:
        """The host functions of one request."""
        if self.guest.version == 1:
            return FunctionsV1(self.scripted)
        return FunctionsV2(self.scripted, self.sessions, next(self._owners))

    def wrap(self, functions: Functions) -> Wrap | None:
        """What stands between the sandbox and the guarded functions."""
        del functions
        return None

    def options(self, asked: OptionsV2) -> OptionsV2:
        """What was asked for, as the guest gets it."""
        return {**asked, "stop_tokens": self.scripted.tokenizer.eos_ids}

    def prompt(self, text: str) -> str:
        """The prompt as the guest gets it."""
        return text

    def finish(self, functions: Functions, returned: str | None) -> str:
        """The answer's text."""
        del returned
        return "".join(functions.texts)

    def answer(self, code: ErrorCode) -> tuple[str, str]:
        """What the client is told of a generation that failed."""
        return "", f"the guest ended with {code.name}"

    # The host

    def complete(self, prompt: str, **params: Any) -> tuple[str, str]:
        """One request: its text, and what went wrong or nothing.

        `params` are max_tokens, temperature, top_p, seed and stop; the contract has defaults for them.
        """
        asked = {("stop_strings" if name == "stop" else name): value for name, value in params.items()}
        functions = self.functions()
        options = self.options(cast(OptionsV2, asked))
        try:
            instance = self.runtime().instantiate(
                self.guest, functions, self.limits, wrap=self.wrap(functions)
            )
            functions.begin(NOTHING, Findings())
            try:
                return self.finish(functions, self.run(instance, self.prompt(prompt), options)), ""
            finally:
                instance.close()
        except GuestFault as fault:
            return "", str(fault)
        except AbiError as error:
            return self.answer(error.code)
        finally:
            self.cleared(functions)

    def run(self, instance: Instance, prompt: str, options: OptionsV2) -> str | None:
        """Runs `generate`; the text that a v1 guest returns. AbiError for an error of its."""
        handle = self.scripted.handle
        if self.guest.version == 1:
            named = OptionsV1.__annotations__.keys() & options.keys()
            v1 = cast(OptionsV1, {name: value for name, value in options.items() if name in named})
            return instance.generate_v1(prompt, handle, v1).decode()
        whole: OptionsV2 = {"model": handle, "add_bos": True, **options}
        code = instance.generate_v2(prompt, **whole)
        if code < 0:
            raise AbiError(ErrorCode(code), "generate answered it")
        FinishReason(code)
        return None

    def cleared(self, functions: Functions) -> None:
        """The request is over: what its guest left behind is freed."""
        if isinstance(functions, FunctionsV2):
            self.sessions.drop(functions.owner)

    def close(self) -> None:
        """Nothing is kept open."""


def mock_host(wasm: bytes) -> ProbedMock:
    """The healthy host for the host suite; raises ModuleRejected for a module that is none."""
    return ProbedMock(wasm)
