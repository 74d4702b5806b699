"""The closed-loop locust user: asks, reads the stream from its own socket, asks again."""

from __future__ import annotations

import itertools
from typing import Any, ClassVar

import gevent
from locust import User, task

from realm_loadtests.records.collector import Collector
from realm_loadtests.scenarios import user_scenario
from realm_loadtests.settings import Settings
from realm_loadtests.users.asking import Asker

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 2.0


class StreamingUser(User):
    """The next request follows directly on the last one's end.

    After a failure it pauses, longer each time, so that a dead server is not hammered and the failures of a
    run stay in proportion to its requests.
    """

    settings: ClassVar[Settings]
    collector: ClassVar[Collector]
    _numbers: ClassVar[Any] = itertools.count()

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        self._number = next(self._numbers)
        self._asker = Asker(environment, self.settings, self.collector)
        self._scenario = user_scenario(self.settings, self._asker.worker, self._number)
        self._line = self._asker.line(self._number)
        self._pause = FIRST_PAUSE_S

    def on_stop(self) -> None:
        """Close the connection with the user."""
        self._line.close()

    @task
    def ask(self) -> None:
        """One request and its whole answer."""
        if self._asker.ask(self._line, self._scenario, self._number) is None:
            self._pause = FIRST_PAUSE_S
            return
        gevent.sleep(self._pause)
        self._pause = min(2 * self._pause, LONGEST_PAUSE_S)
