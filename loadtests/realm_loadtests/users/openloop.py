"""The open loop: requests start when they were meant to, whether or not earlier ones have been answered.

One such user a process, whatever the number of streams: it wakes at each moment of its share of the arrivals
and lets a greenlet ask. Locust's own `constant_throughput` starts all users in phase and waits for answers;
the moments here count from one start that all processes share, so they neither bunch nor drift.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from time import perf_counter_ns
from typing import Any, ClassVar, Final

import gevent
from gevent.pool import Pool
from locust import User, task

from realm_loadtests.records.collector import Collector
from realm_loadtests.scenarios import user_scenario
from realm_loadtests.settings import Settings
from realm_loadtests.users.arrivals import Arrivals
from realm_loadtests.users.asking import Asker
from realm_loadtests.users.lines import Line

_LATECOMER: Final = 2.0  # seconds; who starts its users so long after the others has come in later
_COARSE: Final = 0.0012  # seconds: a sleep may be a millisecond too long, so the last is waited for in turns


class OpenLoopUser(User):
    """Sends this process's share of the arrivals, as many streams at a time as its share of `users`; past
    them the next waits, and its lateness tells.
    """

    settings: ClassVar[Settings]
    collector: ClassVar[Collector]
    parts: ClassVar[int]
    """Processes that share the arrivals."""
    part: ClassVar[int | None]
    """This process's share; None if all are taken. A user takes it: locust may give a second one to this
    process, for a worker that was lost, and must not have the arrivals sent twice.
    """

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        self._asker = Asker(environment, self.settings, self.collector)
        self._idle: dict[str, list[Line]] = {}  # by tenant: a line may carry one key for good
        self._streams = Pool(max(1, self.settings.users // self.parts))

    def on_stop(self) -> None:
        """Close the connections with the user."""
        for line in itertools.chain(*self._idle.values()):
            line.close()

    @task
    def run_all(self) -> None:
        """The whole schedule, then the wait for its last answers; locust ends that when the drain is over."""
        moments = self._take_moments()
        unsent: list[tuple[int, float]] = []
        try:
            for number, moment in moments:
                unsent = [(number, moment)]
                if not self._wait_until(intended := self._intended(moment)):
                    break
                self._streams.spawn(self._ask, number, intended)
                unsent = []
            self._streams.join()
            while self.collector.stopped is None:
                gevent.sleep(0.1)
        finally:
            self._streams.kill()
            for number, moment in itertools.chain(unsent, moments):
                self._asker.miss(number, self._intended(moment))

    def _take_moments(self) -> Iterator[tuple[int, float]]:
        """The moments of this process's share, numbered. One that comes later, in a lost worker's place,
        leaves what is past to it.
        """
        settings, cls = self.settings, type(self)
        part, cls.part = cls.part, None
        if part is None:
            return iter(())
        share = Arrivals.parse(settings.arrivals or "").share(
            settings.seed, settings.duration_s, part, self.parts
        )
        past_s = (perf_counter_ns() - self.collector.started) / 1e9
        if past_s < _LATECOMER:
            past_s = 0.0
        return itertools.dropwhile(lambda each: each[1] < past_s, enumerate(share))

    def _intended(self, moment: float) -> int:
        return self.collector.started + round(moment * 1e9)

    def _wait_until(self, intended: int) -> bool:
        """Sleep until the moment; False if the run is stopped before it."""
        while (left := (intended - perf_counter_ns()) / 1e9) > 0:
            gevent.sleep(max(0.0, left - _COARSE))
            if self.collector.stopped is not None and self.collector.stopped <= intended:
                return False
        return True

    def _ask(self, number: int, intended: int) -> None:
        scenario = user_scenario(self.settings, self._asker.worker, number)
        idle = self._idle.setdefault(self._asker.tenant_name(number), [])
        line = idle.pop() if idle else self._asker.line(number)
        try:
            self._asker.ask(line, scenario, number, intended)
        finally:
            idle.append(line)
