"""What `locust -f` runs: the users, with their measures tied to locust's life cycle.

`realm load` starts it; so can anybody who wants locust's own options (a web UI, workers on other machines).
"""

from __future__ import annotations

import gc
import json
import sys
from time import perf_counter_ns, time_ns
from typing import Any

import gevent
from locust import User, events
from locust.runners import MasterRunner, WorkerRunner

from realm_loadtests.records.collector import Collector
from realm_loadtests.settings import Settings
from realm_loadtests.users import closedloop as user
from realm_loadtests.users import openloop

PROGRESS_INTERVAL_S = 1.0
LAG_INTERVAL_MS = 20
START_MESSAGE = "realm_start"
HEAD_START_MS = 500
"""How long before the run's start the master tells it: workers that hear of it later than that send late."""


def _user_class() -> type[User]:
    """The one class that locust finds in this module."""
    if Settings.from_environment().arrivals:
        return openloop.OpenLoopUser
    return user.StreamingUser


TheUser = _user_class()


def _on_init(environment: Any, runner: Any, **_: Any) -> None:
    """Give this process its collector, and connect it according to the process's role."""
    settings = Settings.from_environment(environment.host)
    is_worker = isinstance(runner, WorkerRunner)
    collector = Collector(None if is_worker else settings.output)
    collector.is_worker = is_worker
    for kind in (user.StreamingUser, openloop.OpenLoopUser):
        kind.settings, kind.collector = settings, collector
    openloop.OpenLoopUser.parts = settings.processes
    environment.stop_timeout = settings.drain_s
    _connect_start(environment, runner, collector)
    environment.events.test_stopping.add_listener(lambda **_: collector.stop())
    if not isinstance(runner, MasterRunner):
        gevent.spawn(_watch_lag, collector)
    if is_worker:
        environment.events.report_to_master.add_listener(lambda data, **_: collector.report(data))
        return
    if isinstance(runner, MasterRunner):
        environment.events.worker_report.add_listener(lambda data, **_: collector.receive(data))
    if settings.output:
        environment.events.test_start.add_listener(
            lambda **_: gevent.spawn(_end_after, environment, collector, settings.duration_s)
        )
        gevent.spawn(_show_progress, runner, collector)
    environment.events.quit.add_listener(lambda **_: collector.finish())


def _connect_start(environment: Any, runner: Any, collector: Collector) -> None:
    """Let all processes begin at one moment, which the master names, by the wall clock, beforehand."""
    told: list[int] = []
    if isinstance(runner, WorkerRunner):
        environment.runner.register_message(START_MESSAGE, lambda msg, **_: told.append(msg.data["wall_ns"]))
        environment.events.test_start.add_listener(
            lambda **_: _start(collector, told.pop() if told else None)
        )
        return

    def begin(**_: Any) -> None:
        wall_ns = None
        if isinstance(runner, MasterRunner):
            wall_ns = time_ns() + HEAD_START_MS * 1_000_000
            runner.send_message(START_MESSAGE, {"wall_ns": wall_ns})
        _start(collector, wall_ns)

    environment.events.test_start.add_listener(begin)


def _start(collector: Collector, wall_ns: int | None) -> None:
    """Begin the window, with all that is loaded by now out of the garbage collector's sight.

    A full collection over locust's imports stops every stream of the process for tens of milliseconds, which
    would be reported as the server's.
    """
    gc.collect()
    gc.freeze()
    collector.start(None if wall_ns is None else perf_counter_ns() + wall_ns - time_ns())


def _watch_lag(collector: Collector) -> None:
    """Measure, all the time that users run, how late the process comes to what it could do at once."""
    while True:
        due = perf_counter_ns() + LAG_INTERVAL_MS * 1_000_000
        gevent.sleep(LAG_INTERVAL_MS / 1000)
        if collector.running:
            collector.add_lag(max(0, perf_counter_ns() - due) // 1000)


def _end_after(environment: Any, collector: Collector, duration_s: float) -> None:
    """End the test when its duration is over.

    Locust's own --run-time counts from a clock that stood still while locust was starting, and ends a test
    up to half a second early.
    """
    while (left := duration_s - collector.window_s) > 0:
        gevent.sleep(left)
    environment.runner.quit()
    if environment.web_ui:
        environment.web_ui.stop()


def _show_progress(runner: Any, collector: Collector) -> None:
    """Write a line of JSON each second to whoever started the test; end it if nobody is left to read."""
    while True:
        gevent.sleep(PROGRESS_INTERVAL_S)
        measures = collector.measures
        ttft, itl = measures.ttft.quantiles_us([0.5]), measures.itl.quantiles_us([0.5, 0.99])
        state = {
            "elapsed_s": collector.window_s,
            "users": runner.user_count,
            "completed": measures.completed,
            "failed": measures.failed,
            "tokens": measures.tokens,
            "stopping": collector.stopped is not None,
            "ttft_p50_us": ttft[0],
            "itl_p50_us": itl[0],
            "itl_p99_us": itl[1],
        }
        try:
            print(json.dumps(state), file=sys.stdout, flush=True)
        except OSError:
            runner.quit()
            return


_events: Any = events  # locust has no types for its hooks
_events.init.add_listener(_on_init)
