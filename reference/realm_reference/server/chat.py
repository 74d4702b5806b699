"""POST /v1/chat/completions: a valid request in, an answer out, streamed or whole."""

from __future__ import annotations

import asyncio
import json
import time

from aiohttp import web

from realm_reference.orchestration import (
    Event,
    Failed,
    FailureKind,
    Finished,
    FinishReason,
    Generation,
    Token,
)
from realm_reference.server import jsonbody, record
from realm_reference.server.answers import ChatAnswer
from realm_reference.server.chat_request import ChatRequest, parse_chat_request
from realm_reference.server.errors import SERVER, UNAVAILABLE, ApiError, invalid, overloaded
from realm_reference.server.service import Service
from realm_reference.server.sse import DONE, KEEP_ALIVE, EventStream, event


class ChatHandler:
    """Runs one generation a request. A closed connection cancels the handler's task, and that cancels the
    generation.
    """

    def __init__(self, service: Service) -> None:
        self._service = service

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        """Validate, start, answer."""
        service = self._service
        service.check_admission()
        chat = parse_chat_request(await jsonbody.read(request))
        service.check_model(chat.model)
        prompt_tokens, generation = await service.start(chat)
        watch = _Watch(generation, request, service)
        watch.record.prompt_tokens = prompt_tokens
        answer = ChatAnswer(service.model.name, service.model.fingerprint, chat.include_usage)
        try:
            if chat.stream:
                return await self._streamed(request, chat, watch, answer)
            return await _whole(watch, answer)
        finally:
            generation.cancel()
            watch.account()

    async def _streamed(
        self, request: web.Request, chat: ChatRequest, watch: _Watch, answer: ChatAnswer
    ) -> web.StreamResponse:
        settings = self._service.settings
        stream = EventStream(request, settings.write_timeout)
        opened = False

        async def send(data: bytes) -> None:
            nonlocal opened
            # The role goes first, and with the first token: until then a failure still gets its own status.
            await stream.send(data if opened else event(answer.role()) + data)
            opened = True

        while True:
            got = await watch.next_event(settings.keep_alive_interval)
            if got is None:
                await send(KEEP_ALIVE)
            elif isinstance(got, Token):
                if got.text:
                    await send(event(answer.content(got.text)))
            elif isinstance(got, Failed):
                return await _broken_off(stream, watch.failure(got))
            else:
                tail = event(answer.finish(got))
                if chat.include_usage:
                    tail += event(answer.usage(got))
                await send(tail + DONE)
                return await stream.finish()


async def _broken_off(stream: EventStream, error: ApiError) -> web.StreamResponse:
    """A failure in mid-stream is an error event and the end: no [DONE], no made-up finish."""
    if not stream.started:
        raise error
    await stream.send(event(error.body()))
    return await stream.finish()


async def _whole(watch: _Watch, answer: ChatAnswer) -> web.Response:
    parts: list[str] = []
    while True:
        got = await watch.next_event(None)
        if isinstance(got, Token):
            parts.append(got.text)
        elif isinstance(got, Failed):
            raise watch.failure(got)
        elif got is not None:
            body = json.dumps(answer.whole("".join(parts), got), ensure_ascii=False)
            return web.Response(body=body.encode(), content_type="application/json")


class _Watch:
    """Reads a generation's events and takes their times for the metrics and the log."""

    def __init__(self, generation: Generation, request: web.Request, service: Service) -> None:
        self._generation = generation
        self._service = service
        self.record = record.of(request)
        self._last_ns: int | None = None
        self._tokens = 0

    async def next_event(self, timeout: float | None) -> Event | None:
        """The next event; None when there was none for `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                got = await self._generation.next_event()
        except TimeoutError:
            return None
        if isinstance(got, Token):
            self._count(got)
        elif isinstance(got, Finished):
            if got.reason is FinishReason.CANCELLED:
                raise ConnectionResetError("only a client that has gone cancels its request")
            self.record.finish = got.reason.value
            self._tokens = got.completion_tokens
        return got

    def failure(self, failed: Failed) -> ApiError:
        """What the client is told; remembered for the log."""
        self.record.error = error = _api_error(failed, self._service.settings.retry_after)
        return error

    def account(self) -> None:
        """Book the usage: what was generated counts, also when nobody waited for its end."""
        metrics, mine = self._service.metrics, self.record
        mine.completion_tokens = self._tokens
        mine.queue_seconds = self._generation.queue_seconds
        if mine.queue_seconds is not None:
            metrics.queue.observe(mine.queue_seconds)
        metrics.tenant_requests.labels(mine.tenant).inc()
        metrics.input_tokens.labels(mine.tenant).inc(mine.prompt_tokens)
        metrics.output_tokens.labels(mine.tenant).inc(self._tokens)
        metrics.model_tokens.labels(self._service.model.name).inc(mine.prompt_tokens + self._tokens)

    def _count(self, token: Token) -> None:
        now = time.perf_counter_ns()
        metrics = self._service.metrics
        if self._last_ns is None:
            self.record.ttft_seconds = self.record.seconds()
            metrics.ttft.observe(self.record.ttft_seconds)
        else:
            metrics.inter_token.observe((now - self._last_ns) / 1e9)
        self._last_ns = now
        if token.counted:
            self._tokens += 1
            metrics.generated.inc()


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
