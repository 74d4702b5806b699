"""POST /v1/completions: texts continued, streamed or whole. Choice ``p * n + i`` is the i-th of prompt p."""

from __future__ import annotations

from dataclasses import replace

from aiohttp import web

from realm_reference.server.answers.answering import Answering
from realm_reference.server.answers.objects import CompletionAnswer
from realm_reference.server.answers.turn import Turn
from realm_reference.server.preparing import choices_of
from realm_reference.server.requests.completion_request import parse_completion_request
from realm_reference.server.service import Service
from realm_reference.server.telemetry import record
from realm_reference.server.wire import jsonbody


class CompletionHandler:
    """The route."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        """Validate, prepare, answer."""
        service, mine = self._service, record.of(request)
        service.check_admission(mine.caller)
        asked = parse_completion_request(await jsonbody.read(request))
        served = service.models.find(asked.model, mine.caller.tenant)
        tokenizer = service.model.tokenizer
        prepared = await service.prepare_completion(asked, mine.caller)
        requests = [
            choice for one in prepared for choice in choices_of(replace(one, adapter=served.adapter), asked.n)
        ]
        scored = asked.top_logprobs is not None
        return await Answering(
            service,
            asked,
            requests,
            [
                Turn(tokenizer, with_logprobs=scored, echo=one.prompt.text if asked.echo else "")
                for one in requests
            ],
            CompletionAnswer(served.name, served.fingerprint, tokenizer, asked.include_usage),
            endpoint="completions",
            prompt_param="prompt",
            prompts=len(prepared),
        ).respond(request)
