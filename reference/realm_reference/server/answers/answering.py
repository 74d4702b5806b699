"""From prepared generations to an HTTP answer, streamed or whole: what all routes that make text share."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from aiohttp import web

from realm_reference.orchestration import Failed, Finished, GenerationRequest
from realm_reference.server.answers.choices import Choices
from realm_reference.server.answers.failures import failure
from realm_reference.server.answers.objects import Usage
from realm_reference.server.answers.turn import Piece, Turn
from realm_reference.server.errors import ApiError
from realm_reference.server.requests.parameters import TextRequest
from realm_reference.server.service import Service
from realm_reference.server.telemetry import record
from realm_reference.server.wire.sse import DONE, KEEP_ALIVE, EventStream, event

Json = dict[str, Any]


class Answer(Protocol):
    """The objects of one answer, in the shape of its route."""

    @property
    def id(self) -> str:
        """The answer's own."""

    @property
    def model(self) -> str:
        """What it is computed with."""

    def begin(self, index: int) -> Json | None:
        """The chunk before a choice's first, if there is one."""

    def piece(self, index: int, piece: Piece) -> Json:
        """A chunk of a choice's text."""

    def finish(self, index: int, reason: str | None, last: Piece) -> Json:
        """The chunk with a choice's one finish reason, and what was left for the end."""

    def usage(self, usage: Usage) -> Json:
        """The last chunk, for a client that asked for usage."""

    def whole(self, choices: Sequence[tuple[Piece, str | None]], usage: Usage) -> Json:
        """The one object of an answer that is not streamed."""


@dataclass(frozen=True)
class Answering:
    """One request on its way. A closed connection cancels the handler's task, and that cancels the
    generations.

    `requests` and `turns` belong together, one a choice; `prompts` of them have prompts of their own, and
    `prompt_param` is what the route calls those.
    """

    service: Service
    asked: TextRequest
    requests: Sequence[GenerationRequest]
    turns: Sequence[Turn]
    answer: Answer
    endpoint: str
    prompt_param: str
    prompts: int = 1

    async def respond(self, request: web.Request) -> web.StreamResponse:
        """Ask to be let in, start, answer."""
        service, mine = self.service, record.of(request)
        each = len(self.requests) // self.prompts
        mine.prompt_tokens = sum(one.prompt.tokens for one in self.requests[::each])
        lease = service.admit(
            mine.caller,
            id=self.answer.id,
            request_id=mine.request_id,
            endpoint=self.endpoint,
            model=self.answer.model,
            prompt_tokens=mine.prompt_tokens,
            max_tokens=sum(one.max_tokens for one in self.requests),
        )
        generations = service.submit(self.requests, lease)
        with Choices(generations, lease, self.answer.model, mine, service.metrics) as choices:
            if self.asked.stream:
                return await self._streamed(EventStream(request, service.settings.write_timeout), choices)
            return await self._whole(choices)

    async def _streamed(self, stream: EventStream, choices: Choices) -> web.StreamResponse:
        begun = False
        while choices.unfinished:
            got = await choices.next_event(self.service.settings.keep_alive_interval)
            if got is None:
                await stream.send(KEEP_ALIVE)
                continue
            index, what = got
            if isinstance(what, Failed):
                return await self._broken_off(stream, what)
            # Roles go out with the first token: until then a failure still gets a status of its own. All of
            # them, in order: openai-python's stream helper fails where another choice than the first begins.
            data = b"" if begun else b"".join(map(event, self._beginnings()))
            begun = True
            turn = self.turns[index]
            piece = turn.take(what)
            if isinstance(what, Finished):
                data += event(self.answer.finish(index, turn.finish_reason, piece))
            elif piece:
                data += event(self.answer.piece(index, piece))
            if data:
                await stream.send(data)
        if unwritten := await choices.settled():
            return await self._broken_off(stream, unwritten)
        counts = event(self.answer.usage(choices.usage())) if self.asked.include_usage else b""
        await stream.send(counts + DONE)
        return await stream.finish()

    def _beginnings(self) -> Iterator[Json]:
        for index in range(len(self.turns)):
            if first := self.answer.begin(index):
                yield first

    async def _broken_off(self, stream: EventStream, failed: Failed) -> web.StreamResponse:
        """A failure in mid-stream is an error event and the end: no [DONE], no made-up finish."""
        error = self._failure(failed)
        if not stream.started:
            raise error
        await stream.send(event(error.body()))
        record.of(stream.request).error = error
        return await stream.finish()

    async def _whole(self, choices: Choices) -> web.Response:
        texts = [Piece() for _ in self.turns]
        while choices.unfinished:
            got = await choices.next_event(None)
            assert got is not None  # without a timeout there is always an event
            index, what = got
            if isinstance(what, Failed):
                raise self._failure(what)
            texts[index].add(self.turns[index].take(what))
        if unwritten := await choices.settled():
            raise self._failure(unwritten)
        ends = [turn.finish_reason for turn in self.turns]
        whole = self.answer.whole(list(zip(texts, ends, strict=True)), choices.usage())
        return web.Response(
            body=json.dumps(whole, ensure_ascii=False).encode(), content_type="application/json"
        )

    def _failure(self, failed: Failed) -> ApiError:
        return failure(failed, self.prompt_param, self.service.settings.retry_after)
