"""From one revision to the next without losing a request, or back.

One replica after the other: a new one is started in a free slot, and only when it is ready is an old one
asked to leave. A new one that does not become ready ends the rollout: what has been replaced is put back
first, and then the new ones go.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from realm_reference.deploy.errors import NotReady
from realm_reference.deploy.local.replicas import Replica, last_words, look
from realm_reference.deploy.local.state import SLOTS, State
from realm_reference.deploy.local.supervisor import ENDED, UP, Supervisor

_POLL_SECONDS: Final = 0.1
Report = Callable[[str], None]


class Rollout:
    """Brings the replicas of a deployment to a revision."""

    def __init__(self, state: State, supervisor: Supervisor, ready_seconds: float, report: Report) -> None:
        """`ready_seconds` is what a replica has to become ready; `report` gets one line a step."""
        self._state = state
        self._supervisor = supervisor
        self._ready_seconds = ready_seconds
        self._report = report

    def to(self, revision: int) -> None:
        """Run `revision` in place of whatever runs. Raises NotReady when it does not become ready; then
        everything is as it was before.
        """
        wanted = self._state.plan(revision).replicas
        old = self._in_use()
        new: list[int] = []
        gone: list[int | None] = []  # the revisions of those that have left
        try:
            for _ in range(wanted):
                new.append(self._start(revision))
                self._wait_until_ready(new[-1])
                if len(old) > wanted - len(new):
                    gone.append(self._state.revision_of(old[0]))
                    self._leave(old.pop(0))
        except (NotReady, KeyboardInterrupt) as error:
            self._report(f"revision {revision} is taken back: {str(error) or 'interrupted'}")
            self._take_back(new, gone)
            raise
        for slot in old:
            self._leave(slot)
        for slot in set(SLOTS) - set(new):
            self._state.release(slot)  # also those that had been given up
        self._state.set_current(revision)

    def start_only(self, revision: int) -> None:
        """Start `revision` where nothing runs, and wait for nothing."""
        for _ in range(self._state.plan(revision).replicas):
            self._start(revision)
        self._state.set_current(revision)

    def _take_back(self, new: list[int], gone: list[int | None]) -> None:
        for revision in gone:
            if revision is not None:
                self._wait_until_ready(self._start(revision))
        for slot in new:
            self._leave(slot)

    def _in_use(self) -> list[int]:
        found = self._supervisor.processes().values()
        return sorted(process.slot for process in found if process.state in UP)

    def _start(self, revision: int) -> int:
        """Start a replica of `revision` in a slot that is free; the slot."""
        used = set(self._in_use())
        slot = next(slot for slot in SLOTS if slot not in used)
        self._state.assign(slot, revision)
        self._supervisor.start_slot(slot)
        self._report(f"replica {slot:02}: revision {revision} starts")
        return slot

    def _wait_until_ready(self, slot: int) -> None:
        deadline = time.monotonic() + self._ready_seconds
        first = self._supervisor.processes()[slot]
        while True:
            process = self._supervisor.processes()[slot]
            # supervisord starts one that has ended anew: with another pid it is not the one that was started.
            if process.state in ENDED or process.pid != first.pid:
                raise NotReady(f"replica {slot:02} ended: {last_words(self._state, process)}")
            replica: Replica = look(self._state, process)
            if replica.ready:
                self._report(f"replica {slot:02}: ready")
                return
            if time.monotonic() > deadline:
                raise NotReady(
                    f"replica {slot:02} is not ready after {self._ready_seconds:g} s: {replica.reason}"
                )
            time.sleep(_POLL_SECONDS)

    def _leave(self, slot: int) -> None:
        """Ask a replica to leave and wait until it has gone."""
        self._report(f"replica {slot:02}: leaves")
        self._supervisor.stop_slot(slot)
        while self._supervisor.processes()[slot].state in UP:
            time.sleep(_POLL_SECONDS)
        self._state.release(slot)
