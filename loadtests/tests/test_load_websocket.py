"""Load over Realm's WebSocket: the same figures, the same names for what breaks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from realm_mocks.server import MockServer, Schedule

TOKENS = 6
SCHEDULE = Schedule(ttft=0.03, itl=0.02, tokens=TOKENS)
QUICK = ("--users", "2", "--duration", "2s")


def socket_of(server: MockServer) -> str:
    return server.url.replace("http://", "ws://") + "/ws"


def test_figures_over_the_websocket_agree_with_the_schedule(run_load: Callable[..., Any]) -> None:
    with MockServer(SCHEDULE) as server:
        run = run_load(socket_of(server), *QUICK)
    figures = run.result["figures"]
    assert run.code == 0, run.stderr
    assert figures["failed"] == 0
    assert figures["completed"] > 4
    assert figures["tokens"] == TOKENS * figures["completed"]
    assert figures["tokens_counted_by"] == {"usage": figures["completed"]}
    due_us = [offset * 1e6 for offset in SCHEDULE.offsets(TOKENS)]
    for record in run.records:
        if record["outcome"] == "completed":
            assert len(record["token_us"]) == TOKENS
            assert all(came >= due - 1000 for came, due in zip(record["token_us"], due_us, strict=True))
    connects = [record["connect_us"] for record in run.records]
    assert sum(connect > 0 for connect in connects) == 2  # a connection a user, kept


def test_the_open_loop_and_half_read_answers_work_over_it(run_load: Callable[..., Any]) -> None:
    with MockServer(SCHEDULE) as server:
        run = run_load(
            socket_of(server), "--arrivals", "constant:8", "--scenario", "cancel", "--duration", "2s",
            "--max-tokens", "6",
        )  # fmt: skip
    figures = run.result["figures"]
    assert figures["failed"] == 0
    assert figures["cancelled"] > 0
    assert figures["completed"] + figures["cancelled"] == 16


def test_a_key_is_shown_and_a_wrong_one_is_told(run_load: Callable[..., Any]) -> None:
    with MockServer(SCHEDULE, api_key="sk-1") as server:
        allowed = run_load(socket_of(server), "--users", "1", "--duration", "1s", REALM_API_KEY="sk-1")
        refused = run_load(socket_of(server), *QUICK, REALM_API_KEY="sk-2")
    assert allowed.code == 0, allowed.stderr
    assert refused.code == 2
    assert "http_401" in refused.stderr
    assert "sk-2" not in refused.stderr


@pytest.mark.parametrize(("path", "said"), [("/v1/chat/completions", "http_4"), ("/nothing", "http_4")])
def test_a_path_that_is_no_websocket_is_told(run_load: Callable[..., Any], path: str, said: str) -> None:
    with MockServer(SCHEDULE) as server:
        run = run_load(server.url.replace("http://", "ws://") + path, *QUICK)
    assert run.code == 2
    assert said in run.stderr
    assert run.stderr.count("\n") == 1


def test_nobody_there_is_one_line(run_load: Callable[..., Any]) -> None:
    run = run_load("ws://127.0.0.1:9/ws", *QUICK)
    assert run.code == 2
    assert "is not there (connect_refused" in run.stderr


@pytest.mark.parametrize(
    ("defect", "kind"),
    [
        ("ws-stream-drops", "malformed_event"),
        ("ws-cancelled-as-complete", None),
        ("ws-masked-frames", "malformed_http"),
    ],
)
def test_a_broken_protocol_is_a_failure_with_a_name(
    run_load: Callable[..., Any], defect: str, kind: str | None
) -> None:
    with MockServer(SCHEDULE, defects=[defect]) as server:
        run = run_load(socket_of(server), *QUICK, "--model", server.model)
    if kind is None:
        assert run.code == 0  # nothing is cancelled here
    else:
        assert run.code in (1, 2)
        assert kind in run.stdout + run.stderr
