"""POST /v1/chat/completions: a valid request in, an answer out, streamed or whole."""

from __future__ import annotations

import json

from aiohttp import web

from realm_reference.orchestration import Failed, Finished
from realm_reference.server import jsonbody, record
from realm_reference.server.answers import ChatAnswer
from realm_reference.server.chat_request import ChatRequest, parse_chat_request
from realm_reference.server.choices import Choices
from realm_reference.server.errors import ApiError
from realm_reference.server.failures import failure
from realm_reference.server.preparing import choices_of
from realm_reference.server.service import Service
from realm_reference.server.sse import DONE, KEEP_ALIVE, EventStream, event
from realm_reference.server.turn import Piece, Turn


class ChatHandler:
    """Runs the generations of a request. A closed connection cancels the handler's task, and that cancels
    them.
    """

    def __init__(self, service: Service) -> None:
        self._service = service

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        """Validate, start, answer."""
        service, mine = self._service, record.of(request)
        service.check_admission(mine.caller)
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
        generations = service.submit(choices_of(generation, chat.n), lease)
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
        turns = self._turns(chat)
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
            piece = turns[index].take(what)
            if isinstance(what, Finished):
                data += event(answer.finish(index, turns[index].finish_reason, piece))
            elif piece:
                data += event(answer.piece(index, piece))
            if data:
                await stream.send(data)
        await choices.settled()
        await stream.send((event(answer.usage(choices.usage())) if chat.include_usage else b"") + DONE)
        return await stream.finish()

    async def _broken_off(self, stream: EventStream, failed: Failed) -> web.StreamResponse:
        """A failure in mid-stream is an error event and the end: no [DONE], no made-up finish."""
        error = failure(failed, "messages", self._service.settings.retry_after)
        if not stream.started:
            raise error
        await stream.send(event(error.body()))
        record.of(stream.request).error = error
        return await stream.finish()

    async def _whole(self, chat: ChatRequest, choices: Choices, answer: ChatAnswer) -> web.Response:
        messages = [Piece() for _ in range(chat.n)]
        turns = self._turns(chat)
        while choices.unfinished:
            got = await choices.next_event(None)
            assert got is not None  # without a timeout there is always an event
            index, what = got
            if isinstance(what, Failed):
                raise failure(what, "messages", self._service.settings.retry_after)
            messages[index].add(turns[index].take(what))
        await choices.settled()
        ends = [turn.finish_reason for turn in turns]
        whole = answer.whole(list(zip(messages, ends, strict=True)), choices.usage())
        return web.Response(
            body=json.dumps(whole, ensure_ascii=False).encode(), content_type="application/json"
        )

    def _turns(self, chat: ChatRequest) -> list[Turn]:
        tokenizer, wanted = self._service.model.tokenizer, chat.top_logprobs is not None
        return [Turn(tokenizer, with_logprobs=wanted) for _ in range(chat.n)]
