"""The pytest plugin in processes of its own: it runs the chapters when asked, and is not there when not."""

import json
import os
import subprocess
import sys
from pathlib import Path

from realm_mocks.server import MockServer


def pytest_process(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("COV_", "PYTEST"))}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def test_target_alone_runs_the_chapters(tmp_path: Path) -> None:
    with MockServer() as server:
        done = pytest_process(tmp_path, "--realm-target", server.url, "--realm-json", "c.json")
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((tmp_path / "c.json").read_text("utf-8"))
    assert len(results["cases"]) > 100
    assert results["summary"]["failed"] == 0
    assert [case["chapter"] for case in results["cases"]][-1] == "crowd"


def test_a_defect_fails_with_the_clause_and_no_traceback(tmp_path: Path) -> None:
    with MockServer(defects=["no-done"], api_key="secret") as server:
        done = pytest_process(
            tmp_path,
            "--realm-target",
            server.url,
            "--realm-api-key",
            "secret",
            "--realm-case",
            "CHAT-STREAM-01?",
        )
    assert done.returncode == 1
    assert "CHAT-STREAM-015 (MUST)" in done.stdout
    assert "stream.done-once" in done.stdout
    assert "Traceback" not in done.stdout
    assert "secret" not in done.stdout


def test_should_is_non_strict_until_it_counts(tmp_path: Path) -> None:
    with MockServer(defects=["role-every-delta"]) as server:
        options = ("--realm-target", server.url, "--realm-case", "CHAT-STREAM-005")
        lenient = pytest_process(tmp_path, *options)
        strict = pytest_process(tmp_path, *options, "--realm-level", "should")
    assert (lenient.returncode, strict.returncode) == (0, 1)
    assert "1 non_strict" in lenient.stdout
    assert "CHAT-STREAM-005 non-strict" in lenient.stdout


def test_no_server_is_a_usage_error(tmp_path: Path) -> None:
    done = pytest_process(tmp_path, "--realm-target", "http://127.0.0.1:9")
    assert done.returncode == 4
    assert "Is the server running" in done.stderr


def test_it_is_not_there_when_not_asked_for(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(
        "import sys, pytest\n"
        "@pytest.fixture\n"
        "def target(): return 'mine'\n"
        "def test_mine(target):\n"
        "    assert target == 'mine'\n"
        "    loaded = {m for m in sys.modules if m.startswith('realm_harness')}\n"
        "    assert loaded == {'realm_harness', 'realm_harness.plugin'}\n"
        "    assert 'h11' not in sys.modules\n"
    )
    done = pytest_process(tmp_path)
    assert done.returncode == 0, done.stdout


def test_own_tests_may_run_beside_a_target(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text("def test_mine(): pass\n")
    with MockServer() as server:
        done = pytest_process(tmp_path, "--realm-target", server.url, "test_mine.py")
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout
