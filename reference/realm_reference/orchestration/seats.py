"""Which waiting request gets a guest next. Fair to tenants: nobody waits behind another's flood."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Generic, TypeVar

from realm_reference.engine.fairqueue import FairQueue

T = TypeVar("T")


class QueueFull(Exception):
    """As many of the tenant's requests wait as may; try again later."""


class Seats(Generic[T]):
    """`seats` requests run; `waiting` more of each tenant may wait. Not thread-safe.

    A free seat goes to the tenant that holds the fewest. A tenant that holds none does not wait for one to
    get free: it takes an extra seat, of which there are as many again. So a tenant with long requests on
    every seat cannot keep the others out, and no seat has to stay empty in case somebody comes.
    """

    def __init__(self, seats: int, waiting: int) -> None:
        self._seats = seats
        self._places = seats + waiting
        self._queue: FairQueue[T] = FairQueue()
        self._held: Counter[str] = Counter()
        self._live: Counter[str] = Counter()
        self.running = 0

    @property
    def waiting(self) -> int:
        """Requests without a seat."""
        return len(self._queue)

    def check(self, tenant: str, count: int) -> None:
        """QueueFull if the tenant may not have `count` more requests."""
        if self._live[tenant] + count > self._places:
            raise QueueFull

    def enter(self, tenant: str, items: Sequence[T]) -> None:
        """To the end of the tenant's line."""
        self._live[tenant] += len(items)
        for item in items:
            self._queue.put(tenant, item)

    def next(self) -> T | None:
        """Seat one more, if there is one to seat."""
        tenant = self._queue.next_owner(self._held.__getitem__)
        if tenant is None:
            return None
        if self.running >= self._seats and (self._held[tenant] or self.running >= 2 * self._seats):
            return None
        self._held[tenant] += 1
        self.running += 1
        return self._queue.take(tenant)

    def leave(self, tenant: str) -> None:
        """A seated request of the tenant has ended."""
        self.running -= 1
        _less(self._held, tenant)
        _less(self._live, tenant)

    def withdraw(self, tenant: str, item: T) -> bool:
        """Take a waiting request out; False if it is not waiting."""
        there = self._queue.remove(tenant, item)
        if there:
            _less(self._live, tenant)
        return there


def _less(counts: Counter[str], tenant: str) -> None:
    counts[tenant] -= 1
    if not counts[tenant]:
        del counts[tenant]
