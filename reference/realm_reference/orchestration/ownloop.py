"""`realm_host_generate`: the whole loop in the host, for v1 guests that bring none.

The host has no loop or sampler of its own: it runs the shipped v1 guest in a second sandbox, so that a guest
that leaves the loop to the host gets the same tokens as one that carries it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from realm_abi.errors import AbiError, ErrorCode
from realm_abi.guests import guest_bytes
from realm_abi.instance import GuestFault
from realm_abi.requests import OptionsV1
from realm_abi.sandbox import Runtime
from realm_abi.steps import Steps

from realm_reference.engine import Engine, StepRecord
from realm_reference.engine.adapters import LoadedAdapter
from realm_reference.model.model import Model
from realm_reference.orchestration.events import Failed, PromptScored, Token
from realm_reference.orchestration.hostcalls import MODEL_HANDLE
from realm_reference.orchestration.limits import GuestLimits
from realm_reference.orchestration.output import Sink
from realm_reference.orchestration.request import GenerationRequest, prepare_prompt
from realm_reference.orchestration.shaped import functions_v1


@dataclass(frozen=True)
class OwnLoop:
    """Runs the shipped guest on a guest's behalf, under its limits and with what the host does to its
    logits, until its request is cancelled.
    """

    model: Model
    engine: Engine
    runtime: Runtime
    limits: GuestLimits
    asker: Sink
    asked: GenerationRequest

    def __call__(
        self, prompt: str, options: Mapping[str, Any], adapter: LoadedAdapter | None
    ) -> Steps[tuple[bytes, int]]:
        """`options` are GenOptions' fields; returns the text and its number of tokens.

        Raises AbiError: `context_full` for a prompt that leaves no room, `invalid_argument` for an empty one,
        `cancelled`, and whatever the loop itself runs into.
        """
        request = replace(self._request(prompt, options), loaded=adapter)
        functions = functions_v1(request)
        host = functions(self.model, self.engine, request, _Quiet(self.asker), self.limits)
        module = self.runtime.compile(guest_bytes("v1"))
        try:
            starting = self.runtime.instantiate_steps(module, host, self.limits.sandbox)
            with closing((yield from starting)) as instance:
                self.asker.on_cancel(instance.cancel)
                given = self._options(request, options)
                text = yield from instance.generate_v1_steps(prompt, MODEL_HANDLE, given)
        except GuestFault as fault:
            code = ErrorCode.cancelled if self.asker.cancelled else ErrorCode.internal
            raise AbiError(code, f"the host's own loop: {fault.message}") from None
        finally:
            host.close()
        if self.asker.cancelled:
            raise AbiError(ErrorCode.cancelled, "the request was cancelled")
        return text, host.completion_tokens()

    def _request(self, prompt: str, options: Mapping[str, Any]) -> GenerationRequest:
        given = self.asked.prompt
        if given.ids is not None and prompt == given.text:
            prepared = given
        else:
            prepared = prepare_prompt(self.model.tokenizer, prompt, abi_version=1)
        if not prepared.tokens:
            raise AbiError(ErrorCode.invalid_argument, "the prompt has no tokens")
        if prepared.tokens > self.model.context_length:
            raise AbiError(ErrorCode.context_full, f"{prepared.tokens} tokens of prompt")
        return replace(self.asked, prompt=prepared, max_tokens=options["max_tokens"])

    def _options(self, request: GenerationRequest, options: Mapping[str, Any]) -> OptionsV1:
        return {
            "max_tokens": request.max_tokens,
            "temperature": options["temperature"],
            "top_p": options["top_p"],
            "top_k": options["top_k"],
            "repetition_penalty": options["repetition_penalty"],
            "seed": options["seed"],
            "stop_tokens": [*self.model.tokenizer.eos_ids, *map(int, options.get("stop_tokens", ()))],
        }


class _Quiet:
    """Takes tokens without handing them on: the asking guest gets the text as a whole."""

    def __init__(self, asker: Sink) -> None:
        self._asker = asker

    @property
    def cancelled(self) -> bool:
        """As the asking guest's request."""
        return self._asker.cancelled

    def stepped(self, record: StepRecord) -> None:
        """As the asking guest's request."""
        self._asker.stepped(record)

    def put(self, token: PromptScored | Token) -> None:
        """Nobody reads along."""

    def cancel(self, cause: Failed | None = None) -> None:
        """The asking guest's request ends with it."""
        self._asker.cancel(cause)

    def on_cancel(self, callback: Callable[[], None]) -> None:
        """As the asking guest's request."""
        self._asker.on_cancel(callback)
