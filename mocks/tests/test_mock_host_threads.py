"""Instances of one MockHost at once, each on a thread of its own, some of them cancelled on the way."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray
from realm_abi.errors import ErrorCode
from realm_abi.guests import guest_bytes
from realm_mocks.host import Hashed, MockHost, MockInstance, Moment, Run

LENGTH = 60
GUESTS = 4


def say(instance: MockInstance, number: int) -> Run:
    return instance.generate(f"prompt {number}", max_tokens=LENGTH)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_instances_at_once_say_what_each_says_alone(version: str) -> None:
    host = MockHost(guest_bytes(version), Hashed(5), layers=1)
    with host.instance() as instance:
        due = [say(instance, number).check().texts for number in range(GUESTS)]
    instances = [host.instance() for _ in range(GUESTS)]
    with ThreadPoolExecutor(GUESTS) as pool:
        runs = list(pool.map(say, instances, range(GUESTS)))
    assert [run.check().texts for run in runs] == due
    for started in instances:
        started.__exit__(None, None, None)
    assert not list(host.sessions)


class Signalling:
    """A script that tells when it has been asked so many times, by whomever."""

    def __init__(self, times: int) -> None:
        self.reached = threading.Event()
        self._left = times

    def logits(self, moment: Moment) -> NDArray[np.float32]:
        self._left -= 1
        if self._left == 0:
            self.reached.set()
        return Hashed(5).logits(moment)


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("times", [1, 10, 60])
def test_a_cancelled_instance_ends_and_its_neighbour_does_not_notice(version: str, times: int) -> None:
    due = MockHost(guest_bytes(version), Hashed(5), layers=1).generate("prompt 0", max_tokens=LENGTH).texts
    script = Signalling(times)
    host = MockHost(guest_bytes(version), script, layers=1)
    with host.instance() as cancelled, host.instance() as neighbour, ThreadPoolExecutor(2) as pool:
        running, beside = pool.submit(say, cancelled, 0), pool.submit(say, neighbour, 0)
        assert script.reached.wait(20)
        cancelled.cancel()
        run = running.result()
        assert beside.result().check().texts == due
    assert run.findings == ()
    assert run.error is ErrorCode.cancelled or run.texts == due
    assert run.texts == due[: len(run.texts)]
    assert not list(host.sessions)
