"""One request of a locust user's, sent, read and recorded; the closed and the open loop share it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter_ns
from typing import Any, Literal

import gevent

from realm_loadtests.records.collector import Collector
from realm_loadtests.records.records import Outcome, Record
from realm_loadtests.scenarios import Ask, Scenario
from realm_loadtests.settings import KEY_VARIABLE, Settings
from realm_loadtests.users.lines import PATH, Line, line_to
from realm_loadtests.users.tenants import Tenant, Turns, read_tenants
from realm_loadtests.wire.exchange import HungUp, Timing
from realm_loadtests.wire.failures import ExchangeFailure


@dataclass
class _Sending:
    """A request under way: what is asked, whose it is, when it was meant to start, and its stamps."""

    ask: Ask
    user: int
    tenant: str
    intended: int | None
    timing: Timing = field(default_factory=Timing)

    @property
    def late_us(self) -> int | None:
        return None if self.intended is None else max(0, self.timing.sent - self.intended) // 1000


class Asker:
    """Asks for one process's users."""

    def __init__(self, environment: Any, settings: Settings, collector: Collector) -> None:
        self._environment = environment
        self._settings = settings
        self._collector = collector
        self._turns = Turns(read_tenants(Path(settings.tenants))) if settings.tenants else None
        # -1 is locust's answer for a worker that the master has not numbered.
        self.worker = max(0, getattr(environment.runner, "worker_index", 0))

    def line(self, user: int) -> Line:
        """A line to the target for this user, with its tenant's key; not yet open."""
        tenant = self._tenant(user)
        return line_to(self._settings.url, tenant.key if tenant else os.environ.get(KEY_VARIABLE))

    def tenant_name(self, user: int) -> str:
        """Whose requests this user's are; empty in a run without tenants."""
        tenant = self._tenant(user)
        return tenant.name if tenant else ""

    def ask(
        self, line: Line, scenario: Scenario, user: int, intended: int | None = None
    ) -> ExchangeFailure | None:
        """Send the scenario's next request and record what came of it, however it ends; returns its failure,
        if it failed.

        `user` is the user's number, or the arrival's; `intended` the moment (`perf_counter_ns`) at which an
        open loop meant to send it.
        """
        ask = scenario.next()
        sending = _Sending(ask, user, self.tenant_name(user), intended)
        timing = sending.timing
        self._collector.open = (self._collector.open or 0) + 1
        try:
            with gevent.Timeout(self._settings.timeout_s, TimeoutError()):
                line.ask(ask, timing)
        except HungUp:
            self._end(sending, "cancelled", None)
            return None
        except ExchangeFailure as failure:
            self._end(sending, "slow" if ask.read_pause_s else "failed", failure)
            return failure
        except gevent.GreenletExit:
            timing.ended = perf_counter_ns()
            self._end(sending, "cut", None)
            raise
        self._end(sending, "slow" if ask.read_pause_s else "completed", None)
        scenario.heard("".join(timing.answer.texts))
        return None

    def _tenant(self, user: int) -> Tenant | None:
        if self._turns is None:
            return None
        # Users and arrivals are numbered in each worker by itself: the workers' numbers must not coincide.
        return self._turns.of(user * self._settings.processes + self.worker)

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
                    tenant=self.tenant_name(user),
                )
            )

    def _end(self, sending: _Sending, outcome: Outcome, failure: ExchangeFailure | None) -> None:
        self._collector.open = (self._collector.open or 1) - 1
        record = self._record(sending, outcome, failure)
        self._collector.add(record)
        if outcome in ("completed", "failed"):
            self._environment.events.request.fire(
                request_type="POST",
                name=PATH,
                response_time=record.start_e2e_us / 1000,
                response_length=record.tokens,
                exception=failure,
                context={},
            )

    def _record(self, sending: _Sending, outcome: Outcome, failure: ExchangeFailure | None) -> Record:
        timing = sending.timing
        answer, sent = timing.answer, timing.sent
        # A stream that did not come to its end has no count of the server's to go by.
        whole = outcome in ("completed", "slow") and failure is None
        tokens = answer.tokens if whole else len(answer.token_times)
        counted_by: Literal["usage", "events"] = (
            "usage" if whole and answer.completion_tokens is not None else "events"
        )
        in_window = _number_before(answer.token_times, self._collector.stopped)
        return Record(
            outcome=outcome,
            at_us=(sent - self._collector.started) // 1000,
            e2e_us=(timing.ended - sent) // 1000,
            connect_us=timing.connect // 1000,
            first_event_us=None if answer.first_event is None else (answer.first_event - sent) // 1000,
            token_us=[(stamp - sent) // 1000 for stamp in answer.token_times],
            tokens=tokens,
            window_tokens=round(tokens * in_window / (len(answer.token_times) or 1)),
            window_events=in_window,
            tokens_by=counted_by,
            prompt_tokens=answer.prompt_tokens,
            finish_reason=answer.finish_reason,
            status=timing.status,
            response_id=answer.response_id,
            error=failure.kind if failure else None,
            detail=failure.detail if failure else None,
            worker=self.worker,
            user=sending.user,
            late_us=sending.late_us,
            tenant=sending.tenant,
            wanted_prompt_tokens=sending.ask.prompt_tokens,
            wanted_tokens=sending.ask.output_tokens,
        )


def _number_before(stamps: list[int], end: int | None) -> int:
    """How many token events came before the window's end."""
    if end is None or not stamps or stamps[-1] <= end:
        return len(stamps)
    return sum(stamp <= end for stamp in stamps)
