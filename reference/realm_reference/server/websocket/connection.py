"""A client's connection: let in, answered call by call, and left with the right code."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

from aiohttp import WSCloseCode

from realm_reference.server.errors import ApiError, invalid
from realm_reference.server.middleware import account
from realm_reference.server.routes.operations import VERSION
from realm_reference.server.service import Service
from realm_reference.server.telemetry.record import RequestRecord
from realm_reference.server.websocket import generating, piping
from realm_reference.server.websocket.calls import Calls, RunningCall
from realm_reference.server.websocket.handshake import Session, let_in
from realm_reference.server.websocket.params import (
    cancel_params,
    generate_params,
    no_params,
    pipeline_params,
)
from realm_reference.server.websocket.protocol import (
    COMPLETE,
    BadCall,
    Call,
    Json,
    error_reply,
    parse_call,
    reply,
)
from realm_reference.server.websocket.socket import Socket
from realm_reference.tenants import Caller

FUNCTIONS: Final = ("generate", "pipeline", "health", "metadata", "cancel")
_LAST_WORDS_SECONDS: Final = 1.0


class Connection:
    """Serves one client until it, or the server, has had enough."""

    def __init__(self, service: Service, socket: Socket) -> None:
        self._service = service
        self._settings = service.settings.websocket
        self._socket = socket
        self._calls = Calls(self._settings.max_calls)
        self._leaving = False
        self._goodbye: asyncio.Task[None] | None = None

    async def serve(self) -> None:
        """From the handshake to the end. Calls that run at the end are cancelled."""
        try:
            session = await let_in(self._socket, self._service.auth, self._settings.auth_timeout)
            if session is not None:
                await self._converse(session)
        finally:
            await self._calls.abandon()

    async def leave(self, *, at_once: bool) -> None:
        """The server goes: 1001, after what has just ended has been told. With calls running that are not to
        be cut off, it comes after the last of them.
        """
        self._leaving = True
        if at_once:
            await self._calls.finished(_LAST_WORDS_SECONDS)
        if at_once or not self._calls:
            await self._socket.close(WSCloseCode.GOING_AWAY, "the server is shutting down")

    async def _converse(self, session: Session) -> None:
        while True:
            try:
                text = await self._socket.receive(self._settings.idle_timeout)
            except TimeoutError:
                if self._calls:
                    continue
                await self._socket.close(WSCloseCode.GOING_AWAY, "idle for too long")
                return
            if text is None:
                return
            try:
                await self._take(session, parse_call(text))
            except BadCall as bad:
                await self._refuse(session, bad.id, bad.error)

    async def _take(self, session: Session, call: Call) -> None:
        """Answer a call, or start it."""
        try:
            if call.function == "cancel" and call.id in self._calls and cancel_params(call.params) == call.id:
                self._calls.cancel(call.id)  # whose end is the one answer to both
                return
            self._calls.check_id(call.id)
            caller = self._caller(session, call)
            if call.function in ("generate", "pipeline"):
                self._start(caller, call)
                # A task that is cancelled before its first step would end without a word.
                await asyncio.sleep(0)
            else:
                await self._socket.send(reply(call.id, COMPLETE, self._quick(call)))
        except ApiError as error:
            await self._refuse(session, call.id, error)

    async def _refuse(self, session: Session, id: str | None, error: ApiError) -> None:
        if id in self._calls:
            # Under that id it would be read as the end of the call that runs.
            error.message, id = f"{error.message} (id {id!r})", None
        mine = RequestRecord(caller=session.who, error=error)
        account(self._service.metrics, mine, error.status, route="websocket")
        await self._socket.send(error_reply(id, error))

    def _caller(self, session: Session, call: Call) -> Caller:
        caller = session.caller()
        if call.tenant_id not in (None, caller.tenant):
            message = f"The tenant '{str(call.tenant_id)[:64]}' is not yours; this connection is of another."
            raise ApiError(403, message, param="tenant_id", code="wrong_tenant")
        return caller

    def _start(self, caller: Caller, call: Call) -> None:
        self._service.check_admission(caller)
        self._calls.check_room()
        work, stream = self._work(call)
        mine = RequestRecord(caller=caller)
        running = RunningCall(call.id, self._socket, mine, stream=stream)
        task = running.start(work)
        self._calls.add(running, task)
        task.add_done_callback(lambda _: self._account(mine, call.function))

    def _work(self, call: Call) -> tuple[Callable[[RunningCall], Awaitable[Json]], bool]:
        if call.function == "generate":
            asked = generate_params(call.params)
            return partial(generating.generate, self._service, asked), asked.stream
        wanted = pipeline_params(call.params)
        return partial(piping.run, self._service, wanted), wanted.stream

    def _account(self, mine: RequestRecord, function: str) -> None:
        status = mine.error.status if mine.error else 499 if mine.finish == "disconnected" else 200
        account(self._service.metrics, mine, status, route=f"websocket {function}")
        if self._leaving and not self._calls:
            self._goodbye = asyncio.ensure_future(self.leave(at_once=True))

    def _quick(self, call: Call) -> Json:
        """What needs no generation."""
        if call.function == "cancel":
            return {"cancelled": self._calls.cancel(cancel_params(call.params))}
        if call.function not in ("health", "metadata"):
            message = f"Unknown function '{call.function[:64]}'; known are {', '.join(FUNCTIONS)}."
            raise invalid("function", message, "unknown_function")
        no_params(call.params)
        return self._health() if call.function == "health" else self._metadata()

    def _health(self) -> Json:
        reason = self._service.not_ready()
        return {"status": "ready"} if reason is None else {"status": "not ready", "reason": reason}

    def _metadata(self) -> Json:
        model = self._service.model
        cards: list[dict[str, Any]] = [pipeline.card() for pipeline in self._service.pipelines.values()]
        return {
            "version": VERSION,
            "model": model.name,
            "fingerprint": model.fingerprint,
            "precision": model.compute.precision,
            "context_length": model.context_length,
            "functions": list(FUNCTIONS),
            "pipelines": cards,
            "max_calls": self._settings.max_calls,
            "max_message_bytes": self._settings.max_message_bytes,
        }
