"""The function `generate`: a prompt through the same door, guest and engine as HTTP's."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from realm_reference.model.errors import ChatTemplateError
from realm_reference.orchestration import Event, Failed, Finished, GenerationRequest, Token
from realm_reference.pipelines import Sampling
from realm_reference.server.answers.choices import Choices
from realm_reference.server.answers.failures import failure
from realm_reference.server.errors import invalid
from realm_reference.server.service import Service
from realm_reference.server.telemetry.record import RequestRecord
from realm_reference.server.websocket.calls import RunningCall
from realm_reference.server.websocket.params import GenerateParams
from realm_reference.server.websocket.protocol import Json
from realm_reference.tenants import Caller


async def prepare(
    service: Service, caller: Caller, prompt: str, sampling: Sampling, *, chat: bool, exact: bool
) -> GenerationRequest:
    """Count the prompt (off the event loop) and check it against the context; ApiError 400 names `prompt` or
    `max_tokens`. Without `exact`, max_tokens is cut to the room that there is.
    """
    counted = await service.threads.run(caller.tenant, _counted, service, caller.tenant, prompt, chat)
    context = service.context_of(caller)
    room = context - counted.prompt.tokens
    if room <= 0 or (exact and sampling.max_tokens > room):
        raise invalid(
            "prompt" if room <= 0 else "max_tokens",
            f"The context holds {context} tokens; the prompt has {counted.prompt.tokens}"
            f" and 'max_tokens' asks for {sampling.max_tokens} more.",
            "context_length_exceeded",
        )
    return replace(counted, **sampling.within(room, service.settings.draft_tokens))


def _counted(service: Service, tenant: str, text: str, chat: bool) -> GenerationRequest:
    if chat and service.model.chat is not None:
        try:
            text = service.model.chat.render([{"role": "user", "content": text}])
        except ChatTemplateError as error:
            raise invalid("prompt", f"The prompt does not fit the model: {error}.") from None
    prompt = service.orchestrator.prepare(text, tenant)
    if prompt.tokens == 0:
        raise invalid("prompt", "The prompt has no tokens.")
    return GenerationRequest(tenant=tenant, prompt=prompt, max_tokens=1)


async def generation(
    service: Service, request: GenerationRequest, mine: RequestRecord, endpoint: str
) -> AsyncGenerator[Event, None]:
    """The tokens of one generation and its end, which is in the ledger before it is told. ApiError when it is
    not let in or fails. Whoever leaves early closes it, and so cancels the work.
    """
    model = service.models.with_adapter(request.adapter or None, mine.caller.tenant).name
    lease = service.admit(
        mine.caller,
        id=f"ws-{secrets.token_hex(16)}",
        request_id=mine.request_id,
        endpoint=endpoint,
        model=model,
        prompt_tokens=request.prompt.tokens,
        max_tokens=request.max_tokens,
    )
    mine.prompt_tokens = request.prompt.tokens
    generations = service.submit([request], lease)
    with Choices(generations, lease, model, mine, service.metrics) as choices:
        while choices.unfinished:
            got = await choices.next_event(None)
            assert got is not None  # without a timeout there is always an event
            if isinstance(got[1], Failed):
                raise failure(got[1], "prompt", service.settings.retry_after)
            if isinstance(got[1], Finished) and (unwritten := await choices.settled()):
                raise failure(unwritten, "prompt", service.settings.retry_after)
            yield got[1]


async def generate(service: Service, asked: GenerateParams, call: RunningCall) -> Json:
    """Run the call; its result is ``{text, tokens_generated, prompt_tokens, time_ms}``."""
    begun = time.perf_counter()
    served = service.models.find(asked.model, call.record.caller.tenant)
    caller, exact = call.record.caller, asked.max_tokens_given
    service.preparer.drafts(asked.sampling.draft_tokens)  # or it is refused
    request = await prepare(service, caller, asked.prompt, asked.sampling, chat=asked.chat, exact=exact)
    request = replace(request, adapter=served.adapter, logprobs=0 if asked.logprobs else None)
    text = ""
    async with aclosing(generation(service, request, call.record, "websocket")) as events:
        async for event in events:
            if not isinstance(event, Token):
                continue
            text += event.text
            if event.text or asked.logprobs:
                await call.piece(event.text, event.scores.logprob if event.scores else None)
    return {
        "text": text,
        "tokens_generated": call.record.completion_tokens,
        "prompt_tokens": call.record.prompt_tokens,
        "finish_reason": call.record.finish,
        "time_ms": round((time.perf_counter() - begun) * 1e3, 3),
    }
