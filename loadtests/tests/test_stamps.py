"""Stamps are the moment of arrival, however late the reader comes to read."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from time import perf_counter_ns

import pytest
from realm_loadtests.wire import stamps
from realm_loadtests.wire.stamps import StampedReader

KERNEL_STAMPS = stamps._HAS_STAMPS


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname(), timeout=30)
        far, _ = listener.accept()
        with near, far:
            yield near, far


def stamped(reader: StampedReader, far: socket.socket) -> None:
    """The kernel begins to stamp a moment after it is first asked to."""
    limit = perf_counter_ns() + 30_000_000_000
    while perf_counter_ns() < limit:
        far.sendall(b".")
        reader.read(wait=False)
        far.sendall(b".")
        arrived_by = perf_counter_ns()
        threading.Event().wait(0.005)
        if reader.read(wait=False)[1] < arrived_by + 5_000_000:
            return
    pytest.fail("the kernel gives no stamps")


@pytest.mark.skipif(not KERNEL_STAMPS, reason="no kernel stamps on this platform")
def test_a_late_read_has_the_moment_of_arrival(pair: tuple[socket.socket, socket.socket]) -> None:
    near, far = pair
    reader = StampedReader(near, tls=False)
    stamped(reader, far)
    before = perf_counter_ns()
    far.sendall(b"early")
    after = perf_counter_ns()
    threading.Event().wait(0.2)
    data, arrived = reader.read(wait=False)
    assert data == b"early"
    # Loopback hands over within the send; what the two clocks were apart is far less than the wait.
    assert before - 50_000_000 < arrived < after + 100_000_000
    reader.close()


def test_without_the_kernels_stamp_it_is_the_moment_of_the_read(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stamps, "_HAS_STAMPS", False)
    near, far = pair
    reader = StampedReader(near, tls=False)
    far.sendall(b"early")
    before = perf_counter_ns()
    data, arrived = reader.read(wait=False)
    assert data == b"early"
    assert before <= arrived <= perf_counter_ns()
    far.close()
    assert reader.read(wait=False)[0] == b""
    reader.close()
