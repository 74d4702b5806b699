"""One request on one guest instance: options in, events out, and a verdict on how it ended."""

from __future__ import annotations

import logging
import threading
from contextlib import closing
from dataclasses import dataclass, field
from typing import Final

from realm_abi.errors import AbiError, ErrorCode
from realm_abi.errors import FinishReason as GuestReason
from realm_abi.instance import GuestFault, Instance
from realm_abi.requests import OptionsV1, OptionsV2
from realm_abi.sandbox import GuestModule, Runtime
from realm_abi.steps import Steps

from realm_reference.engine import Engine
from realm_reference.model.model import Model
from realm_reference.orchestration.events import End, Failed, FailureKind, Finished, FinishReason, Token
from realm_reference.orchestration.generation import Generation
from realm_reference.orchestration.hostcalls import MODEL_HANDLE
from realm_reference.orchestration.hostfunctions_v1 import HostFunctionsV1
from realm_reference.orchestration.hostfunctions_v2 import HostFunctionsV2
from realm_reference.orchestration.limits import GuestLimits
from realm_reference.orchestration.ownloop import OwnLoop
from realm_reference.orchestration.request import GenerationRequest
from realm_reference.orchestration.shaped import ShapedFunctionsV2, functions_v1

log = logging.getLogger(__name__)

HostFunctions = HostFunctionsV1 | HostFunctionsV2

_FAULTS: Final = {
    "trap": "it trapped",
    "deadline": "it computed too long without calling the host",
    "memory": "it ran out of its memory",
    "lied": "it broke the ABI",
}
_CODES: Final = {
    ErrorCode.context_full: FailureKind.CONTEXT_FULL,
    ErrorCode.out_of_memory: FailureKind.OUT_OF_MEMORY,
    ErrorCode.limit_exceeded: FailureKind.LIMIT,
}


class Tally:
    """How many are inside now; entered and left from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.count = 0

    def __enter__(self) -> None:
        with self._lock:
            self.count += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self.count -= 1


@dataclass(frozen=True)
class GuestRunner:
    """Everything that all requests share."""

    model: Model
    engine: Engine
    runtime: Runtime
    module: GuestModule
    limits: GuestLimits
    sandboxes: Tally = field(default_factory=Tally)

    def run(self, request: GenerationRequest, generation: Generation) -> Steps[End]:
        """Run the guest to its end and say how it ended, whatever happens."""
        host = self._host(request, generation)
        try:
            end = yield from self._run(host, request, generation)
        except Exception:
            log.exception("a generation failed in the host")
            end = Failed(FailureKind.INTERNAL, "The generation failed.")
        finally:
            host.close()
        if generation.cancelled:
            # Why it was stopped counts, not what the guest made of it.
            return generation.cause or Finished(
                FinishReason.CANCELLED, request.prompt.tokens, host.completion_tokens()
            )
        return end

    def _host(self, request: GenerationRequest, generation: Generation) -> HostFunctions:
        if self.module.version == 2:
            kind = ShapedFunctionsV2 if request.shaped else HostFunctionsV2
            return kind(self.model, self.engine, request, generation, self.limits)
        host = functions_v1(request)(self.model, self.engine, request, generation, self.limits)
        host.host_loop = OwnLoop(self.model, self.engine, self.runtime, self.limits, generation, request)
        return host

    def _run(self, host: HostFunctions, request: GenerationRequest, generation: Generation) -> Steps[End]:
        try:
            yield from host.score_prompt()
            if request.max_tokens == 0:
                return Finished(FinishReason.LENGTH, request.prompt.tokens, 0)
            starting = self.runtime.instantiate_steps(self.module, host, self.limits.sandbox)
            with self.sandboxes, closing((yield from starting)) as instance:
                generation.on_cancel(instance.cancel)
                if isinstance(host, HostFunctionsV1):
                    return (yield from self._run_v1(instance, host, request, generation))
                return (yield from self._run_v2(instance, host, request))
        except GuestFault as fault:
            if not generation.cancelled:
                log.warning("guest fault", extra={"fault": fault.kind, "detail": fault.message})
            return Failed(FailureKind.GUEST_FAULT, f"The guest module failed: {_FAULTS[fault.kind]}.")
        except AbiError as error:
            return _failure(error.code)

    def _run_v2(self, instance: Instance, host: HostFunctionsV2, request: GenerationRequest) -> Steps[End]:
        options = v2_options(request, self.model)
        code = yield from instance.generate_v2_steps(request.prompt.text, **options)
        tokens = host.completion_tokens()
        if code < 0:
            return _failure(ErrorCode(code))
        if code in (GuestReason.stop_token, GuestReason.stop_string):
            return Finished(FinishReason.STOP, request.prompt.tokens, tokens)
        full = request.prompt.tokens + tokens >= self.model.context_length
        if code == GuestReason.max_tokens and (tokens == request.max_tokens or full):
            return Finished(FinishReason.LENGTH, request.prompt.tokens, tokens)
        return Failed(FailureKind.GUEST_FAULT, "The guest module reported an end that did not happen.")

    def _run_v1(
        self, instance: Instance, host: HostFunctionsV1, request: GenerationRequest, generation: Generation
    ) -> Steps[End]:
        options = v1_options(request, self.model)
        text = yield from instance.generate_v1_steps(request.prompt.text, MODEL_HANDLE, options)
        if text and not host.streamed:
            generation.put(Token(text.decode("utf-8", "replace"), None, None, counted=False))
        tokens = host.completion_tokens()
        full = request.prompt.tokens + tokens >= self.model.context_length
        reason = FinishReason.LENGTH if tokens == request.max_tokens or full else FinishReason.STOP
        return Finished(reason, request.prompt.tokens, tokens)


def _failure(code: ErrorCode) -> Failed:
    kind = _CODES.get(code, FailureKind.GUEST_FAULT)
    return Failed(kind, f"The guest module ended with '{code.name}'.")


def v2_options(request: GenerationRequest, model: Model) -> OptionsV2:
    """The fields of GenRequest."""
    return {
        "model": MODEL_HANDLE,
        "add_bos": request.prompt.add_bos,
        "want_logprobs": request.want_logprobs,
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "top_k": request.top_k,
        "min_p": request.min_p,
        "repetition_penalty": request.repetition_penalty,
        "seed": request.seed % 2**64,
        "stop_tokens": list(model.tokenizer.eos_ids),
        "stop_strings": list(request.stop),
        "draft_tokens": request.draft_tokens,
    }


def v1_options(request: GenerationRequest, model: Model) -> OptionsV1:
    """The fields of GenOptions."""
    return {
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "top_k": request.top_k,
        "repetition_penalty": request.repetition_penalty,
        "seed": request.seed,
        "stop_tokens": list(model.tokenizer.eos_ids),
    }


def inexpressible_in_v1(request: GenerationRequest) -> str | None:
    """The first parameter that ABI v1's GenOptions has no room for, if any."""
    if request.stop:
        return "stop"
    if request.min_p:
        return "min_p"
    if request.want_logprobs or request.logprobs is not None:
        return "logprobs"
    if not 0 <= request.seed < 2**32:
        return "seed"
    return None
