"""The routes of the MockServer: parse, check, generate, send, with the hooks of Variation at each station."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

from aiohttp import web

from realm_mocks.server import logprobs
from realm_mocks.server.adapters import ALL, CONTEXT_LENGTH, MODEL, card_of, check_model, names_for
from realm_mocks.server.errors import ApiError, denied
from realm_mocks.server.generation import Generation, generate
from realm_mocks.server.metrics import CONTENT_TYPE, Meter, render
from realm_mocks.server.model import answer_tokens, count_prompt_tokens, tokenize, tool_call
from realm_mocks.server.receiving import body_of
from realm_mocks.server.records import RequestRecord
from realm_mocks.server.replies import Reply, stream_events, whole_reply
from realm_mocks.server.request import ChatRequest, check_request, parse_body
from realm_mocks.server.schedule import Schedule
from realm_mocks.server.sender import send_stream, sleep_until
from realm_mocks.server.tenants import Tenants
from realm_mocks.server.text_routes import TextRoutes
from realm_mocks.server.tools import call_text
from realm_mocks.server.variation import State, Variation, bearer
from realm_mocks.server.websocket import PATH, Session
from realm_mocks.server.websocket.session import House

RECORDS_KEPT = 100_000
MAX_BODY = 8 * 2**20
OPEN_PATHS = frozenset({"/health", "/metrics", "/mock/records"})

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class MockApp:
    """One server's routes and memory. Lives on one event loop."""

    def __init__(
        self, schedule: Schedule, variations: Sequence[Variation], tenants: Tenants, slots: int
    ) -> None:
        self.schedule = schedule
        self.variations = variations
        self.tenants = tenants
        self._open = OPEN_PATHS.union(*(variation.unlocked for variation in variations))
        self._key_after_body = any(variation.key_after_body for variation in variations)
        self.state = State(asyncio.Semaphore(slots))
        self.records: deque[RequestRecord] = deque(maxlen=RECORDS_KEPT)
        self.meter = Meter()
        self._numbers = itertools.count(1)
        self._house = House(schedule, tenants.api_key, MODEL, self._said)

    def application(self) -> web.Application:
        """The aiohttp application."""
        app = web.Application(client_max_size=MAX_BODY)
        texts = TextRoutes(
            self._check_model,
            CONTEXT_LENGTH,
            self.variations,
            self._numbers,
            self._generate,
            self._respond,
            self._stream_head,
        )
        app.router.add_route("*", "/v1/chat/completions", self._route(self._chat, "POST"))
        app.router.add_route("*", "/v1/completions", self._route(texts.completions, "POST"))
        app.router.add_route("*", "/v1/embeddings", self._route(texts.embeddings, "POST"))
        app.router.add_route("*", "/v1/models", self._route(self._models, "GET"))
        for name in ALL:
            app.router.add_route("*", f"/v1/models/{name}", self._route(self._model, "GET"))
        app.router.add_route("*", "/tokenize", self._route(texts.tokenize, "POST"))
        app.router.add_route("*", "/detokenize", self._route(texts.detokenize, "POST"))
        app.router.add_route("*", "/health", self._route(self._health, "GET"))
        app.router.add_route("*", "/metrics", self._route(self._metrics, "GET"))
        app.router.add_route("GET", PATH, self._websocket)
        app.router.add_route("*", "/mock/records", self._route(self._records, "GET"))
        app.router.add_route("*", "/{rest:.*}", self._route(self._unknown, ""))
        return app

    def _route(self, handler: Handler, method: str) -> Handler:
        """Wrap a handler: method, key, gate, and errors turned into replies."""

        async def serve(request: web.Request) -> web.StreamResponse:
            began_ns = time.perf_counter_ns()
            response = await answer(request)
            self.meter.replied(response.status, began_ns)
            return response

        async def answer(request: web.Request) -> web.StreamResponse:
            try:
                if method and request.method not in (method, "HEAD" if method == "GET" else method):
                    message = f"{request.method} is not allowed here; use {method}"
                    raise ApiError(405, message, code="method_not_allowed", headers={"Allow": method})
                if not (self._key_after_body and handler == self._chat):
                    self._check_key(request)
                async with AsyncExitStack() as gates:
                    for variation in self.variations:
                        if variation.gate is not None:
                            await gates.enter_async_context(variation.gate(self.state))
                    return await handler(request)
            except ApiError as error:
                for variation in self.variations:
                    if variation.on_error is not None:
                        variation.on_error(self.state, error)
                return self._respond(request, Reply(error.status, error.body(), error.headers))

        return serve

    def _check_key(self, request: web.Request) -> None:
        if request.path in self._open:
            return
        header = request.headers.get("Authorization")
        checks = [v.authorized for v in self.variations if v.authorized is not None] or [bearer]
        if self.tenants.knows(header, lambda given, key: all(check(given, key) for check in checks)):
            return
        error = denied()
        for variation in self.variations:
            error = variation.denied(header, error) if variation.denied else error
        raise error

    def _respond(self, request: web.Request, reply: Reply) -> web.Response:
        for variation in self.variations:
            if variation.reply is not None:
                reply = variation.reply(request.path, reply)
        headers = {**reply.headers, "Content-Type": reply.content_type}
        response = web.Response(status=reply.status, body=reply.payload(), headers=headers)
        if reply.closes:
            response.force_close()
        return response

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        raw = await body_of(request)
        number = next(self._numbers)
        record = RequestRecord(f"chatcmpl-{number:08x}", False, time.perf_counter_ns())
        self.records.append(record)
        self.state.in_flight += 1
        try:
            chat = self._understand(request, raw)
            record.stream = chat.stream
            if self._key_after_body:
                self._check_key(request)
            left = self.tenants.let_in(request.headers.get("Authorization"))
            async with self.state.slots:
                await self._prefill(request, chat)
                response = await self._answer(request, chat, number, record, left)
            record.outcome = "completed"
            record.finished_ns = time.perf_counter_ns()
            return response
        except ApiError:
            record.outcome = "refused"
            raise
        except (asyncio.CancelledError, ConnectionError):
            record.outcome = "disconnected"
            await self._abandoned(record)
            raise asyncio.CancelledError from None  # which aiohttp takes for what it is, without a traceback
        finally:
            self.state.in_flight -= 1

    async def _abandoned(self, record: RequestRecord) -> None:
        last = max(record.due_ns, default=0)
        remaining = max(0.0, (last - time.perf_counter_ns()) / 1e9)
        for variation in self.variations:
            if variation.on_disconnect is not None:
                await variation.on_disconnect(self.state, remaining)

    def _understand(self, request: web.Request, raw: bytes) -> ChatRequest:
        for variation in self.variations:
            raw = variation.body(raw) if variation.body else raw
        unchecked = frozenset[str]().union(*(variation.unchecked for variation in self.variations))
        chat = check_request(parse_body(raw), unchecked)
        if "model" not in unchecked:
            self._check_model(request, chat.model)
        for variation in self.variations:
            chat = variation.request(chat, self.state) if variation.request else chat
        if count_prompt_tokens(chat) > CONTEXT_LENGTH:
            message = f"This model's context is {CONTEXT_LENGTH} tokens; the messages are longer"
            raise ApiError(400, message, param="messages", code="context_length_exceeded")
        return chat

    async def _prefill(self, request: web.Request, chat: ChatRequest) -> None:
        header = request.headers.get("Authorization", "")
        reads = [variation.prefill for variation in self.variations if variation.prefill is not None]
        if reads:
            await asyncio.sleep(sum(read(chat, header, self.state) for read in reads))

    async def _answer(
        self,
        request: web.Request,
        chat: ChatRequest,
        number: int,
        record: RequestRecord,
        left: dict[str, str],
    ) -> web.StreamResponse:
        generations = [self._generate(chat, choice, number) for choice in range(chat.n)]
        tokens = max(generation.completion_tokens for generation in generations)
        schedule = self.schedule.of(number)
        record.due_ns = [record.arrived_ns + round(s * 1e9) for s in schedule.offsets(tokens)]
        # As it is known already, it is counted before anybody can have seen its end.
        completion = sum(generation.completion_tokens for generation in generations)
        self.meter.generated(generations[0].prompt_tokens, completion, schedule.offset(0))
        self.meter.drafted(chat.draft_tokens or 0, completion)
        if not chat.stream:
            whole = whole_reply(chat, generations, record.id)
            for variation in self.variations:
                whole = variation.whole(chat, whole) if variation.whole else whole
            await sleep_until(record.due_ns[-1])
            return self._respond(request, Reply(200, whole, left))
        pieces = [self._pieces(chat, generation) for generation in generations]
        events = stream_events(chat, generations, pieces, schedule, record.id)
        for variation in self.variations:
            events = variation.events(chat, events) if variation.events else events
        return await send_stream(request, self._stream_head(request, left), events, record, self.state)

    def _generate(self, chat: ChatRequest, choice: int, number: int) -> Generation:
        tokens = answer_tokens(chat, choice, number, self.schedule.tokens)
        generation = generate(tokens, chat.stop, chat.cap, count_prompt_tokens(chat))
        if (call := tool_call(chat, choice, number)) is not None:
            said = tuple(tokenize(call_text(call)))
            silence = ("",) * len(said)
            generation = replace(
                generation, tokens=said, pieces=silence, finish_reason="tool_calls", call=call
            )
        if chat.logprobs:
            generation = replace(generation, logprobs=logprobs.entries(chat, generation))
        for variation in self.variations:
            if variation.generation is not None:
                generation = variation.generation(chat, generation, self.state)
        return generation

    def _pieces(self, chat: ChatRequest, generation: Generation) -> list[str]:
        for variation in self.variations:
            if variation.pieces is not None:
                return variation.pieces(chat, generation)
        return list(generation.pieces)

    def _said(self, chat: ChatRequest) -> Generation:
        return self._generate(chat, 0, next(self._numbers))

    async def _websocket(self, request: web.Request) -> web.StreamResponse:
        """Upgrade, and serve a client of the WebSocket protocol."""
        if request.headers.get("Upgrade", "").lower() != "websocket":
            return self._respond(request, Reply(426, ApiError(426, "Connect with ws:// here").body()))
        wanted = (variation.session for variation in self.variations if variation.session is not None)
        return await next(wanted, Session)(self._house, request).serve()

    def _stream_head(self, request: web.Request, left: dict[str, str]) -> Reply:
        head = Reply(200, b"", {"Cache-Control": "no-cache", **left}, "text/event-stream; charset=utf-8")
        for variation in self.variations:
            head = variation.reply(request.path, head) if variation.reply else head
        return head

    def _names(self, request: web.Request) -> tuple[str, ...]:
        return names_for(self.tenants, request.headers.get("Authorization"))

    def _check_model(self, request: web.Request, name: str) -> None:
        unlocked = any(variation.every_adapter for variation in self.variations)
        check_model(name, ALL if unlocked else self._names(request))

    async def _models(self, request: web.Request) -> web.StreamResponse:
        cards = [card_of(name) for name in self._names(request)]
        return self._respond(request, Reply(200, {"object": "list", "data": cards}))

    async def _model(self, request: web.Request) -> web.StreamResponse:
        name = request.path.rpartition("/")[2]
        self._check_model(request, name)
        return self._respond(request, Reply(200, card_of(name)))

    async def _health(self, request: web.Request) -> web.StreamResponse:
        return self._respond(request, Reply(200, {"status": "ok"}))

    async def _metrics(self, request: web.Request) -> web.StreamResponse:
        families = self.meter.families(self.state.in_flight, MODEL)
        for variation in self.variations:
            families = variation.metrics(families, self.state) if variation.metrics else families
        return self._respond(request, Reply(200, render(families).encode(), content_type=CONTENT_TYPE))

    async def _records(self, request: web.Request) -> web.StreamResponse:
        body = json.dumps([record.as_json() for record in list(self.records)]).encode()
        return web.Response(body=body, content_type="application/json")

    async def _unknown(self, request: web.Request) -> web.StreamResponse:
        raise ApiError(404, f"There is no {request.method} {request.path} here", code="not_found")


def run_options() -> dict[str, Any]:
    """Options of aiohttp's AppRunner: a closed connection cancels its handler, and no access log."""
    return {"handler_cancellation": True, "access_log": None, "shutdown_timeout": 0.2}
