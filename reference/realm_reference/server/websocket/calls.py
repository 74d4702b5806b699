"""The calls that run on one connection: so many at a time, each ended once, each can be cancelled."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from realm_reference.server.errors import ApiError, internal
from realm_reference.server.telemetry.record import RequestRecord
from realm_reference.server.websocket.protocol import CANCELLED, COMPLETE, STREAMING, Json, error_reply, reply
from realm_reference.server.websocket.socket import Socket
from realm_reference.server.wire.sse import SlowReader

log = logging.getLogger(__name__)


class RunningCall:
    """A call under way. Its pieces are numbered, and after its end nothing more is sent in its name."""

    def __init__(self, id: str, socket: Socket, record: RequestRecord, *, stream: bool) -> None:
        self.id = id
        self.record = record
        self.stream = stream
        self._socket = socket
        self._index = 0
        self._ended = False
        self._cancelled = False
        self._task: asyncio.Task[None] | None = None

    def start(self, work: Callable[[RunningCall], Awaitable[Json]]) -> asyncio.Task[None]:
        """Run `work`, whose result is the call's, in a task."""
        self._task = asyncio.ensure_future(self._run(work))
        return self._task

    def cancel(self) -> bool:
        """End it early, if it has not ended; whether that is what will be told."""
        if self._ended or self._cancelled or self._task is None:
            return False
        self._cancelled = True
        self._task.cancel()
        return True

    async def piece(self, text: str, logprob: float | None = None) -> None:
        """A piece of the answer, for a client that streams."""
        if self.stream:
            await self._piece(text, logprob, final=False)

    async def _piece(self, text: str, logprob: float | None, *, final: bool) -> None:
        data: Json = {"text": text, "index": self._index, "is_final": final}
        self._index += 1
        await self._socket.send(
            reply(self.id, STREAMING, data if logprob is None else {**data, "logprob": logprob})
        )

    async def _run(self, work: Callable[[RunningCall], Awaitable[Json]]) -> None:
        try:
            await self._end(await self._attempt(work))
        except (ConnectionError, SlowReader) as gone:
            # Whoever reads the connection sees it too, and ends the other calls.
            self.record.finish = "slow_reader" if isinstance(gone, SlowReader) else "disconnected"

    async def _attempt(self, work: Callable[[RunningCall], Awaitable[Json]]) -> Json:
        try:
            return reply(self.id, COMPLETE, await work(self))
        except ApiError as error:
            self.record.error = error
        except asyncio.CancelledError:
            if not self._cancelled:
                self.record.finish = "disconnected"
                raise
            self.record.finish = CANCELLED
            return reply(self.id, CANCELLED, self._used())
        except (ConnectionError, SlowReader):
            raise
        except Exception:
            log.exception("call failed", extra={"request_id": self.record.request_id})
            self.record.error = internal(self.record.request_id)
        return error_reply(self.id, self.record.error)

    async def _end(self, last: Json) -> None:
        """From here on it cannot be cancelled any more: what is told is what has happened."""
        self._ended = True
        if self.stream and last["status"] == COMPLETE:
            await self._piece("", None, final=True)
        await self._socket.send(last)

    def _used(self) -> Json:
        mine = self.record
        return {"tokens_generated": mine.completion_tokens, "prompt_tokens": mine.prompt_tokens}


class Calls:
    """The calls of one connection, by id."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._running: dict[str, tuple[RunningCall, asyncio.Task[None]]] = {}

    def __len__(self) -> int:
        return len(self._running)

    def __contains__(self, id: str | None) -> bool:
        return id in self._running

    def check_id(self, id: str) -> None:
        """ApiError for the id of a call that runs: its replies could not be told from the new one's."""
        if id in self._running:
            message = "A call with this id is running; wait for its end, or choose another id."
            raise ApiError(409, message, param="id", code="duplicate_id")

    def check_room(self) -> None:
        """ApiError where as many calls run as may."""
        if len(self) >= self._most:
            message = f"This connection runs {self._most} calls already; wait for one of them."
            raise ApiError(429, message, code="too_many_calls")

    def add(self, call: RunningCall, task: asyncio.Task[None]) -> None:
        """Keep a started call until it is done."""
        self._running[call.id] = call, task
        task.add_done_callback(lambda _: self._running.pop(call.id, None))

    def cancel(self, id: str) -> bool:
        """End the call of that id early; False when none runs."""
        return id in self._running and self._running[id][0].cancel()

    async def finished(self, seconds: float) -> None:
        """Wait for those that run, but not for ever."""
        if self._running:
            await asyncio.wait([task for _, task in self._running.values()], timeout=seconds)

    async def abandon(self) -> None:
        """Cancel all of them, because nobody listens any more, and wait until they are gone."""
        tasks = [task for _, task in self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
