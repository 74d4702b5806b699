"""One load test in several processes, here or on other machines: locust's master and its workers.

Locust divides users, carries reports and hears heartbeats. What it lacks is here: the settings and one moment
to begin, told by the master; clocks that need not agree; an end that waits for every worker's last report
(locust waits half a second); the name of a worker that was lost; and a share of the arrivals for one that
comes in its place.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from time import monotonic, perf_counter_ns, time_ns
from typing import Any

import gevent
from gevent.event import Event

from realm_loadtests.records.collector import Collector
from realm_loadtests.settings import Settings
from realm_loadtests.users.arrivals import Arrivals, ArrivalsError
from realm_loadtests.users.tenants import TenantsError, read_tenants

START_MESSAGE, CLOCK_MESSAGE, REFUSAL_MESSAGE = "realm_start", "realm_clock", "realm_refusal"
HEAD_START_MS = 500
"""How long before the run's start the master tells it: workers that hear of it later than that send late."""
WATCH_S = 0.5
LAST_REPORT_S = 5.0
"""How long after the drain the master waits for a last report: longer than a heartbeat may fail."""
CLOCK_QUESTIONS = 8
_ANSWER_S = 1.0


class Master:
    """The master's part. `end` belongs before locust's own quit, however the run comes to its end."""

    def __init__(self, environment: Any, collector: Collector, settings: Settings) -> None:
        self._environment, self._runner = environment, environment.runner
        self._collector, self._settings = collector, settings
        self._wall_ns = 0
        self._parts: dict[str, int | None] = {}  # by client: its share of the arrivals
        self._last: set[str] = set()  # clients whose last report is there
        self._lost: dict[str, float] = {}
        self._reasons: dict[str, str] = {}
        self._runner.register_message(CLOCK_MESSAGE, self._tell_time)
        self._runner.register_message(REFUSAL_MESSAGE, self._hear_refusal)
        events = environment.events
        events.worker_report.add_listener(self._receive)
        events.worker_connect.add_listener(self._connected)
        events.quitting.add_listener(lambda **_: self.end())

    def begin(self) -> int:
        """Tell all workers when to begin; returns that moment by this process's `perf_counter_ns`."""
        self._wall_ns = time_ns() + HEAD_START_MS * 1_000_000
        here_ns = perf_counter_ns() + HEAD_START_MS * 1_000_000
        for each in (self._parts, self._last, self._lost, self._reasons):
            each.clear()
        for client in self._runner.clients.all:
            self._tell_start(client.id)
        gevent.spawn(self._watch)
        return here_ns

    def end(self) -> None:
        """Let the workers' streams come to their ends, and wait for what they have to report."""
        if not self._parts:
            return
        self._collector.stop()
        self._runner.stop(send_stop_to_client=False)
        if len(self._last) + len(self._lost) < len(self._parts):
            self._runner.send_message("quit")
        limit = monotonic() + self._settings.drain_s + LAST_REPORT_S
        while self._waited_for() and monotonic() < limit:
            gevent.sleep(0.02)
            self._find_lost()
        for client in self._waited_for():
            self._lost.setdefault(client, self._collector.window_s)
        self._collector.lost_workers = [self._sentence(client) for client in self._lost]

    def _tell_start(self, client: str) -> None:
        free = set(range(self._settings.processes)) - {
            part for other, part in self._parts.items() if other not in self._lost
        }
        self._parts[client] = min(free, default=None)
        settings = asdict(replace(self._settings, folder=None))
        told = {"wall_ns": self._wall_ns, "part": self._parts[client], "settings": settings}
        self._runner.send_message(START_MESSAGE, told, client_id=client)

    def _connected(self, client_id: str, **_: Any) -> None:
        """One that comes while the run goes on takes the place of a lost one."""
        if self._wall_ns and self._collector.running and client_id not in self._parts:
            self._tell_start(client_id)

    def _tell_time(self, msg: Any, **_: Any) -> None:
        answer = {"asked_ns": msg.data["asked_ns"], "wall_ns": time_ns()}
        self._runner.send_message(CLOCK_MESSAGE, answer, client_id=msg.node_id)

    def _hear_refusal(self, msg: Any, **_: Any) -> None:
        self._reasons[msg.node_id] = msg.data["reason"]

    def _receive(self, client_id: str, data: dict[str, Any], **_: Any) -> None:
        if self._collector.receive(data):
            self._last.add(client_id)

    def _waited_for(self) -> set[str]:
        return self._parts.keys() - self._last - self._lost.keys()

    def _find_lost(self) -> None:
        for client in self._waited_for():
            node = self._runner.clients.get(client)
            if node is None or node.state == "missing":
                self._lost[client] = self._collector.window_s

    def _watch(self) -> None:
        """Notice workers that are lost; without any left, the run is over."""
        while self._collector.running:
            gevent.sleep(WATCH_S)
            self._find_lost()
            if self._collector.running and not self._parts.keys() - self._last - self._lost.keys():
                self._collector.stop()
                self._runner.quit()

    def _sentence(self, client: str) -> str:
        host = client.rpartition("_")[0]
        reason = self._reasons.get(client)
        said = f": {reason}" if reason else ""
        index = self._runner.get_worker_index(client)
        return f"worker {index} on {host} was lost {self._lost[client]:.1f} s after the start{said}"


class Worker:
    """A worker's part; `use` takes the settings and the share of the arrivals that the master tells.

    `started_ns` is when the run began by this process's `perf_counter_ns`; None until the master has told.
    """

    def __init__(
        self, environment: Any, collector: Collector, use: Callable[[Settings, int | None], None]
    ) -> None:
        self._environment, self._runner, self._collector = environment, environment.runner, collector
        self._use = use
        self.started_ns: int | None = None
        self._ahead: tuple[int, int] = (sys.maxsize, 0)  # round trip, master's clock less ours
        self._answered = Event()
        self._runner.register_message(START_MESSAGE, self._told)
        self._runner.register_message(CLOCK_MESSAGE, self._time_told)
        environment.events.report_to_master.add_listener(lambda data, **_: collector.report(data))
        environment.events.test_stop.add_listener(lambda **_: collector.end())
        environment.events.quitting.add_listener(lambda **_: self._leave())
        gevent.spawn(self._ask_time)

    def _told(self, msg: Any, **_: Any) -> None:
        round_trip, ahead = self._ahead
        # Less than the question took is no difference: the answer may have taken all of it.
        here_ns = msg.data["wall_ns"] - (ahead if abs(ahead) > round_trip else 0)
        self.started_ns = perf_counter_ns() + here_ns - time_ns()
        try:
            settings = _understood(msg.data["settings"])
        except (TypeError, ArrivalsError, TenantsError) as error:
            print(f"realm load worker: {error}", file=sys.stderr, flush=True)
            self._runner.send_message(REFUSAL_MESSAGE, {"reason": str(error)})
            self._environment.process_exit_code = 2
            gevent.spawn(self._runner.quit)
            return
        self._use(settings, msg.data["part"])

    def _ask_time(self) -> None:
        """The quickest of some answers says best how the clocks differ."""
        for _ in range(CLOCK_QUESTIONS):
            self._answered.clear()
            self._runner.send_message(CLOCK_MESSAGE, {"asked_ns": time_ns()})
            self._answered.wait(_ANSWER_S)

    def _time_told(self, msg: Any, **_: Any) -> None:
        now, asked = time_ns(), msg.data["asked_ns"]
        self._ahead = min(self._ahead, (now - asked, msg.data["wall_ns"] - (asked + now) // 2))
        self._answered.set()

    def _leave(self) -> None:
        """Told to go by a signal, a worker says what it has, as at the end of a run."""
        if self._collector.running:
            self._runner.stop()
            self._runner._send_stats()


def _understood(document: dict[str, Any]) -> Settings:
    """The settings as a master told them, looked at here: files that they name are on this machine or not."""
    try:
        settings = Settings(**document)
    except TypeError as error:
        raise TypeError(f"the master runs another version of realm-harness ({error})") from None
    if settings.arrivals:
        Arrivals.parse(settings.arrivals)
    if settings.tenants:
        read_tenants(Path(settings.tenants))
    return settings
