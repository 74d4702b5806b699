"""What the handlers share: the model, its orchestrator, keys, metrics, settings."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from realm_abi.errors import AbiError

from realm_reference.engine import Engine
from realm_reference.model.model import Model
from realm_reference.orchestration import (
    Generation,
    GenerationRequest,
    Inexpressible,
    Orchestrator,
    QueueFull,
)
from realm_reference.pipelines import Pipeline
from realm_reference.server.access import limits
from realm_reference.server.access.auth import Authenticator
from realm_reference.server.access.threads import TenantThreads
from realm_reference.server.errors import ApiError, overloaded, unprocessable, unsupported
from realm_reference.server.models import ServedModels
from realm_reference.server.preparing import Preparer
from realm_reference.server.requests.chat_request import ChatRequest
from realm_reference.server.requests.completion_request import CompletionRequest
from realm_reference.server.settings import ServerSettings
from realm_reference.server.telemetry.metrics import Metrics
from realm_reference.tenants import Caller, Job, Lease
from realm_reference.tenants.admission import Admission
from realm_reference.tenants.gate import Refused

log = logging.getLogger(__name__)


@dataclass
class Service:
    """One loaded model being served."""

    settings: ServerSettings
    model: Model
    engine: Engine
    orchestrator: Orchestrator
    auth: Authenticator
    metrics: Metrics
    admission: Admission = field(default_factory=Admission)
    threads: TenantThreads = field(default_factory=TenantThreads)
    pipelines: Mapping[str, Pipeline] = field(default_factory=dict)
    on_reload: Callable[[], None] | None = None
    leaving: bool = False
    draining: bool = False
    created: int = field(default_factory=lambda: int(time.time()))

    def __post_init__(self) -> None:
        self.models = ServedModels(
            self.model, self.engine.adapters, lambda tenant: self.admission.policy(tenant).adapter
        )
        self.preparer = Preparer(
            self.orchestrator, self.settings.default_max_tokens, self.settings.draft_tokens
        )
        watch = self.metrics.watch
        watch("realm_requests_running", "Guests running.", lambda: self.orchestrator.running)
        watch("realm_requests_waiting", "Requests waiting for a guest.", lambda: self.orchestrator.waiting)
        watch("realm_sandboxes", "Guest instances that exist.", lambda: self.orchestrator.sandboxes)
        watch("realm_kv_cache_tokens", "Tokens in KV caches.", lambda: self.engine.cache_use().tokens)
        watch("realm_kv_cache_bytes", "Bytes of KV caches.", lambda: self.engine.cache_use().bytes)
        watch("realm_kv_cache_usage_ratio", "Pages held of all.", lambda: self.engine.cache_use().share)
        watch("realm_engine_sessions", "Sessions with a KV cache.", lambda: self.engine.open_sessions)
        watch("realm_adapters", "LoRA adapters in memory.", lambda: self.engine.adapters.count)
        watch("realm_engine_waiting", "Calls waiting for a step.", lambda: self.engine.waiting)
        self.metrics.watch_total(
            "realm_prefix_cache_hit_tokens",
            "Positions that were not computed, because their keys and values were there.",
            lambda: self.engine.counters.prefix_hit_tokens,
        )
        self.metrics.watch_total(
            "realm_preemptions",
            "Times that a sequence lost its pages, to be computed again.",
            lambda: self.engine.counters.preemptions,
        )
        self.metrics.watch_total(
            "realm_draft_tokens", "Tokens guessed ahead.", lambda: self.engine.counters.draft_tokens
        )
        self.metrics.watch_total(
            "realm_draft_accepted",
            "Guesses ahead that were sampled then.",
            lambda: self.engine.counters.draft_accepted,
        )

    def not_ready(self) -> str | None:
        """Why no request can be served now; None when one can."""
        if self.leaving or self.draining:
            return "draining"
        if self.admission.failing:
            return "the ledger cannot be written"
        return None if self.engine.alive else "the engine has stopped"

    async def reload(self) -> None:
        """Read keys and limits again. What cannot be read changes nothing and is logged."""
        try:
            if self.on_reload is not None:
                await asyncio.to_thread(self.on_reload)
        except Exception as error:
            log.error("not reloaded", extra={"reason": str(error)})
        else:
            log.info("reloaded")

    def check_admission(self, caller: Caller | None = None) -> None:
        """ApiError 503 while the server drains, 429 when nothing of the caller's could come in now.

        Asked before a request is read, so that refusing a flood costs little.
        """
        if self.draining:
            raise overloaded("The server is shutting down.", self.settings.retry_after)
        try:
            if caller is not None:
                self.admission.check(caller)
        except Refused as refused:
            raise limits.too_many(refused) from None

    def admit(
        self,
        caller: Caller,
        *,
        id: str,
        request_id: str,
        endpoint: str,
        model: str,
        prompt_tokens: int,
        max_tokens: int,
    ) -> Lease:
        """Let a request in within its tenant's limits, or ApiError 429. `max_tokens` is over all choices.

        Whoever asks has to settle the lease, whatever happens next; `id` is that of the answer.
        """
        job = Job(id, request_id, endpoint, model, prompt_tokens, max_tokens)
        try:
            return self.admission.admit(caller, job)
        except Refused as refused:
            raise limits.too_many(refused) from None

    async def prepare(self, chat: ChatRequest, caller: Caller) -> GenerationRequest:
        """Render and count the prompt (off the event loop) and check it against the caller's context."""
        context = self.context_of(caller)
        try:
            return await self.threads.run_within(
                self.settings.prepare_seconds,
                caller.tenant,
                self.preparer.chat,
                chat,
                caller.tenant,
                context,
            )
        except TimeoutError:
            raise _too_complex(chat) from None

    async def prepare_completion(self, asked: CompletionRequest, caller: Caller) -> list[GenerationRequest]:
        """As `prepare`, a generation for each prompt."""
        context = self.context_of(caller)
        return await self.threads.run(caller.tenant, self.preparer.completion, asked, caller.tenant, context)

    def submit(self, requests: Sequence[GenerationRequest], lease: Lease) -> list[Generation]:
        """Start or queue all of `requests` or none; the lease is void if none.

        Whoever asks has to read or cancel the generations.
        """
        try:
            return self._submitted(requests)
        except BaseException:
            lease.void()
            raise

    def _submitted(self, requests: Sequence[GenerationRequest]) -> list[Generation]:
        try:
            return self.orchestrator.submit_all(requests)
        except Inexpressible as error:
            raise unsupported(error.param, f"'{error.param}' is not supported: {error}.") from None
        except AbiError as error:  # an adapter that was unloaded since it was asked for
            raise self.models.refusal(error, requests[0].adapter, requests[0].tenant) from None
        except QueueFull:
            raise overloaded("Too many requests are waiting; try again.", self.settings.retry_after) from None

    def context_of(self, caller: Caller) -> int:
        """Tokens of prompt and completion together that the caller may have in one sequence."""
        return min(self.model.context_length, self.admission.context_cap(caller.tenant))


def _too_complex(chat: ChatRequest) -> ApiError:
    """What took too long is a schema, where there is one: a prompt's length is bounded."""
    schemas = (("response_format", chat.response_format), ("tools", chat.tool_use.tools))
    param = next((name for name, given in schemas if given), "messages")
    message = f"'{param}' takes this server too long to prepare; make it simpler."
    return unprocessable(param, message, "too_complex")
