"""`realm load` as its user runs it: a process, locust under it, a server with a known schedule."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from realm_loadtests.commands.load import load
from realm_mocks.server import MockServer, Schedule

TOKENS = 8
TTFT_S, ITL_S, STALL_S = 0.05, 0.01, 0.2
QUICK = ("--users", "2", "--duration", "2s")


def test_figures_agree_with_what_the_server_did(run_load: Callable[..., Any]) -> None:
    schedule = Schedule(ttft=TTFT_S, itl=ITL_S, tokens=TOKENS, stalls=((4, STALL_S),))
    with MockServer(schedule) as server:
        run = run_load(server.url, *QUICK, "--seed", "7")
        served = [record for record in server.records if record.stream][1:]  # the first is the preflight's
    assert run.code == 0
    figures = run.result["figures"]

    assert figures["requests"] == figures["completed"] == len(served) == len(run.records) > 2
    assert (figures["failed"], figures["cut"], figures["errors"]) == (0, 0, {})
    assert figures["tokens"] == TOKENS * len(served)
    assert figures["tokens_counted_by"] == {"usage": len(served)}
    assert figures["ttft_ms"]["count"] == len(served)
    assert figures["itl_ms"]["count"] == (TOKENS - 1) * len(served)

    # Whatever the machine does, no token can come before it is due, and a stall in each stream cannot hide.
    due_us = [offset * 1e6 for offset in schedule.offsets(TOKENS)]
    for record in run.records:
        assert all(came >= due for came, due in zip(record["token_us"], due_us, strict=True))
        assert record["e2e_us"] >= record["token_us"][-1]
    assert figures["itl_ms"]["max"] >= STALL_S * 1e3
    assert figures["itl_ms"]["max"] >= figures["itl_ms"]["p99"] > figures["itl_ms"]["p50"]
    assert figures["ttft_ms"]["p50"] < figures["e2e_ms"]["p50"]
    assert {record["response_id"] for record in run.records} == {record.id for record in served}

    assert figures["stalls"]["share_of_streams"] == 1.0
    assert figures["stalls"]["length_ms"]["max"] >= STALL_S * 1e3
    # Its own page tells of the same requests, and of no others.
    counts = run.result["server"]["counts"]
    assert counts["tokens"] == {"server": figures["tokens"], "clients": figures["tokens"], "agrees": True}
    assert counts["requests"]["server"] == figures["requests"]
    assert run.result["server"]["latencies"]["ttft_ms"]["server"]["count"] == len(served)


def test_the_result_stands_by_itself(run_load: Callable[..., Any]) -> None:
    with MockServer(Schedule(tokens=TOKENS, itl=0.02)) as server:
        run = run_load(server.url, *QUICK, "--prompt", "Hello", "--max-tokens", "9")
        url, model = server.url, server.model
    result = run.result
    assert result["schema"] == "realm-load/1"
    assert result["target"]["url"] == url
    assert result["target"]["model"] == model
    assert result["settings"]["prompt"] == "Hello"
    assert result["settings"]["max_tokens"] == 9
    assert set(result["figures"]) - {"window_s", "errors", "tokens_counted_by"} <= {
        *result["definitions"],
        "completed_without_text",
    }
    assert {"ttft_over_time", "ttft_cdf", "itl_cdf", "itl_histogram", "e2e_cdf"} <= set(result["plots"])
    assert (run.folder / "report.html").exists()
    assert all(svg.startswith("<svg") and svg.endswith("</svg>") for svg in result["plots"].values())
    assert 1.9 <= result["figures"]["window_s"] <= 60
    for words in ("time to first token", "tokens/s in all", "completed", "load.json"):
        assert words in run.stdout


def test_two_workers_are_one_result(run_load: Callable[..., Any]) -> None:
    with MockServer(Schedule(ttft=0.02, tokens=TOKENS)) as server:
        run = run_load(server.url, *QUICK, "--processes", "2")
        served = len(server.records) - 1
    figures = run.result["figures"]
    assert run.code == 0
    assert figures["completed"] == figures["ttft_ms"]["count"] == len(run.records) == served
    assert {record["worker"] for record in run.records} == {0, 1}


def test_equal_seeds_ask_equal_questions_and_users_differ(
    run_load: Callable[..., Any], scripted_server: Callable[..., Any], wire: Any
) -> None:
    def answer(connection: socket.socket, request: bytes) -> None:
        listing = request.startswith(b"GET")
        time.sleep(0.05)
        connection.sendall(wire.models if listing else wire.chunked(*wire.healthy))

    asked = []
    for seed in ("1", "1", "2"):
        server = scripted_server(answer)
        assert run_load(server.url, "--users", "2", "--duration", "1s", "--seed", seed).code == 0
        bodies = [request.partition(b"\r\n\r\n")[2] for request in server.requests if b"POST" in request][1:]
        asked.append(set(bodies[:8]))
        assert len(asked[-1]) == 8  # the users do not ask in step
    assert len(asked[0] & asked[1]) >= 6  # the users' order may differ at the border
    assert not asked[0] & asked[2]


def test_every_kind_of_failure_is_counted(
    run_load: Callable[..., Any], scripted_server: Callable[..., Any], wire: Any
) -> None:
    busy = wire.plain("503 Busy", "application/json", b'{"error": {"message": "full"}}')
    broken = wire.chunked(wire.chunk("a"), wire.event({"error": {"message": "oops"}}))
    replies = [wire.chunked(*wire.healthy), busy, broken, wire.chunked(*wire.healthy[:-1])]
    served: list[int] = []
    lock = threading.Lock()

    def answer(connection: socket.socket, request: bytes) -> None:
        if request.startswith(b"GET"):
            connection.sendall(wire.models)
            return
        with lock:
            served.append(len(served) % len(replies))
        connection.sendall(replies[served[-1]])

    run = run_load(scripted_server(answer).url, *QUICK)
    figures = run.result["figures"]
    expected = {"http_503": served.count(1), "error_event": served.count(2), "no_done": served.count(3)}
    assert run.code == 1
    assert figures["errors"] == expected
    assert figures["failed"] == sum(expected.values())
    assert figures["completed"] == figures["ttft_ms"]["count"] == served.count(0) - 1
    assert {record["detail"] for record in run.records if record["error"] == "http_503"} == {"full"}
    assert "http_503" in run.stdout


@pytest.mark.parametrize(("allowed", "code"), [("100%", 0), ("0", 1)])
def test_allowed_errors_decide_the_exit_status(
    allowed: str, code: int, run_load: Callable[..., Any], scripted_server: Callable[..., Any], wire: Any
) -> None:
    served: list[bytes] = []

    def answer(connection: socket.socket, request: bytes) -> None:
        served.append(request)
        healthy = wire.chunked(*wire.healthy)
        failing = wire.plain("500 Oops", "text/plain", b"oops")
        is_listing = request.startswith(b"GET")
        connection.sendall(wire.models if is_listing else failing if len(served) % 2 else healthy)

    run = run_load(scripted_server(answer).url, "--users", "1", "--duration", "1s", "--allow-errors", allowed)
    assert run.result["figures"]["failed"] > 0
    assert run.code == code


def test_streams_longer_than_the_run_are_cut_and_not_blamed(run_load: Callable[..., Any]) -> None:
    schedule = Schedule(itl=0.1, tokens=600)
    with MockServer(schedule) as server:
        run = run_load(
            server.url,
            "--users",
            "2",
            "--duration",
            "1s",
            "--drain",
            "0",
            "--max-tokens",
            "600",
            "--model",
            server.model,
            "--timeout",
            "100",
        )
    figures = run.result["figures"]
    assert (figures["completed"], figures["failed"], figures["cut"]) == (0, 0, 2)
    assert figures["tokens_per_second"] > 0
    assert figures["ttft_ms"]["p50"] is None
    assert run.code == 1  # nothing was completed


def test_ctrl_c_keeps_the_result(start_load: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    with MockServer(Schedule(itl=0.01, tokens=TOKENS)) as server:
        process = start_load(server.url, "--users", "2", "--duration", "10m")
        _wait_for_records(tmp_path, 3)
        process.send_signal(signal.SIGINT)
        stdout, _ = process.communicate(timeout=50)
    assert process.returncode == 0
    assert "Ctrl-C" in stdout
    assert (tmp_path / "load.json").exists()


def test_a_killed_locust_still_gives_a_result(
    start_load: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    with MockServer(Schedule(itl=0.01, tokens=TOKENS)) as server:
        process = start_load(server.url, "--users", "2", "--duration", "10m")
        _wait_for_records(tmp_path, 3)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        for child in children:
            os.kill(int(child), signal.SIGKILL)
        stdout, _ = process.communicate(timeout=50)
    assert "rebuilt from the records" in stdout


def test_a_run_that_was_killed_outright_can_be_reported(
    start_load: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    with MockServer(Schedule(itl=0.01, tokens=TOKENS)) as server:
        process = start_load(server.url, "--users", "2", "--duration", "10m", REALM_API_KEY="secret-1")
        _wait_for_records(tmp_path, 3)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        for victim in (process.pid, *map(int, children)):
            os.kill(victim, signal.SIGKILL)
        process.communicate(timeout=50)
    assert not (tmp_path / "load.json").exists()
    assert "secret-1" not in (tmp_path / "run.json").read_text()
    with (tmp_path / "requests.jsonl").open("a") as unfinished:
        unfinished.write('{"outcome":"comp')
    outcome = CliRunner().invoke(load, ["report", str(tmp_path), "--slo", "ttft_p50<60s,ttft_p50<1us"])
    assert outcome.exit_code == 4, outcome.output
    assert "SLO MISSED ttft_p50<1us" in outcome.output
    result = json.loads((tmp_path / "load.json").read_text())
    assert result["figures"]["completed"] >= 3
    assert [verdict["met"] for verdict in result["slo"]] == [True, False]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "it has no run.json"),
        ({"run.json": "{}"}, "is not what realm load writes"),
        ({"run.json": "["}, "is not what realm load writes"),
    ],
)
def test_a_folder_without_a_run_is_told(files: dict[str, str], said: str, tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    outcome = CliRunner().invoke(load, ["report", str(tmp_path)])
    assert outcome.exit_code == 2
    assert said in outcome.output
    assert outcome.output.count("\n") == 1


def _wait_for_records(folder: Path, count: int) -> None:
    limit = time.monotonic() + 40
    path = folder / "requests.jsonl"
    while not path.exists() or len(path.read_bytes().splitlines()) < count:
        assert time.monotonic() < limit
        time.sleep(0.05)


def test_a_target_that_is_not_there_ends_with_one_line(run_load: Callable[..., Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    run = run_load(f"http://127.0.0.1:{port}", *QUICK)
    assert run.code == 2
    assert run.stderr.count("\n") == 1
    assert "is not there (connect_refused" in run.stderr
    assert not (run.folder / "locust.log").exists()  # found out before any user was started


def test_the_key_is_asked_for_and_never_an_argument(run_load: Callable[..., Any]) -> None:
    with MockServer(api_key="secret-1") as server:
        refused = run_load(server.url, *QUICK)
        allowed = run_load(server.url, "--users", "1", "--duration", "1s", REALM_API_KEY="secret-1")
    assert refused.code == 2
    assert "REALM_API_KEY" in refused.stderr
    assert allowed.code == 0
    written = [path.read_bytes() for path in allowed.folder.iterdir() if path.is_file()]
    assert not any(b"secret-1" in content for content in written)


def test_a_server_that_is_no_llm_server_is_told(
    run_load: Callable[..., Any], scripted_server: Callable[..., Any], wire: Any
) -> None:
    page = wire.plain("200 OK", "text/html", b"<html>welcome</html>")
    server = scripted_server(lambda connection, _: connection.sendall(page))
    run = run_load(server.url, *QUICK)
    assert run.code == 2
    assert "does not list its models" in run.stderr
    named = run_load(server.url, *QUICK, "--model", "m1")
    assert named.code == 2
    assert "not_sse" in named.stderr


def test_a_server_without_stream_options_is_counted_by_events(
    run_load: Callable[..., Any], scripted_server: Callable[..., Any], wire: Any
) -> None:
    refusal = wire.plain("400 Bad", "application/json", b'{"error": {"message": "stream_options?"}}')

    def answer(connection: socket.socket, request: bytes) -> None:
        if request.startswith(b"GET"):
            connection.sendall(wire.models)
        else:
            connection.sendall(refusal if b"stream_options" in request else wire.chunked(*wire.healthy))

    run = run_load(scripted_server(answer).url, "--users", "1", "--duration", "1s")
    figures = run.result["figures"]
    assert run.code == 0
    assert figures["tokens_counted_by"] == {"events": figures["completed"]}
    assert figures["tokens"] == 3 * figures["completed"]
