"""Who gets the next guest's thread: the least served tenant, at once if it has none."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from realm_reference.orchestration import QueueFull
from realm_reference.orchestration.seats import Seats

TENANTS = st.sampled_from(["alice", "bobby", "carol"])


def enter(seats: Seats[str], tenant: str, *items: str) -> None:
    seats.check(tenant, len(items))
    seats.enter(tenant, items)


def seated(seats: Seats[str]) -> list[str]:
    taken = []
    while (item := seats.next()) is not None:
        taken.append(item)
    return taken


def test_one_tenant_has_its_seats_and_its_places() -> None:
    seats: Seats[str] = Seats(2, 1)
    enter(seats, "alice", "a1", "a2", "a3")
    assert seated(seats) == ["a1", "a2"]
    assert (seats.running, seats.waiting) == (2, 1)
    with pytest.raises(QueueFull):
        seats.check("alice", 1)
    seats.leave("alice")
    assert seated(seats) == ["a3"]
    seats.check("alice", 1)


def test_all_or_none() -> None:
    seats: Seats[str] = Seats(1, 1)
    with pytest.raises(QueueFull):
        seats.check("alice", 3)
    enter(seats, "alice", "a1", "a2")


def test_a_flood_keeps_nobody_out() -> None:
    seats: Seats[str] = Seats(2, 4)
    enter(seats, "flood", *(f"f{i}" for i in range(6)))
    assert seated(seats) == ["f0", "f1"]
    with pytest.raises(QueueFull):
        seats.check("flood", 1)
    enter(seats, "light", "l1", "l2")
    assert seated(seats) == ["l1"]  # on an extra seat, at once
    seats.leave("flood")
    assert seated(seats) == []  # the extra seat is paid back first
    seats.leave("flood")
    assert seated(seats) == ["f2"]  # the light one holds a seat, the flood none


def test_free_seats_go_to_who_holds_fewest() -> None:
    seats: Seats[str] = Seats(4, 9)
    enter(seats, "flood", *(f"f{i}" for i in range(8)))
    seated(seats)
    enter(seats, "light", "l1", "l2", "l3")
    assert seated(seats) == ["l1"]
    for _ in range(2):
        seats.leave("flood")
    assert seated(seats) == ["l2"]


class SeatsMachine(RuleBasedStateMachine):
    """Any order of coming, going and giving up, against what has to hold always."""

    def __init__(self) -> None:
        super().__init__()
        self.seats: Seats[str] = Seats(2, 3)
        self.waiting: dict[str, list[str]] = {}
        self.running: dict[str, int] = {}
        self.made = 0

    @rule(tenant=TENANTS, count=st.integers(1, 3))
    def come(self, tenant: str, count: int) -> None:
        live = len(self.waiting.get(tenant, [])) + self.running.get(tenant, 0)
        if live + count > 5:
            with pytest.raises(QueueFull):
                self.seats.check(tenant, count)
            return
        items = [f"{tenant}-{self.made + i}" for i in range(count)]
        self.made += count
        enter(self.seats, tenant, *items)
        self.waiting.setdefault(tenant, []).extend(items)
        self.fill()

    @rule(tenant=TENANTS)
    def end(self, tenant: str) -> None:
        if self.running.get(tenant, 0):
            self.running[tenant] -= 1
            self.seats.leave(tenant)
            self.fill()

    @rule(tenant=TENANTS, data=st.data())
    def give_up(self, tenant: str, data: st.DataObject) -> None:
        if line := self.waiting.get(tenant):
            item = data.draw(st.sampled_from(line))
            assert self.seats.withdraw(tenant, item)
            line.remove(item)
            assert not self.seats.withdraw(tenant, item)

    def fill(self) -> None:
        for item in seated(self.seats):
            tenant = item.split("-")[0]
            assert self.waiting[tenant].pop(0) == item
            self.running[tenant] = self.running.get(tenant, 0) + 1

    @invariant()
    def nobody_waits_in_vain(self) -> None:
        running, waiting = sum(self.running.values()), sum(map(len, self.waiting.values()))
        assert (self.seats.running, self.seats.waiting) == (running, waiting)
        assert running <= 4
        if running < 2:
            assert not waiting
        if running < 4:
            assert all(self.running.get(tenant) for tenant, line in self.waiting.items() if line)


def test_seats_keep_their_promises() -> None:
    run_state_machine_as_test(SeatsMachine, settings=settings(max_examples=60, deadline=None))
