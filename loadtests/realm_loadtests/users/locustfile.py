"""What `locust -f` runs: the users, with their measures tied to locust's life cycle.

`realm load` starts it; so can anybody who wants locust's own options (a web UI, workers on other machines).
"""

from __future__ import annotations

import gc
import inspect
import json
import sys
from collections.abc import Callable
from time import perf_counter_ns
from typing import Any

import gevent
from locust import events
from locust.runners import MasterRunner, WorkerRunner

from realm_loadtests.records.collector import Collector
from realm_loadtests.settings import Settings, joined_folder
from realm_loadtests.users.closedloop import StreamingUser
from realm_loadtests.users.distributed import Master, Worker
from realm_loadtests.users.live import show_in_web_ui, state
from realm_loadtests.users.openloop import OpenLoopUser

PROGRESS_INTERVAL_S = 1.0
LAG_INTERVAL_MS = 20


def _on_init(environment: Any, runner: Any, **_: Any) -> None:
    """Give this process its collector, and connect it according to the process's role."""
    settings = Settings.from_environment(environment.host)
    is_worker = isinstance(runner, WorkerRunner)
    joined = joined_folder()
    collector = Collector(joined or settings.output, is_worker=is_worker, is_remote=joined is not None)
    _use(settings, collector)
    if not is_worker:  # which has both, and is told the one
        environment.user_classes = [OpenLoopUser if settings.arrivals else StreamingUser]
    environment.stop_timeout = settings.drain_s
    end = _connect_start(environment, collector, settings)
    environment.events.test_stopping.add_listener(lambda **_: collector.stop())
    if not isinstance(runner, MasterRunner):
        gevent.spawn(_watch_lag, collector)
    if is_worker:
        return
    if environment.web_ui:
        show_in_web_ui(environment.web_ui, collector)
    if settings.output:
        environment.events.test_start.add_listener(
            lambda **_: gevent.spawn(_end_after, environment, collector, settings.duration_s, end)
        )
        gevent.spawn(_show_progress, environment, collector)
        environment.events.quit.add_listener(lambda **_: _say(collector.finish()))


def _use(settings: Settings, collector: Collector, part: int | None = None) -> None:
    """Give the users what they need; `part` is this worker's share of the arrivals."""
    for kind in (StreamingUser, OpenLoopUser):
        kind.settings, kind.collector = settings, collector
    OpenLoopUser.parts, OpenLoopUser.part = settings.processes, part


def _connect_start(environment: Any, collector: Collector, settings: Settings) -> Callable[[], None]:
    """Let all processes begin at one moment, which the master names beforehand; returns what their common end
    needs before locust's own.
    """
    started = environment.events.test_start.add_listener

    def alone(**_: Any) -> None:
        OpenLoopUser.part = 0
        _start(collector, None)

    if isinstance(environment.runner, WorkerRunner):
        worker = Worker(environment, collector, lambda told, part: _use(told, collector, part))
        started(lambda **_: _start(collector, worker.started_ns))
    elif isinstance(environment.runner, MasterRunner):
        master = Master(environment, collector, settings)
        started(lambda **_: _start(collector, master.begin()))
        return master.end
    else:
        started(alone)
    return lambda: None


def _start(collector: Collector, at_ns: int | None) -> None:
    """Begin the window, with all that is loaded by now out of the garbage collector's sight.

    A full collection over locust's imports stops every stream of the process for tens of milliseconds, which
    would be reported as the server's. So does the first look at the stack, which locust takes when it stops.
    """
    inspect.stack()
    gc.collect()
    gc.freeze()
    collector.start(at_ns)


def _watch_lag(collector: Collector) -> None:
    """Measure, all the time that users run, how late the process comes to what it could do at once."""
    while True:
        due = perf_counter_ns() + LAG_INTERVAL_MS * 1_000_000
        gevent.sleep(LAG_INTERVAL_MS / 1000)
        if collector.running:
            collector.add_lag(max(0, perf_counter_ns() - due) // 1000)


def _end_after(environment: Any, collector: Collector, duration_s: float, end: Callable[[], None]) -> None:
    """End the test when its duration is over.

    Locust's own --run-time counts from a clock that stood still while locust was starting, and ends a test
    up to half a second early.
    """
    while (left := duration_s - collector.window_s) > 0:
        gevent.sleep(left)
    end()
    _quit(environment)


def _quit(environment: Any) -> None:
    """End this process: with a web UI, locust would stay for its sake."""
    environment.runner.quit()
    if environment.web_ui:
        environment.web_ui.stop()


def _show_progress(environment: Any, collector: Collector) -> None:
    """Write a line of JSON each second to whoever started the test; end it if nobody is left to read."""
    while True:
        gevent.sleep(PROGRESS_INTERVAL_S)
        if not _say(state(collector, environment.runner.user_count)):
            _quit(environment)
            return


def _say(document: dict[str, Any]) -> bool:
    """Write a line of JSON to whoever started the test: is somebody there to read it? Not to the disk,
    which may be full.
    """
    try:
        print(json.dumps(document), file=sys.stdout, flush=True)
    except OSError:
        return False
    return True


_events: Any = events  # locust has no types for its hooks
_events.init.add_listener(_on_init)
