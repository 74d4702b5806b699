"""A queue that is fair to owners (tenants), and the account that says whose turn it is."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from heapq import heapify, heappop, heappush
from typing import Final, Generic, TypeVar

T = TypeVar("T")

# What an owner that had little lately may use in one go before the others get their turns again: enough for
# the prefill of a usual prompt, so that its first token does not wait for a flood of others'.
BURST_SECONDS: Final = 0.5


class FairQueue(Generic[T]):
    """One line for each owner. Inside a line first come, first served. Not thread-safe."""

    def __init__(self) -> None:
        # The order of the owners is that in which they were served: whose last turn is longest ago is first.
        self._lines: dict[str, deque[T]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._lines.values()))

    def __iter__(self) -> Iterator[T]:
        for line in self._lines.values():
            yield from line

    def put(self, owner: str, item: T) -> None:
        """To the end of the owner's line."""
        self._lines.setdefault(owner, deque()).append(item)

    def next_owner(self, rank: Callable[[str], float]) -> str | None:
        """The owner of lowest rank; of several, the one that was not served for longest. None: empty."""
        return min(self._lines, key=rank, default=None)

    def take(self, owner: str) -> T:
        """The first item of the owner's line; its next turn comes after those of its rank."""
        line = self._lines.pop(owner)
        item = line.popleft()
        if line:
            self._lines[owner] = line
        return item

    def in_order(self, rank: Callable[[str], float]) -> Iterator[T]:
        """All items without taking them: each is the next of the owner whose rank is lowest then. An owner's
        rank may grow when one of its items has been looked at.
        """
        lines = {owner: deque(line) for owner, line in self._lines.items()}
        heap = [(rank(owner), turn, owner) for turn, owner in enumerate(lines)]
        heapify(heap)
        while heap:
            _, turn, owner = heappop(heap)
            yield lines[owner].popleft()
            if lines[owner]:
                heappush(heap, (rank(owner), turn + len(lines), owner))

    def served(self, owner: str) -> None:
        """The owner had a turn: its next comes after those of its rank."""
        if owner in self._lines:
            self._lines[owner] = self._lines.pop(owner)

    def remove(self, owner: str, item: T) -> bool:
        """Take `item` out of the line; whether it was there."""
        line = self._lines.get(owner, ())
        if item not in line:
            return False
        self._lines[owner].remove(item)
        if not self._lines[owner]:
            del self._lines[owner]
        return True


class Shares:
    """Who has used how much of the engine: start-time fair queueing, after Goyal, Vin and Cheng (1996).

    Each owner has a virtual time, which its steps' seconds move on; the one that is furthest behind goes
    first. Being idle saves up no more than `burst` seconds, so nobody can starve the others afterwards.
    """

    def __init__(self, burst: float = BURST_SECONDS) -> None:
        self._burst = burst
        self._now = 0.0
        self._used: dict[str, float] = {}

    def arrive(self, owner: str) -> None:
        """The owner has work: what it did not use in the past counts up to the burst."""
        floor = self._now - self._burst
        self._used[owner] = max(self._used.get(owner, floor), floor)

    def used(self, owner: str) -> float:
        """The owner's virtual time: its rank."""
        return self._used[owner]

    def begin(self, owner: str) -> None:
        """The owner's step begins; virtual time is that of whoever is served."""
        self._now = max(self._now, self._used[owner])

    def charge(self, owner: str, seconds: float) -> None:
        """The owner's step took so long."""
        self._used[owner] += seconds
