"""The locust user: asks, reads the stream from its own socket, records, asks again."""

from __future__ import annotations

import itertools
import json
import os
from time import perf_counter_ns
from typing import Any, ClassVar, Literal

import gevent
from locust import User, task

from realm_loadtests.collector import Collector
from realm_loadtests.connection import Connection, Target, build_request
from realm_loadtests.exchange import Timing, stream_chat
from realm_loadtests.failures import ExchangeFailure
from realm_loadtests.records import Outcome, Record
from realm_loadtests.scenarios.chat import Chat, user_random
from realm_loadtests.settings import KEY_VARIABLE, Settings

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 2.0
PATH = "/chat/completions"


class StreamingUser(User):
    """A closed-loop user: the next request follows directly on the last one's end.

    After a failure it pauses, longer each time, so that a dead server is not hammered and the failures of a
    run stay in proportion to its requests.
    """

    settings: ClassVar[Settings]
    collector: ClassVar[Collector]
    _numbers: ClassVar[Any] = itertools.count()

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        self._number = next(self._numbers)
        # -1 is locust's answer for a worker that the master has not numbered.
        self._worker = max(0, getattr(environment.runner, "worker_index", 0))
        self._random = user_random(self.settings.seed, self._worker, self._number)
        self._scenario = Chat(self.settings)
        self._target = Target.parse(self.settings.url)
        self._connection = Connection(self._target)
        self._pause = FIRST_PAUSE_S

    def on_stop(self) -> None:
        """Close the connection with the user."""
        self._connection.close()

    @task
    def ask(self) -> None:
        """Send one request and record what came of it, however it ends."""
        body = json.dumps(self._scenario.next_body(self._random)).encode()
        request = build_request(self._target, "POST", PATH, body=body, api_key=os.environ.get(KEY_VARIABLE))
        timing = Timing()
        try:
            with gevent.Timeout(self.settings.timeout_s, TimeoutError()):
                stream_chat(self._connection, request, timing, timeout=None)
        except ExchangeFailure as failure:
            self._end(timing, "failed", failure)
            gevent.sleep(self._pause)
            self._pause = min(2 * self._pause, LONGEST_PAUSE_S)
        except gevent.GreenletExit:
            timing.ended = perf_counter_ns()
            self._end(timing, "cut", None)
            raise
        else:
            self._end(timing, "completed", None)
            self._pause = FIRST_PAUSE_S

    def _end(self, timing: Timing, outcome: Outcome, failure: ExchangeFailure | None) -> None:
        record = self._record(timing, outcome, failure)
        self.collector.add(record)
        if outcome != "cut":
            self.environment.events.request.fire(
                request_type="POST",
                name=PATH,
                response_time=record.e2e_us / 1000,
                response_length=record.tokens,
                exception=failure,
                context={},
            )

    def _record(self, timing: Timing, outcome: Outcome, failure: ExchangeFailure | None) -> Record:
        answer, sent = timing.answer, timing.sent
        # A stream that did not come to its end has no count of the server's to go by.
        whole = outcome == "completed"
        tokens = answer.tokens if whole else len(answer.token_times)
        counted_by: Literal["usage", "events"] = (
            "usage" if whole and answer.completion_tokens is not None else "events"
        )
        return Record(
            outcome=outcome,
            at_us=(sent - self.collector.started) // 1000,
            e2e_us=(timing.ended - sent) // 1000,
            connect_us=timing.connect // 1000,
            token_us=[(stamp - sent) // 1000 for stamp in answer.token_times],
            tokens=tokens,
            window_tokens=tokens * _share_before(answer.token_times, self.collector.stopped),
            tokens_by=counted_by,
            prompt_tokens=answer.prompt_tokens,
            finish_reason=answer.finish_reason,
            status=timing.status,
            response_id=answer.response_id,
            error=failure.kind if failure else None,
            detail=failure.detail if failure else None,
            worker=self._worker,
            user=self._number,
        )


def _share_before(stamps: list[int], end: int | None) -> float:
    """The part of the token events that came before the window's end, 0 to 1."""
    if end is None or not stamps or stamps[-1] <= end:
        return 1.0
    return sum(stamp <= end for stamp in stamps) / len(stamps)
