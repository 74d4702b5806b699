"""Ways in which the reference could be wrong about adapters, each planted in one place of it.

`PLANTED` says which case of the conformance chapter finds each out. Every one is a small patch of the engine
or of what is round it; the server under test is otherwise the reference as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from realm_abi.errors import AbiError
from realm_reference.engine.adapters import Adapters, LoadedAdapter
from realm_reference.engine.sequence import Sequence as EngineSequence
from realm_reference.model.array_runner import ArrayRunner
from realm_reference.model.runner import BASE, Chunk, Floats
from realm_reference.orchestration import GenerationRequest, Orchestrator
from realm_reference.orchestration.hostcalls import HostCalls
from realm_reference.server.models import Served, ServedModels

_chunk = EngineSequence.chunk
_step = ArrayRunner.step
_with_adapter = Orchestrator._with_adapter
_find = ServedModels.with_adapter
_open = HostCalls.__init__


def _never_applied(self: EngineSequence, end: int, rows: int) -> Chunk:
    return replace(_chunk(self, end, rows), adapter=BASE)


def _set_after_it_is_read(self: ArrayRunner, chunks: Sequence[Chunk]) -> Floats:
    """A step runs with the adapter of the step before."""
    before = getattr(self, "_adapter_before", chunks[0].adapter)
    self._adapter_before = chunks[-1].adapter  # type: ignore[attr-defined]
    return _step(self, [replace(chunk, adapter=before) for chunk in chunks])


def _stays_set(self: ArrayRunner, chunks: Sequence[Chunk]) -> Floats:
    """Once an adapter was used, whoever wants none gets it."""
    used = [chunk.adapter for chunk in chunks if chunk.adapter != BASE]
    self._adapter_used = used[-1] if used else getattr(self, "_adapter_used", BASE)  # type: ignore[attr-defined]
    return _step(self, [replace(chunk, adapter=chunk.adapter or self._adapter_used) for chunk in chunks])  # type: ignore[attr-defined]


def _base_where_it_is_unknown(self: ServedModels, adapter: str | None, tenant: str) -> Served:
    try:
        self._adapters.find(adapter or "", tenant)
    except AbiError:
        return _find(self, None, tenant)
    return _find(self, adapter, tenant)


def _first_choice_alone(
    self: Orchestrator, requests: Sequence[GenerationRequest]
) -> Sequence[GenerationRequest]:
    held = list(_with_adapter(self, requests))
    return [held[0], *(replace(request, loaded=None) for request in held[1:])]


def _not_for_short_answers(self: HostCalls, *arguments: Any) -> None:
    """A second way through the engine, for texts without a conversation, forgets the adapter."""
    _open(self, *arguments)
    if "<|im_start|>" not in self._request.prompt.text:
        self._models = dict.fromkeys(self._models)


def _whosever_it_is(self: Adapters, name: str, _: str) -> LoadedAdapter:
    return self._named[name]


@dataclass(frozen=True)
class Planted:
    """`wrong` stands in place of `owner`'s `name`; `case` finds it out."""

    owner: type
    name: str
    wrong: Callable[..., Any]
    case: str


PLANTED = {
    "never-applied": Planted(EngineSequence, "chunk", _never_applied, "CHAT-LORA-001"),
    "base-where-unknown": Planted(ServedModels, "with_adapter", _base_where_it_is_unknown, "CHAT-LORA-002"),
    "set-after-read": Planted(ArrayRunner, "step", _set_after_it_is_read, "CHAT-LORA-004"),
    "stays-set": Planted(ArrayRunner, "step", _stays_set, "CHAT-LORA-005"),
    "not-in-texts": Planted(HostCalls, "__init__", _not_for_short_answers, "CHAT-LORA-008"),
    "first-choice-alone": Planted(Orchestrator, "_with_adapter", _first_choice_alone, "CHAT-LORA-009"),
    "whosever-it-is": Planted(Adapters, "_found", _whosever_it_is, "CHAT-LORA-012"),
    "prefixes-shared": Planted(LoadedAdapter, "salt", property(lambda _: ""), "CHAT-LORA-014"),
}
