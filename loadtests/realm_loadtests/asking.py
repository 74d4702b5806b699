"""One request of a locust user's, sent, read and recorded; the closed and the open loop share it."""

from __future__ import annotations

import json
import os
from time import perf_counter_ns
from typing import Any, Literal

import gevent

from realm_loadtests.collector import Collector
from realm_loadtests.connection import Connection, Target, build_request
from realm_loadtests.exchange import Timing, stream_chat
from realm_loadtests.failures import ExchangeFailure
from realm_loadtests.records import Outcome, Record
from realm_loadtests.settings import KEY_VARIABLE, Settings

PATH = "/chat/completions"


class Asker:
    """Asks for one process's users."""

    def __init__(self, environment: Any, settings: Settings, collector: Collector) -> None:
        self._environment = environment
        self._settings = settings
        self._collector = collector
        self._target = Target.parse(settings.url)
        # -1 is locust's answer for a worker that the master has not numbered.
        self.worker = max(0, getattr(environment.runner, "worker_index", 0))

    def connect(self) -> Connection:
        """A connection to the target, not yet open."""
        return Connection(self._target)

    def ask(
        self, connection: Connection, body: dict[str, Any], user: int, intended: int | None = None
    ) -> ExchangeFailure | None:
        """Send a request and record what came of it, however it ends; returns the failure, if it failed.

        `intended` is the moment (`perf_counter_ns`) at which an open loop meant to send it.
        """
        request = build_request(
            self._target,
            "POST",
            PATH,
            body=json.dumps(body).encode(),
            api_key=os.environ.get(KEY_VARIABLE),
        )
        timing = Timing()
        try:
            with gevent.Timeout(self._settings.timeout_s, TimeoutError()):
                stream_chat(connection, request, timing, timeout=None)
        except ExchangeFailure as failure:
            self._end(timing, "failed", failure, user, intended)
            return failure
        except gevent.GreenletExit:
            timing.ended = perf_counter_ns()
            self._end(timing, "cut", None, user, intended)
            raise
        self._end(timing, "completed", None, user, intended)
        return None

    def miss(self, user: int, intended: int) -> None:
        """Record a request that was due within the run and never sent: no stream was free for it."""
        if self._collector.stopped is not None and intended < self._collector.stopped:
            at_us = (intended - self._collector.started) // 1000
            failure = ExchangeFailure("not_sent", "no stream was free for it before the run's end")
            self._collector.add(
                Record(
                    "failed",
                    at_us,
                    0,
                    error=failure.kind,
                    detail=failure.detail,
                    worker=self.worker,
                    user=user,
                )
            )

    def _end(
        self,
        timing: Timing,
        outcome: Outcome,
        failure: ExchangeFailure | None,
        user: int,
        intended: int | None,
    ) -> None:
        late_us = None if intended is None else max(0, timing.sent - intended) // 1000
        record = self._record(timing, outcome, failure, user, late_us)
        self._collector.add(record)
        if outcome != "cut":
            self._environment.events.request.fire(
                request_type="POST",
                name=PATH,
                response_time=record.start_e2e_us / 1000,
                response_length=record.tokens,
                exception=failure,
                context={},
            )

    def _record(
        self,
        timing: Timing,
        outcome: Outcome,
        failure: ExchangeFailure | None,
        user: int,
        late_us: int | None,
    ) -> Record:
        answer, sent = timing.answer, timing.sent
        # A stream that did not come to its end has no count of the server's to go by.
        whole = outcome == "completed"
        tokens = answer.tokens if whole else len(answer.token_times)
        counted_by: Literal["usage", "events"] = (
            "usage" if whole and answer.completion_tokens is not None else "events"
        )
        return Record(
            outcome=outcome,
            at_us=(sent - self._collector.started) // 1000,
            e2e_us=(timing.ended - sent) // 1000,
            connect_us=timing.connect // 1000,
            token_us=[(stamp - sent) // 1000 for stamp in answer.token_times],
            tokens=tokens,
            window_tokens=tokens * _share_before(answer.token_times, self._collector.stopped),
            tokens_by=counted_by,
            prompt_tokens=answer.prompt_tokens,
            finish_reason=answer.finish_reason,
            status=timing.status,
            response_id=answer.response_id,
            error=failure.kind if failure else None,
            detail=failure.detail if failure else None,
            worker=self.worker,
            user=user,
            late_us=late_us,
        )


def _share_before(stamps: list[int], end: int | None) -> float:
    """The part of the token events that came before the window's end, 0 to 1."""
    if end is None or not stamps or stamps[-1] <= end:
        return 1.0
    return sum(stamp <= end for stamp in stamps) / len(stamps)
