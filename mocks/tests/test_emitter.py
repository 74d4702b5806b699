"""The emitter: whole streams at their times, many at once, over kept connections."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest
from realm_mocks.emitter import Emitter
from realm_mocks.server import Schedule

SCHEDULE = Schedule(ttft=0.03, itl=0.01, tokens=5, stalls=((3, 0.1),))
BODY = json.dumps({"stream": True, "stream_options": {"include_usage": True}}).encode()


@pytest.fixture
def emitter() -> Iterator[Emitter]:
    running = Emitter(SCHEDULE)
    thread = threading.Thread(target=running.run)
    thread.start()
    yield running
    running.stop()
    thread.join(10)
    assert not thread.is_alive()


def ask(emitter: Emitter, connection: http.client.HTTPConnection | None = None) -> list[str]:
    host, port = emitter.url.removeprefix("http://").split(":")
    kept = connection or http.client.HTTPConnection(host, int(port), timeout=30)
    kept.request("POST", "/v1/chat/completions", BODY)
    events = kept.getresponse().read().decode().split("\n\n")
    if connection is None:
        kept.close()
    assert events.pop() == ""
    return [event.removeprefix("data: ") for event in events]


def settle(emitter: Emitter) -> None:
    """A client may have read its last byte before the emitter has noted that it sent it."""
    limit = time.monotonic() + 30
    while any(record.outcome == "running" for record in emitter.records):
        assert time.monotonic() < limit
        time.sleep(0.01)


def test_a_stream_is_whole_and_no_token_is_early(emitter: Emitter) -> None:
    events = ask(emitter)
    assert events.pop() == "[DONE]"
    role, *tokens, finish, usage = map(json.loads, events)
    assert role["choices"][0]["delta"]["role"] == "assistant"
    assert [token["choices"][0]["delta"]["content"] for token in tokens] == [" token"] * 5
    assert finish["choices"][0]["finish_reason"] == "stop"
    assert usage["usage"]["completion_tokens"] == 5
    settle(emitter)
    (record,) = emitter.records
    assert {event["id"] for event in (role, *tokens, finish, usage)} == {record.id}
    assert record.outcome == "completed"
    due = [record.arrived_ns + round(offset * 1e9) for offset in SCHEDULE.offsets(5)]
    assert record.due_ns == due
    assert all(sent >= moment for sent, moment in zip(record.sent_ns, due, strict=True))


def test_many_streams_run_at_once_and_connections_are_kept(emitter: Emitter) -> None:
    host, port = emitter.url.removeprefix("http://").split(":")

    def user() -> None:
        with closing(http.client.HTTPConnection(host, int(port), timeout=30)) as connection:
            for _ in range(3):
                assert len(ask(emitter, connection)) == 9

    users = [threading.Thread(target=user) for _ in range(16)]
    for each in users:
        each.start()
    for each in users:
        each.join()
    settle(emitter)
    assert [record.outcome for record in emitter.records] == ["completed"] * 48
    assert len({record.id for record in emitter.records}) == 48
    spans = sorted((record.arrived_ns, record.finished_ns or 0) for record in emitter.records)
    assert spans[15][0] < min(end for _, end in spans)  # the first sixteen ran beside each other


def test_a_client_that_leaves_costs_the_others_nothing(emitter: Emitter) -> None:
    host, port = emitter.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as leaving:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: {len(BODY)}\r\n\r\n"
        leaving.sendall(head.encode() + BODY)
        leaving.recv(100)
    assert ask(emitter)[-1] == "[DONE]"
    settle(emitter)
    assert [record.outcome for record in emitter.records] == ["disconnected", "completed"]


def test_as_a_process_it_lists_its_model_and_its_records() -> None:
    command = [
        sys.executable,
        "-m",
        "realm_mocks.emitter",
        "--tokens",
        "3",
        "--itl-ms",
        "1",
        "--ttft-ms",
        "1",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        host, port = process.stdout.readline().strip().removeprefix("http://").split(":")
        with closing(http.client.HTTPConnection(host, int(port), timeout=30)) as connection:
            connection.request("GET", "/v1/models")
            assert json.loads(connection.getresponse().read())["data"][0]["id"] == "emitter-1"
            connection.request("POST", "/v1/chat/completions", BODY)
            connection.getresponse().read()
            connection.request("GET", "/mock/records")
            (record,) = json.loads(connection.getresponse().read())
        process.terminate()
    assert len(record["sent_ns"]) == 3
