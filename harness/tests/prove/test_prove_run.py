"""Whole runs of `realm prove` as a user starts them, against a MockServer and against nothing."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from realm_mocks.server import MockServer

KEY = "sk-a-secret-of-this-test"
Prove = Callable[..., "subprocess.Popen[str]"]
SHORT = ("--users", "2", "--duration", "2s")


def _end(process: subprocess.Popen[str]) -> tuple[int, str]:
    said, _ = process.communicate(timeout=400)
    return process.returncode, said


def _report(folder: Path) -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = json.loads((folder / "report.json").read_bytes())
    return found


def test_a_healthy_server_with_a_key_gets_a_whole_report(start_prove: Prove, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "server.log").write_text("of an earlier run")
    with MockServer(api_key=KEY) as server:
        code, said = _end(start_prove("--target", server.url, *SHORT, REALM_API_KEY=KEY))
    assert code == 0, said
    assert {path.name for path in out.iterdir()} == {"report.html", "report.json", "junit.xml"}
    document = _report(out)
    assert document["verdict"]["state"] == "pass"
    assert document["conformance"]["schema"] == "realm-conformance/1"
    assert document["load"]["schema"] == "realm-load/1"
    cases = document["conformance"]["cases"]
    assert isinstance(cases, list)
    junit = ET.parse(out / "junit.xml").getroot()
    assert int(junit.get("tests", "")) == len(cases) + len(list(junit[-1]))
    for text in [said, *(path.read_text(encoding="utf-8") for path in out.iterdir())]:
        assert KEY not in text
    assert "Time to first token" in said
    assert str(out / "report.html") in said


def test_a_planted_defect_is_reported_with_its_case(start_prove: Prove, tmp_path: Path) -> None:
    with MockServer(defects=["no-done"]) as server:
        code, said = _end(start_prove("--target", server.url, "--no-load"))
    assert code == 1, said
    assert "FAILED CHAT-STREAM-015" in said
    document = _report(tmp_path / "out")
    assert document["load"] is None
    assert "CHAT-STREAM-015" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_a_server_that_dies_in_the_middle_still_gets_its_report(
    start_prove: Prove, tmp_path: Path, mock_process: tuple[str, subprocess.Popen[str]]
) -> None:
    url, server = mock_process
    process = start_prove("--target", url, *SHORT)
    assert process.stdout is not None
    for line in process.stdout:
        if "CHAT-ERROR-001" in line:
            server.kill()
            break
    code, said = _end(process)
    assert code == 1, said
    document = _report(tmp_path / "out")
    assert document["conformance"]["summary"]["failed"] > 20  # type: ignore[index]
    assert document["load"] is None
    assert document["problems"]


def test_nobody_at_the_url_is_one_line(start_prove: Prove, tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        code, said = _end(start_prove("--target", f"http://127.0.0.1:{unused.getsockname()[1]}"))
    assert code == 2
    assert said.splitlines()[-1].startswith("Error: nothing answers at http://127.0.0.1:")
    assert "Traceback" not in said
    assert not (tmp_path / "out").exists()


def test_an_unknown_model_is_one_line(start_prove: Prove) -> None:
    code, said = _end(start_prove("--model", "no-such-model"))
    assert code == 2
    assert said.splitlines()[-1].startswith("Error: the model cannot be fetched: ")
    assert "no-such-model" in said
    assert "Traceback" not in said


def test_a_server_that_does_not_start_leaves_its_last_words(start_prove: Prove, tmp_path: Path) -> None:
    model = tmp_path / "broken.gguf"
    model.write_bytes(b"GGUF, but not really")
    code, said = _end(start_prove("--model", str(model)))
    assert code == 2, said
    assert "before it was ready" in said
    out = tmp_path / "out"
    log = (out / "server.log").read_text(encoding="utf-8").splitlines()
    assert "broken.gguf" in log[-1]
    assert log[-1] in said
    assert _report(out)["verdict"]["state"] == "incomplete"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_run_leaves_no_process(
    start_prove: Prove,
    children_of: Callable[[int], dict[int, str]],
    eventually: Callable[[Callable[[], bool]], None],
    mock_process: tuple[str, subprocess.Popen[str]],
    number: signal.Signals,
    code: int,
) -> None:
    process = start_prove("--target", mock_process[0], "--no-load", REALM_API_KEY=KEY)
    eventually(lambda: any("conform" in line for line in children_of(process.pid).values()))
    children = children_of(process.pid)
    assert not any(KEY in line for line in children.values())
    process.send_signal(number)
    assert _end(process)[0] == code
    remaining = children_of(1)
    assert not set(children) & set(remaining)


def test_an_unwritable_folder_is_one_line(
    start_prove: Prove, tmp_path: Path, mock_server: MockServer
) -> None:
    (tmp_path / "out").write_text("a file where the folder should be")
    code, said = _end(start_prove("--target", mock_server.url))
    assert code == 2
    assert "Traceback" not in said
