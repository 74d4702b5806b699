"""POST /v1/chat/completions: a valid request in, an answer out, streamed or whole."""

from __future__ import annotations

import json

from aiohttp import web

from realm_reference.orchestration import Failed, FailureKind, FinishReason, Token
from realm_reference.server import jsonbody, record
from realm_reference.server.answers import ChatAnswer
from realm_reference.server.chat_request import ChatRequest, parse_chat_request
from realm_reference.server.choices import Choices
from realm_reference.server.errors import SERVER, UNAVAILABLE, ApiError, invalid, overloaded
from realm_reference.server.service import Service, reseeded
from realm_reference.server.sse import DONE, KEEP_ALIVE, EventStream, event


class ChatHandler:
    """Runs the generations of a request. A closed connection cancels the handler's task, and that cancels
    them.
    """

    def __init__(self, service: Service) -> None:
        self._service = service

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        """Validate, start, answer."""
        service, mine = self._service, record.of(request)
        service.check_admission()
        chat = parse_chat_request(await jsonbody.read(request))
        service.check_model(chat.model)
        answer = ChatAnswer(service.model.name, service.model.fingerprint, chat.include_usage)
        generation = await service.prepare(chat, mine.caller)
        lease = service.admit(
            mine.caller,
            id=answer.id,
            request_id=mine.request_id,
            endpoint="chat",
            prompt_tokens=generation.prompt.tokens,
            max_tokens=generation.max_tokens * chat.n,
        )
        mine.prompt_tokens = generation.prompt.tokens
        generations = service.submit([reseeded(generation, i) for i in range(chat.n)], lease)
        choices = Choices(generations, lease, service.model.name, mine, service.metrics)
        try:
            if chat.stream:
                stream = EventStream(request, service.settings.write_timeout)
                return await self._streamed(stream, chat, choices, answer)
            return await self._whole(chat, choices, answer)
        except ApiError as error:
            mine.error = error
            raise
        finally:
            choices.close()

    async def _streamed(
        self, stream: EventStream, chat: ChatRequest, choices: Choices, answer: ChatAnswer
    ) -> web.StreamResponse:
        opened: set[int] = set()
        while choices.unfinished:
            got = await choices.next_event(self._service.settings.keep_alive_interval)
            if got is None:
                await stream.send(KEEP_ALIVE)
                continue
            index, what = got
            if isinstance(what, Failed):
                return await self._broken_off(stream, what)
            # The role goes out with the first token: until then a failure still gets a status of its own.
            data = b"" if index in opened else event(answer.role(index))
            opened.add(index)
            if not isinstance(what, Token):
                data += event(answer.finish(index, what.reason))
            elif what.text:
                data += event(answer.content(index, what.text))
            if data:
                await stream.send(data)
        await choices.settled()
        await stream.send((event(answer.usage(choices.usage())) if chat.include_usage else b"") + DONE)
        return await stream.finish()

    async def _broken_off(self, stream: EventStream, failed: Failed) -> web.StreamResponse:
        """A failure in mid-stream is an error event and the end: no [DONE], no made-up finish."""
        error = _api_error(failed, self._service.settings.retry_after)
        if not stream.started:
            raise error
        await stream.send(event(error.body()))
        record.of(stream.request).error = error
        return await stream.finish()

    async def _whole(self, chat: ChatRequest, choices: Choices, answer: ChatAnswer) -> web.Response:
        texts = [""] * chat.n
        reasons = [FinishReason.STOP] * chat.n
        while choices.unfinished:
            got = await choices.next_event(None)
            assert got is not None  # without a timeout there is always an event
            index, what = got
            if isinstance(what, Failed):
                raise _api_error(what, self._service.settings.retry_after)
            if isinstance(what, Token):
                texts[index] += what.text
            else:
                reasons[index] = what.reason
        await choices.settled()
        whole = answer.whole(list(zip(texts, reasons, strict=True)), choices.usage())
        return web.Response(
            body=json.dumps(whole, ensure_ascii=False).encode(), content_type="application/json"
        )


def _api_error(failed: Failed, retry_after: int) -> ApiError:
    kind, message = failed.kind, failed.message
    if kind is FailureKind.CONTEXT_FULL:
        return invalid("messages", message, "context_length_exceeded")
    if kind is FailureKind.DEADLINE:
        return ApiError(504, message, type=SERVER, code="timeout")
    if kind is FailureKind.OUT_OF_MEMORY:
        return ApiError(503, message, type=UNAVAILABLE, code="out_of_memory", headers={"Retry-After": "1"})
    if kind is FailureKind.SHUTDOWN:
        return overloaded(message, retry_after)
    return ApiError(500, message, type=SERVER, code=kind.value)
