"""Requests in, generations out: so many guests at a time, before them a bounded line of each tenant."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

from realm_abi.interface import ModuleRejected
from realm_abi.sandbox import GuestModule, Runtime
from realm_abi.steps import Steps

from realm_reference.engine import Engine
from realm_reference.model.model import Model
from realm_reference.orchestration.crews import Crew, Fibers, Threads
from realm_reference.orchestration.events import End, Failed, FailureKind, Finished, FinishReason
from realm_reference.orchestration.generation import Generation
from realm_reference.orchestration.guestrun import GuestRunner, inexpressible_in_v1
from realm_reference.orchestration.limits import GuestLimits
from realm_reference.orchestration.request import GenerationRequest, Prompt, prepare_prompt
from realm_reference.orchestration.seats import Seats

_SHUTDOWN: Final = Failed(FailureKind.SHUTDOWN, "The server is shutting down.")


class Inexpressible(Exception):
    """The guest's ABI version has no field for this parameter."""

    def __init__(self, param: str) -> None:
        super().__init__(f"the server runs a guest of ABI v1, which cannot express '{param}'")
        self.param = param


@dataclass(frozen=True, eq=False)
class _Job:
    runner: GuestRunner
    request: GenerationRequest
    generation: Generation


class Orchestrator:
    """Runs each request on its own guest instance, `max_running` at a time; `max_waiting` more of each tenant
    may queue (`Seats` says in which order, and what a tenant gets that has none running).

    A guest is straight-line code that waits in its host calls. With a runtime of fibers all of them do so on
    one thread, otherwise each on its own.
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
        self._own_guests: Mapping[str, GuestRunner] = {}
        crew = Fibers if runtime.fibers else Threads
        self._crew: Crew = crew(2 * max_running)
        self._seats: Seats[_Job] = Seats(max_running, max_waiting)
        self._lock = threading.Lock()
        self._live: set[Generation] = set()

    @property
    def abi_version(self) -> int:
        """The ABI that the guest module speaks which tenants without their own have."""
        return self._runner.module.version

    def use_guests(self, modules: Mapping[str, Path]) -> None:
        """From now on these tenants' requests run on their own modules; ModuleRejected changes nothing.

        Compiles, so it takes time; thread-safe. What runs keeps the module that it began with.
        """
        runner = self._runner
        own = {}
        for tenant, path in modules.items():
            try:
                own[tenant] = replace(runner, module=runner.runtime.compile(path))
            except ModuleRejected as error:
                raise ModuleRejected(f"the guest {path.name} of {tenant}: {error}") from None
        self._own_guests = own

    def _runner_of(self, tenant: str) -> GuestRunner:
        return self._own_guests.get(tenant, self._runner)

    @property
    def running(self) -> int:
        """Guests that run now."""
        return self._seats.running

    @property
    def sandboxes(self) -> int:
        """Guest instances that exist now."""
        return self._runner.sandboxes.count

    @property
    def waiting(self) -> int:
        """Requests that wait for others to end now."""
        return self._seats.waiting

    def prepare(self, text: str, tenant: str = "") -> Prompt:
        """Count a prompt of a tenant's; takes time in proportion to its length, so call it off the event
        loop.
        """
        version = self._runner_of(tenant).module.version
        return prepare_prompt(self.model.tokenizer, text, abi_version=version)

    def submit(self, request: GenerationRequest) -> Generation:
        """Start or queue a request. Call it on the event loop that will read the events.

        Raises QueueFull, Inexpressible for what the guest's ABI cannot carry, and AbiError (`not_found`,
        `permission_denied`) for an adapter that is not the tenant's to use.
        """
        return self.submit_all([request])[0]

    def submit_all(self, requests: Sequence[GenerationRequest]) -> list[Generation]:
        """Start or queue several requests of one tenant with one adapter, all or none; as `submit` does
        one.
        """
        tenant = requests[0].tenant
        runner = self._runner_of(tenant)
        for request in requests:
            if runner.module.version == 1 and (param := inexpressible_in_v1(request)):
                raise Inexpressible(param)
        with self._lock:
            self._seats.check(tenant, len(requests))
            jobs = [
                _Job(runner, request, Generation(self.limits.wall_seconds))
                for request in self._with_adapter(requests)
            ]
            self._seats.enter(tenant, jobs)
            self._live.update(job.generation for job in jobs)
            self._fill_seats()
        for job in jobs:
            job.generation.on_cancel(partial(self._withdraw, job))
        return [job.generation for job in jobs]

    def _with_adapter(self, requests: Sequence[GenerationRequest]) -> Sequence[GenerationRequest]:
        """The requests with what they run with, which is held for each until its end."""
        if not requests[0].adapter:
            return requests
        adapters = self._runner.engine.adapters
        held = adapters.hold(requests[0].adapter, requests[0].tenant)
        for _ in requests[1:]:
            adapters.share(held)
        return [replace(request, loaded=held) for request in requests]

    def _let_go(self, request: GenerationRequest) -> None:
        if request.loaded is not None:
            self._runner.engine.adapters.release(request.loaded)

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
        await asyncio.to_thread(self._crew.close)

    def _fill_seats(self) -> None:
        while (job := self._seats.next()) is not None:
            self._crew.start(self._run(job))

    def _run(self, job: _Job) -> Steps[None]:
        end: End = Failed(FailureKind.INTERNAL, "The generation failed.")
        try:
            job.generation.start()
            end = yield from job.runner.run(job.request, job.generation)
        finally:
            with self._lock:
                self._seats.leave(job.request.tenant)
                self._live.discard(job.generation)
                self._fill_seats()
            self._let_go(job.request)
            # Last: whoever has seen the end finds the place free.
            job.generation.end(end)

    def _withdraw(self, job: _Job) -> None:
        """A cancelled request that still waits leaves the queue at once instead of when its turn comes."""
        with self._lock:
            if not self._seats.withdraw(job.request.tenant, job):
                return
            self._live.discard(job.generation)
        self._let_go(job.request)
        nothing = Finished(FinishReason.CANCELLED, job.request.prompt.tokens, 0)
        job.generation.end(job.generation.cause or nothing)
