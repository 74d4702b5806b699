"""One client's session: the key, the welcome, and calls, each a task. A defect is a subclass of this one."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import web

from realm_mocks.server.generation import Generation
from realm_mocks.server.request import ChatRequest
from realm_mocks.server.schedule import Schedule
from realm_mocks.server.websocket.calls import (
    FUNCTIONS,
    PIPELINE,
    Json,
    Refused,
    chat_request,
    check_params,
)
from realm_mocks.server.websocket.wire import Closed, Wire

PATH: Final = "/ws"
TENANT: Final = "tenant-of-the-key"
AUTH_SECONDS: Final = 0.5
"""Short, so that a score need not wait for it."""


@dataclass(frozen=True)
class House:
    """What a session needs of its server: `answer` is what the model says, `numbers` those of the calls,
    `notes` are free for defects.
    """

    schedule: Schedule
    api_key: str | None
    model: str
    answer: Callable[[ChatRequest], Generation]
    numbers: Iterator[int] = field(default_factory=itertools.count)
    notes: dict[str, Any] = field(default_factory=dict)


@dataclass
class Running:
    """A call under way."""

    id: str
    stream: bool
    index: int = 0
    text: str = ""
    held: str = ""
    kept: list[str] = field(default_factory=list)
    logprob: float | None = None
    begun: float = field(default_factory=time.perf_counter)
    task: asyncio.Task[None] | None = field(default=None, repr=False)


class Session:
    """The healthy protocol."""

    make_wire: type[Wire] = Wire

    def __init__(self, house: House, request: web.Request) -> None:
        self.house = house
        self.wire = self.make_wire(request)
        self.calls: dict[str, Running] = {}

    async def serve(self) -> web.StreamResponse:
        """From the upgrade to the end."""
        response = await self.wire.open()
        try:
            with contextlib.suppress(Closed):
                if await self.let_in():
                    await self.welcome()
                    while True:
                        await self.take(await self.wire.message())
        finally:
            for call in list(self.calls.values()):
                assert call.task is not None
                call.task.cancel()
        return response

    # The handshake

    async def let_in(self) -> bool:
        """Ask for the key, if there is one."""
        if self.house.api_key is None:
            return True
        await self.wire.send({"type": "auth_required", "message": "Send your key."})
        try:
            text = await asyncio.wait_for(self.wire.message(), self.auth_seconds())
        except TimeoutError:
            return await self.turn_away("No key came in time.")
        if not self.is_key(text):
            return await self.turn_away("The key is not valid.")
        await self.wire.send({"type": "auth_success", "tenant_id": TENANT})
        return True

    def auth_seconds(self) -> float | None:
        """How long a client has to send its key."""
        return AUTH_SECONDS

    def is_key(self, text: str) -> bool:
        """Whether a client's first message is the key."""
        try:
            return bool(json.loads(text) == {"type": "auth", "api_key": self.house.api_key})
        except ValueError:
            return False

    async def turn_away(self, reason: str) -> bool:
        """Say why, and close."""
        await self.wire.send({"type": "auth_failed", "error": reason})
        self.wire.close(1008, "authentication failed")
        return False

    async def welcome(self) -> None:
        """The first message of the conversation."""
        await self.wire.send({"status": "connected", "version": "mock", "tenant_id": self.tenant})

    @property
    def tenant(self) -> str:
        """Whose session it is."""
        return "default" if self.house.api_key is None else TENANT

    # Calls

    async def take(self, text: str) -> None:
        """Answer a message, or start what it asks for."""
        call_id: str | None = None
        try:
            message = self.parsed(text)
            if isinstance(message.get("id"), str):
                call_id = message["id"]
            self.check_id(call_id)
            await self.dispatch(message)
        except Refused as refused:
            await self.refuse(None if call_id in self.calls else call_id, refused)

    def check_id(self, call_id: str | None) -> None:
        """An id that runs is not taken twice."""
        if call_id in self.calls:
            raise Refused(f"A call with the id '{call_id}' is running.", "id")

    def parsed(self, text: str) -> Json:
        """The object in a message."""
        try:
            message = json.loads(text)
        except (ValueError, RecursionError):
            raise Refused("The message is not JSON.") from None
        if not isinstance(message, dict):
            raise Refused("The message is not a JSON object.")
        return message

    async def refuse(self, call_id: str | None, refused: Refused) -> None:
        """The reply to a call that is not done."""
        await self.wire.send({"id": call_id, "status": "error", "error": refused.error()})

    async def dispatch(self, message: Json) -> None:
        """Do a call."""
        call_id, function, params = message.get("id"), message.get("function"), message.get("params") or {}
        if not isinstance(call_id, str) or not isinstance(params, dict):
            raise Refused("'id' must be a string and 'params' an object", "id")
        self.check_tenant(message.get("tenant_id"))
        if function not in FUNCTIONS:
            raise Refused(f"Unknown function '{function}'", "function")
        self.check_params(str(function), params)
        if function in ("generate", "pipeline"):
            self.start(call_id, str(function), params)
            await asyncio.sleep(0)  # a task that is cancelled before its first step would say nothing
        else:
            await self.reply(call_id, "complete", await self.quick(call_id, str(function), params))

    def check_tenant(self, tenant: Any) -> None:
        """A call may name its tenant, and no other."""
        if tenant not in (None, self.tenant):
            raise Refused("That tenant is not yours.", "tenant_id", "UNAUTHORIZED")

    def check_params(self, function: str, params: Json) -> None:
        """Refused for parameters that the function does not take."""
        check_params(function, params)
        if params.get("model") not in (None, self.house.model):
            raise Refused(f"The model '{params['model']}' does not exist", "model")
        if function == "pipeline" and params["pipeline"] != PIPELINE["name"]:
            raise Refused(f"The pipeline '{params['pipeline']}' does not exist", "pipeline")

    async def reply(self, call_id: str, status: str, data: Json) -> None:
        """A reply with data."""
        await self.wire.send({"id": call_id, "status": status, "data": data})

    async def quick(self, call_id: str, function: str, params: Json) -> Json:
        """What needs no generation."""
        if function == "cancel":
            return {"cancelled": self.cancel(params["id"])}
        if function == "health":
            return {"status": "ready"}
        return {"model": self.house.model, "functions": list(FUNCTIONS), "pipelines": [PIPELINE]}

    def cancel(self, call_id: str) -> bool:
        """End a call early."""
        call = self.calls.get(call_id)
        if call is None or call.task is None:
            return False
        call.task.cancel()
        return True

    def start(self, call_id: str, function: str, params: Json) -> None:
        """Begin a generation."""
        call = Running(call_id, params.get("stream") is True)
        self.calls[call_id] = call
        given = params.get("prompt", params.get("input"))
        prompt = given if isinstance(given, str) else json.dumps(given)
        call.task = asyncio.ensure_future(self.run(call, chat_request(self.house.model, prompt, params)))

    async def run(self, call: Running, request: ChatRequest) -> None:
        """A generation from its first token to its end, on the server's schedule."""
        try:
            generation = self.house.answer(request)
            schedule = self.house.schedule.of(next(self.house.numbers))
            for index, piece in enumerate(generation.pieces):
                await asyncio.sleep(max(0.0, call.begun + schedule.offset(index) - time.perf_counter()))
                call.logprob = generation.logprobs[index]["logprob"] if generation.logprobs else None
                await self.piece(call, piece)
            call.logprob = None
            await self.end(call, generation)
        except asyncio.CancelledError:
            self.calls.pop(call.id, None)
            with contextlib.suppress(Closed):
                await self.cancelled(call)
        except Closed:
            pass
        finally:
            self.calls.pop(call.id, None)

    async def piece(self, call: Running, text: str, *, final: bool = False) -> None:
        """One piece of an answer."""
        call.text += text
        if call.stream and (text or final or call.logprob is not None):
            data: Json = {"text": text, "index": call.index, "is_final": final}
            if call.logprob is not None:
                data["logprob"] = call.logprob
            call.index += 1
            await self.reply(call.id, "streaming", data)

    async def end(self, call: Running, generation: Generation) -> None:
        """The end of an answer."""
        self.calls.pop(call.id, None)
        await self.piece(call, "", final=True)
        took = {"time_ms": (time.perf_counter() - call.begun) * 1e3}
        await self.reply(call.id, "complete", {**self.result(generation), **took})

    def result(self, generation: Generation) -> Json:
        """The whole of an answer."""
        return {
            "text": generation.text,
            "tokens_generated": generation.completion_tokens,
            "prompt_tokens": generation.prompt_tokens,
        }

    async def cancelled(self, call: Running) -> None:
        """The end of a call that was cancelled."""
        await self.reply(call.id, "cancelled", {"tokens_generated": call.index})
