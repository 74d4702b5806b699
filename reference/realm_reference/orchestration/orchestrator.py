"""Requests in, generations out: a bounded pool of guest threads and a bounded queue before it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Final

from realm_abi.sandbox import GuestModule, Runtime

from realm_reference.engine import Engine
from realm_reference.model.model import Model
from realm_reference.orchestration.events import End, Failed, FailureKind, Finished, FinishReason
from realm_reference.orchestration.generation import Generation
from realm_reference.orchestration.guestrun import GuestRunner, inexpressible_in_v1
from realm_reference.orchestration.limits import GuestLimits
from realm_reference.orchestration.request import GenerationRequest, Prompt, prepare_prompt

_SHUTDOWN: Final = Failed(FailureKind.SHUTDOWN, "The server is shutting down.")


class QueueFull(Exception):
    """As many requests wait as may; try again later."""


class Inexpressible(Exception):
    """The guest's ABI version has no field for this parameter."""

    def __init__(self, param: str) -> None:
        super().__init__(f"the server runs a guest of ABI v1, which cannot express '{param}'")
        self.param = param


class Orchestrator:
    """Runs each request on its own guest instance, on one of `max_running` threads; `max_waiting` more may
    queue.

    A guest is straight-line code that blocks in its host calls, so it needs a thread while it runs.
    """

    def __init__(
        self,
        model: Model,
        engine: Engine,
        runtime: Runtime,
        module: GuestModule,
        *,
        limits: GuestLimits | None = None,
        max_running: int = 8,
        max_waiting: int = 64,
    ) -> None:
        self.model = model
        self.limits = limits or GuestLimits()
        self._runner = GuestRunner(model, engine, runtime, module, self.limits)
        self._pool = ThreadPoolExecutor(max_running, thread_name_prefix="guest")
        self._max_running = max_running
        self._max_waiting = max_waiting
        self._lock = threading.Lock()
        self._live: set[Generation] = set()
        self._running = 0

    @property
    def abi_version(self) -> int:
        """The ABI that the guest module speaks."""
        return self._runner.module.version

    @property
    def running(self) -> int:
        """Guests that run now."""
        return self._running

    @property
    def sandboxes(self) -> int:
        """Guest instances that exist now."""
        return self._runner.sandboxes.count

    @property
    def waiting(self) -> int:
        """Requests that wait for a thread now."""
        return len(self._live) - self._running

    def prepare(self, text: str) -> Prompt:
        """Count a prompt; takes time in proportion to its length, so call it off the event loop."""
        return prepare_prompt(self.model.tokenizer, text, abi_version=self.abi_version)

    def submit(self, request: GenerationRequest) -> Generation:
        """Start or queue a request. Call it on the event loop that will read the events.

        Raises QueueFull, and Inexpressible for what the guest's ABI cannot carry.
        """
        return self.submit_all([request])[0]

    def submit_all(self, requests: Sequence[GenerationRequest]) -> list[Generation]:
        """Start or queue several requests, all or none; as `submit` does one."""
        for request in requests:
            if self.abi_version == 1 and (param := inexpressible_in_v1(request)):
                raise Inexpressible(param)
        with self._lock:
            if len(self._live) + len(requests) > self._max_running + self._max_waiting:
                raise QueueFull
            generations = [Generation(self.limits.wall_seconds) for _ in requests]
            self._live.update(generations)
        for request, generation in zip(requests, generations, strict=True):
            future = self._pool.submit(self._run, request, generation)
            generation.on_cancel(partial(self._unqueue, future, request, generation))
        return generations

    async def close(self, grace_seconds: float, hurry: asyncio.Event | None = None) -> None:
        """Let what runs finish for `grace_seconds` or until `hurry`, cancel the rest, and wait for all guests
        to be gone.
        """
        deadline = asyncio.get_running_loop().time() + grace_seconds
        while self._live and asyncio.get_running_loop().time() < deadline:
            if hurry is not None and hurry.is_set():
                break
            await asyncio.sleep(0.02)
        for generation in list(self._live):
            generation.cancel(_SHUTDOWN)
        await asyncio.to_thread(self._pool.shutdown)

    def _run(self, request: GenerationRequest, generation: Generation) -> None:
        with self._lock:
            self._running += 1
        end: End = Failed(FailureKind.INTERNAL, "The generation failed.")
        try:
            generation.start()
            end = self._runner.run(request, generation)
        finally:
            with self._lock:
                self._running -= 1
                self._live.discard(generation)
            # Last: whoever has seen the end finds the place free.
            generation.end(end)

    def _unqueue(self, future: Future[None], request: GenerationRequest, generation: Generation) -> None:
        """A cancelled request that still waits leaves the queue at once instead of when its turn comes."""
        if future.cancel():
            with self._lock:
                self._live.discard(generation)
            generation.end(generation.cause or Finished(FinishReason.CANCELLED, request.prompt.tokens, 0))
