"""Fair turns: the queue, the account of shares, and the engine's order with one tenant flooding."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from realm_abi.guests import guest_bytes
from realm_abi.sandbox import Runtime
from realm_reference.bench.token_runner import TokenRunner
from realm_reference.engine import Engine
from realm_reference.engine.adapters import LoadedAdapter
from realm_reference.engine.fairqueue import FairQueue, Shares
from realm_reference.model.adapters import Adapter
from realm_reference.model.array_runner import ArrayRunner
from realm_reference.model.model import Model
from realm_reference.model.runner import Chunk, Floats
from realm_reference.orchestration import Finished, GenerationRequest, Orchestrator, QueueFull


def test_owners_of_one_rank_take_turns_and_a_line_keeps_its_order() -> None:
    queue: FairQueue[int] = FairQueue()
    for item in range(4):
        queue.put("flood", item)
    queue.put("light", 10)
    queue.put("light", 11)
    order = []
    while (owner := queue.next_owner(lambda _: 0.0)) is not None:
        order.append(queue.take(owner))
    assert order == [0, 10, 1, 11, 2, 3]
    assert len(queue) == 0


def test_the_lowest_rank_goes_first_and_what_is_removed_never_goes() -> None:
    queue: FairQueue[int] = FairQueue()
    for item in range(3):
        queue.put("busy", item)
        queue.put("idle", 10 + item)
    assert queue.remove("idle", 11)
    assert not queue.remove("idle", 11)
    assert not queue.remove("nobody", 11)
    ranks = {"busy": 2.0, "idle": 1.0}
    order = []
    while (owner := queue.next_owner(ranks.__getitem__)) is not None:
        order.append(queue.take(owner))
    assert order == [10, 12, 0, 1, 2]


@given(
    steps=st.lists(st.sampled_from([0.001, 0.01, 0.05]), min_size=50, max_size=200),
    burst=st.sampled_from([0.0, 0.1, 0.5]),
)
def test_owners_that_always_have_work_get_equal_time(steps: list[float], burst: float) -> None:
    """Never apart by more than the burst and one step, whatever their steps cost."""
    shares = Shares(burst)
    cost = {"a": 1.0, "b": 4.0, "c": 0.25}
    used = dict.fromkeys(cost, 0.0)
    for owner in cost:
        shares.arrive(owner)
    for step in steps:
        owner = min(cost, key=shares.used)
        shares.begin(owner)
        shares.charge(owner, step * cost[owner])
        shares.arrive(owner)
        used[owner] += step * cost[owner]
        spread = max(used[o] for o in cost) - min(used[o] for o in cost)
        assert spread <= burst + 0.05 * 4.0 + 1e-9


def test_idling_saves_up_one_burst_and_no_more() -> None:
    shares = Shares(burst=1.0)
    shares.arrive("late")
    for _ in range(100):
        shares.arrive("early")
        shares.begin("early")
        shares.charge("early", 1.0)
    shares.arrive("late")
    assert 1.0 <= shares.used("early") - shares.used("late") <= 2.0


class Turns(Shares):
    """Counts steps instead of seconds, so that the order is always the same."""

    def charge(self, owner: str, seconds: float) -> None:
        super().charge(owner, 1.0)


class Order:
    """Owners in the order of their steps, one position of one sequence each; `burst` in steps. A step waits
    until it is let go.
    """

    def __init__(self, owners: Sequence[str], burst: float, monkeypatch: pytest.MonkeyPatch) -> None:
        self.taken: list[str] = []
        self.let_go = threading.Semaphore(0)
        self.entered = threading.Semaphore(0)
        self._owners = owners
        monkeypatch.setattr("realm_reference.engine.engine.Shares", lambda: Turns(burst))
        self.engine = Engine(TokenRunner(before_step=self._note), prefill_chunk=1, batch=1)

    def start(self, owner: str, steps: int) -> Future[Floats]:
        slot = LoadedAdapter(Adapter(owner, (), owner), 1 + self._owners.index(owner))
        session = self.engine.open(owner, adapter=slot)
        return session.start_forward(np.arange(steps, dtype=np.uint32) % 8)

    def _note(self, chunks: Sequence[Chunk]) -> None:
        self.taken += [self._owners[chunk.adapter - 1] for chunk in chunks]
        self.entered.release()
        assert self.let_go.acquire(timeout=30)


def test_a_prompt_goes_through_before_a_flood_of_others_gets_another_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    order = Order(["flood", "light"], 5.0, monkeypatch)
    with closing(order.engine):
        work = [order.start("flood", 20) for _ in range(8)]
        order.let_go.release(10)
        for _ in range(11):
            assert order.entered.acquire(timeout=30)
        work.append(order.start("light", 3))
        order.let_go.release(1000)
        for one in work:
            one.result(30)
    # The step that ran when it came, then its own three.
    assert order.taken[10:14] == ["flood", "light", "light", "light"]
    assert Counter(order.taken) == {"flood": 160, "light": 3}


def test_two_tenants_with_much_to_do_get_turns_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    order = Order(["many", "one"], 0.0, monkeypatch)
    with closing(order.engine):
        work = [order.start("many", 10) for _ in range(6)] + [order.start("one", 40)]
        order.let_go.release(1000)
        for one in work:
            one.result(30)
    while_both = order.taken[: 2 * 40]
    assert abs(while_both.count("one") - while_both.count("many")) <= 2


async def test_a_request_comes_through_a_flood_of_another_tenants(tiny_model: Model) -> None:
    """Two run and ten wait; a request of somebody else's is over before any of those that wait begins."""
    engine, runtime = Engine(ArrayRunner(tiny_model.transformer)), Runtime()
    module = runtime.compile(guest_bytes("v2"))
    orchestrator = Orchestrator(tiny_model, engine, runtime, module, max_running=2, max_waiting=10)
    prompt = orchestrator.prepare("<|im_start|>hello")
    long = GenerationRequest(prompt, max_tokens=500, temperature=0.0, tenant="flood")
    flood = [orchestrator.submit(long) for _ in range(12)]
    with pytest.raises(QueueFull):
        orchestrator.submit(long)
    light = orchestrator.submit(replace(long, max_tokens=3, tenant="light"))
    async with asyncio.timeout(60):
        end = [event async for event in light][-1]
    begun = [generation.queue_seconds is not None for generation in flood]
    assert isinstance(end, Finished)
    assert end.completion_tokens == 3
    assert begun[2:] == [False] * 10
    for generation in flood:
        generation.cancel()
    await orchestrator.close(0)
    engine.close()
