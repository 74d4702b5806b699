"""POST /v1/chat/completions: a valid request in, an answer out, streamed or whole."""

from __future__ import annotations

from dataclasses import replace

from aiohttp import web

from realm_reference.server.answers.answering import Answering
from realm_reference.server.answers.objects import ChatAnswer
from realm_reference.server.answers.turn import Turn
from realm_reference.server.preparing import choices_of
from realm_reference.server.requests.chat_request import parse_chat_request
from realm_reference.server.service import Service
from realm_reference.server.telemetry import record
from realm_reference.server.wire import jsonbody


class ChatHandler:
    """The route."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        """Validate, prepare, answer."""
        service, mine = self._service, record.of(request)
        service.check_admission(mine.caller)
        chat = parse_chat_request(await jsonbody.read(request))
        served = service.models.find(chat.model, mine.caller.tenant)
        tokenizer = service.model.tokenizer
        generation = await service.prepare(chat, mine.caller)
        scored, calling = chat.top_logprobs is not None, service.preparer.call_syntax(chat)
        return await Answering(
            service,
            chat,
            choices_of(replace(generation, adapter=served.adapter), chat.n),
            [Turn(tokenizer, with_logprobs=scored, with_calls=calling) for _ in range(chat.n)],
            ChatAnswer(served.name, served.fingerprint, tokenizer, chat.include_usage),
            endpoint="chat",
            prompt_param="messages",
        ).respond(request)
