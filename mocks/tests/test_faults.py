"""The fault proxy: each fault as a client meets it, shares and seeds, and what is no fault."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from realm_mocks.faults import Fault, FaultError, FaultProxy
from realm_mocks.server import MockServer, Schedule

BODY = json.dumps(
    {"model": "scripted-1", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
).encode()
Start = Callable[..., FaultProxy]


@pytest.fixture(scope="module")
def server() -> Iterator[MockServer]:
    with MockServer(Schedule(ttft=0.01, itl=0.005, tokens=12)) as running:
        yield running


@pytest.fixture
def start(server: MockServer) -> Iterator[Start]:
    with ExitStack() as stack:
        yield lambda *texts, seed=0: stack.enter_context(
            FaultProxy(server.url, [Fault.parse(text) for text in texts], seed=seed)
        )


def ask(proxy: FaultProxy, timeout: float = 30) -> tuple[bytes, list[float]]:
    """The body of a streamed answer, and the gaps between its reads in seconds."""
    host, port = proxy.url.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=timeout)
    try:
        connection.request("POST", "/v1/chat/completions", BODY, {"Content-Type": "application/json"})
        response = connection.getresponse()
        body, gaps, last = b"", [], time.perf_counter()
        while piece := response.read1(65536):
            now = time.perf_counter()
            gaps.append(now - last)
            last, body = now, body + piece
        return body, gaps
    finally:
        connection.close()


def test_without_a_fault_nothing_changes(start: Start) -> None:
    proxy = start()
    assert ask(proxy)[0].endswith(b"data: [DONE]\n\n")
    assert proxy.counts == {"none": 1}


def test_a_stall_is_one_gap(start: Start) -> None:
    body, gaps = ask(start("stall:300ms"))
    assert body.endswith(b"data: [DONE]\n\n")
    assert max(gaps) >= 0.29


def test_a_delay_keeps_the_order(start: Start) -> None:
    body, _ = ask(start("delay:20ms"))
    assert body.endswith(b"data: [DONE]\n\n")


def test_a_trickle_comes_whole(start: Start) -> None:
    body, gaps = ask(start("trickle"))
    assert body.endswith(b"data: [DONE]\n\n")
    assert len(gaps) > 100


def test_a_reset_is_a_reset(start: Start) -> None:
    with pytest.raises(ConnectionResetError):
        ask(start("reset:900"))


@pytest.mark.parametrize("kind", ["truncate", "half-close"])
def test_a_cut_answer_ends_early(start: Start, kind: str) -> None:
    with pytest.raises(http.client.IncompleteRead):
        ask(start(f"{kind}:900"))


def test_a_black_hole_never_answers(start: Start) -> None:
    with pytest.raises(TimeoutError):
        ask(start("blackhole"), timeout=0.3)


def test_two_held_connections_change_their_order(start: Start) -> None:
    proxy = start("hold:20000")
    ended: list[int] = []

    def user(number: int) -> None:
        ask(proxy)
        ended.append(number)

    first = threading.Thread(target=user, args=(1,))
    first.start()
    while proxy._held is None:  # its answer is there, and waits
        time.sleep(0.01)
    second = threading.Thread(target=user, args=(2,))
    second.start()
    for thread in (first, second):
        thread.join(30)
    assert sorted(ended) == [1, 2]


def test_a_held_answer_without_a_second_comes_in_the_end(start: Start) -> None:
    assert ask(start("hold:200"))[0].endswith(b"data: [DONE]\n\n")


def test_shares_and_seeds_decide_who_gets_what(server: MockServer) -> None:
    faults = [Fault.parse("reset:900@20%"), Fault.parse("stall:1ms@30%")]

    def drawn(seed: int) -> list[str]:
        with FaultProxy(server.url, faults, seed=seed) as proxy:
            return [fault.kind if fault else "none" for fault in (proxy._draw() for _ in range(1000))]

    assert drawn(1) == drawn(1) != drawn(2)
    assert 150 < drawn(1).count("reset") < 250
    assert 250 < drawn(1).count("stall") < 350


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is no fault; write KIND"),
        ("fire", "is no fault; write KIND"),
        ("stall:slow", "is no fault"),
        ("stall@200%", "at most 100%"),
        ("trickle:5", "takes no value"),
        ("reset:5ms", "reset takes bytes"),
    ],
)
def test_what_is_no_fault(text: str, said: str) -> None:
    with pytest.raises(FaultError, match=said):
        Fault.parse(text)


def test_a_proxy_that_cannot_be_is_told(server: MockServer) -> None:
    with pytest.raises(ValueError, match="more than 100%"):
        FaultProxy(server.url, [Fault("reset", 1), Fault("stall", 1)])
    with pytest.raises(ValueError, match="is no http:// URL"):
        FaultProxy("https://example", [])


def test_as_a_process_it_counts(server: MockServer) -> None:
    command = [sys.executable, "-m", "realm_mocks.faults", server.url, "--fault", "stall:1ms"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        host, port = process.stdout.readline().strip().removeprefix("http://").split(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=30)
        connection.request("GET", "/health")
        assert connection.getresponse().read()
        connection.close()
        process.send_signal(signal.SIGINT)
        assert json.loads(process.stdout.read()) == {"stall": 1}
