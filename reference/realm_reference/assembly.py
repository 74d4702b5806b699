"""Puts the parts together: model file and guest module in, a running engine and orchestrator out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from realm_abi.guests import guest_bytes
from realm_abi.interface import ModuleRejected
from realm_abi.sandbox import GuestModule, Runtime, fibers_work

from realm_reference.engine import CACHE_BYTES, Engine
from realm_reference.model.compute import NUMPY, Compute
from realm_reference.model.drafts import load_draft
from realm_reference.model.errors import ModelError
from realm_reference.model.model import Model, load_model
from realm_reference.model.store import cache_folder
from realm_reference.orchestration import GuestLimits, Orchestrator
from realm_reference.server.telemetry.metrics import Metrics

SHIPPED_GUESTS = ("v1", "v2")

GuestsOn = Literal["auto", "fibers", "threads"]
"""All on one thread, or each on its own; auto: on one, where wasmtime has fibers."""


@dataclass(frozen=True)
class Draft:
    """Speculation. `model` is what drafts, as `load_draft` takes it; without one the text itself."""

    model: str | None = None

    @staticmethod
    def of(options: Mapping[str, Any]) -> Draft | None:
        """What the options of a command ask for."""
        return Draft(options["draft_model"]) if options["draft_tokens"] else None


class AssemblyError(Exception):
    """A part cannot be used; one line for the user."""


@contextmanager
def orchestrator(
    model_name: str,
    guest: str,
    *,
    compute: Compute = NUMPY,
    draft: Draft | None = None,
    guests_on: GuestsOn = "auto",
    limits: GuestLimits | None = None,
    max_running: int = 8,
    max_waiting: int = 64,
    cache_bytes: int = CACHE_BYTES,
    metrics: Metrics | None = None,
) -> Iterator[tuple[Engine, Orchestrator]]:
    """Load a model (a known name or a path) and a guest (``v1``, ``v2`` or a path) and start their engine.

    Raises AssemblyError with one line when one of them cannot be used, or not for speculation with `draft`.
    The guest is checked first, because that is quick. The engine is closed at the end.
    """
    runtime = Runtime(compiled=cache_folder() / "compiled-guests", fibers=_on_fibers(guests_on))
    module = _guest(runtime, guest)
    try:
        model = load_model(model_name, compute)
    except ModelError as error:
        raise AssemblyError(str(error)) from None
    runner = model.runner()
    engine = Engine(runner, cache_bytes=cache_bytes, on_step=metrics.observe_step if metrics else None)
    try:
        runner.embed(np.zeros(1, np.int32))  # what has to be compiled is, before anybody waits for it
        if draft is not None:
            _start_draft(engine, model, module, draft)
        yield (
            engine,
            Orchestrator(
                model,
                engine,
                runtime,
                module,
                limits=limits,
                max_running=max_running,
                max_waiting=max_waiting,
            ),
        )
    finally:
        engine.close()
        if engine.draft is not None:
            engine.draft.close()


def _start_draft(engine: Engine, model: Model, module: GuestModule, draft: Draft) -> None:
    if module.version == 1:
        raise AssemblyError("--draft-tokens: the guest speaks ABI v1, which cannot guess; take --wasm v2")
    if not engine.batch_invariant:
        raise AssemblyError(
            "--draft-tokens: on NumPy the last bits of logits depend on how many are computed at once, so"
            " guesses would change answers; it needs the compiled path (--compute jit)"
        )
    if draft.model is not None:
        try:
            engine.draft = Engine(load_draft(draft.model, model).runner())
        except ModelError as error:
            raise AssemblyError(f"--draft-model: {error}") from None


def _on_fibers(guests_on: GuestsOn) -> bool:
    if guests_on == "fibers" and not fibers_work():
        raise AssemblyError("--guests-on fibers: wasmtime has none for this host, see the log; take auto")
    return guests_on != "threads" and fibers_work()


def _guest(runtime: Runtime, guest: str) -> GuestModule:
    try:
        if guest == "v1" or guest == "v2":
            return runtime.compile(guest_bytes(guest))
        return runtime.compile(Path(guest))
    except ModuleRejected as error:
        said = str(error).removeprefix(f"{guest} ")  # an unreadable file is named already
        raise AssemblyError(f"guest module {guest}: {said} (--wasm takes v1, v2 or a .wasm file)") from None
