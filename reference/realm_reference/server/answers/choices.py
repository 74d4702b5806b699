"""The n generations of one request, read as one sequence of events, with their times and their usage."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from types import TracebackType

from realm_reference.orchestration import (
    Event,
    Failed,
    FailureKind,
    Finished,
    FinishReason,
    Generation,
    Token,
)
from realm_reference.server.answers.objects import Usage
from realm_reference.server.errors import ApiError, internal
from realm_reference.server.telemetry.metrics import Metrics
from realm_reference.server.telemetry.record import RequestRecord
from realm_reference.server.wire.sse import SlowReader
from realm_reference.tenants import Lease, Outcome, Status, Timings
from realm_reference.tenants.ledger import LedgerError


class Choices:
    """Reads all choices of a request, a context manager: at its end what still runs is cancelled and what was
    made is booked, with the failure that ended it if there was one.
    """

    def __init__(
        self,
        generations: Sequence[Generation],
        lease: Lease,
        model: str,
        record: RequestRecord,
        metrics: Metrics,
    ) -> None:
        self._generations = record.generations = generations
        self._lease = lease
        record.left = lease.left
        self._model = model
        self._record = record
        self._metrics = metrics
        self._reads: dict[asyncio.Task[Event], int] = {}
        self._ready: deque[tuple[int, Event]] = deque()
        self._last_ns: list[int | None] = [None] * len(generations)
        self._tokens = [0] * len(generations)
        self.unfinished = len(generations)
        for index in range(len(generations)):
            self._read(index)

    def __enter__(self) -> Choices:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, ApiError):
            self._record.error = error
        elif isinstance(error, Exception) and not isinstance(error, ConnectionError | SlowReader):
            self._record.error = internal(self._record.request_id)
        self._close()

    async def next_event(self, timeout: float | None) -> tuple[int, Event] | None:
        """The next event and the index of its choice; None when there was none for `timeout` seconds."""
        if not self._ready:
            done, _ = await asyncio.wait(self._reads, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            self._ready.extend(sorted(((self._reads.pop(read), read.result()) for read in done), key=_index))
        if not self._ready:
            return None
        index, event = self._ready.popleft()
        if isinstance(event, Token):
            self._count(index, event)
        if isinstance(event, Finished):
            self._finish(index, event)
        elif not isinstance(event, Failed):
            self._read(index)
        return index, event

    def usage(self) -> Usage:
        """What the request has cost: the prompt once, the completions of all choices."""
        return Usage(self._record.prompt_tokens, sum(self._tokens))

    async def settled(self) -> Failed | None:
        """Once all are finished: have the request in the ledger before the client can see its end.

        A Failed if it cannot be written there: then nobody may see an end that nobody would know of.
        """
        try:
            await self._lease.settled(self._outcome())
        except LedgerError:
            return Failed(FailureKind.INTERNAL, "The request could not be written to the ledger.")
        return None

    def _close(self) -> None:
        """Cancel what still runs. What was generated counts, also when nobody waited for its end."""
        for generation in self._generations:
            generation.cancel()
        for read in self._reads:
            read.cancel()
        self._lease.settle(self._outcome())
        usage, metrics, tenant = self.usage(), self._metrics, self._record.caller.tenant
        for generation in self._generations:
            if generation.queue_seconds is not None:
                metrics.queue.observe(generation.queue_seconds)
        metrics.tenant_requests.labels(tenant).inc()
        metrics.input_tokens.labels(tenant).inc(usage.prompt_tokens)
        metrics.output_tokens.labels(tenant).inc(usage.completion_tokens)
        metrics.model_tokens.labels(self._model).inc(usage.total_tokens)

    def _outcome(self) -> Outcome:
        mine = self._record
        mine.completion_tokens = sum(self._tokens)
        mine.queue_seconds = self._generations[0].queue_seconds
        if all(generation.queue_seconds is None for generation in self._generations):
            mine.prompt_tokens = 0  # it ended in the queue: no guest has read the prompt
        if not self.unfinished:
            status, finish = Status.FINISHED, mine.finish
        elif mine.error is not None:
            status, finish = Status.FAILED, mine.error.code
        else:
            status, finish = Status.CANCELLED, None
        timings = Timings(mine.queue_seconds, mine.ttft_seconds, mine.seconds())
        return Outcome(mine.prompt_tokens, mine.completion_tokens, status, finish, timings)

    def _read(self, index: int) -> None:
        self._reads[asyncio.ensure_future(self._generations[index].next_event())] = index

    def _finish(self, index: int, finished: Finished) -> None:
        if finished.reason is FinishReason.CANCELLED:
            raise ConnectionResetError("only a client that has gone cancels its request")
        self._record.finish = finished.reason.value
        self._tokens[index] = finished.completion_tokens
        self.unfinished -= 1

    def _count(self, index: int, token: Token) -> None:
        now, last = time.perf_counter_ns(), self._last_ns[index]
        if self._record.ttft_seconds is None:
            self._record.ttft_seconds = self._record.seconds()
            self._metrics.ttft.observe(self._record.ttft_seconds)
        if last is not None:
            self._metrics.inter_token.observe((now - last) / 1e9)
        self._last_ns[index] = now
        if token.counted:
            self._tokens[index] += 1
            self._metrics.generated.inc()


def _index(ready: tuple[int, Event]) -> int:
    return ready[0]
