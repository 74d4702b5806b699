"""What comes of each part when its command does well, ill, or nothing; stand-ins run in its place."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from realm_harness.prove import Options, PartFailed, parts
from realm_harness.prove.progress import Progress
from realm_harness.prove_commands import prove

KEY = "sk-0123456789"
WRITE = "import sys, pathlib; pathlib.Path(sys.argv[1]).write_text(sys.argv[2]);"


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[list[str]]]:
    """Lets Python code run in place of every `realm` command; the list fills with what was asked for."""

    def instead(code: str, *arguments: str) -> list[list[str]]:
        asked: list[list[str]] = []

        def command(*wanted: str) -> list[str]:
            asked.append(list(wanted))
            return [sys.executable, "-c", code, *arguments]

        monkeypatch.setattr(parts, "realm_command", command)
        return asked

    return instead


@pytest.fixture
def progress(tmp_path: Path) -> Progress:
    return Progress(1, secret=KEY, hidden=str(tmp_path))


def _options(tmp_path: Path, **changes: Any) -> Options:
    return Options(**{"out": tmp_path, "target": "http://t", "api_key": KEY, **changes})


@pytest.mark.parametrize("code", [0, 1])
def test_results_are_read_for_both_verdicts(
    commands: Callable[..., list[list[str]]], progress: Progress, tmp_path: Path, code: int
) -> None:
    results = {"schema": "realm-conformance/1", "cases": [], "seconds": 1, "target": {"model": "m"}}
    asked = commands(WRITE + f"sys.exit({code})", str(tmp_path / "conformance.json"), json.dumps(results))
    part = parts.conformance(_options(tmp_path, model="m"), "http://t", tmp_path, progress)
    assert part.results.target == {"model": "m"}
    assert asked[0][:2] == ["conform", "http://t"]
    assert asked[0][-2:] == ["--model", "m"]
    assert KEY not in str(asked)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (
            "import sys; print('the reason', KEY); sys.exit(2)".replace("KEY", repr(KEY)),
            "the reason [api key]",
        ),
        ("raise RuntimeError('it broke')", "RuntimeError: it broke"),
        ("pass", "it said nothing"),
        ("import os; os.kill(os.getpid(), 9)", "exit code -9"),
    ],
)
def test_no_results_are_explained(
    commands: Callable[..., list[list[str]]],
    progress: Progress,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    code: str,
    said: str,
) -> None:
    commands(code)
    with pytest.raises(PartFailed) as raised:
        parts.load(_options(tmp_path), "http://t", tmp_path, progress)
    assert said in str(raised.value)
    assert KEY not in str(raised.value) + capsys.readouterr().out


def test_broken_results_are_named(
    commands: Callable[..., list[list[str]]], progress: Progress, tmp_path: Path
) -> None:
    commands(WRITE, str(tmp_path / "conformance.json"), '{"schema": "realm-conf')
    with pytest.raises(PartFailed, match=r"conformance\.json is not JSON"):
        parts.conformance(_options(tmp_path), "http://t", tmp_path, progress)


def test_a_part_without_end_is_ended(
    commands: Callable[..., list[list[str]]],
    progress: Progress,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(parts, "CONFORM_SECONDS", 0.5)
    commands("import time; time.sleep(600)")
    with pytest.raises(PartFailed, match="still running"):
        parts.conformance(_options(tmp_path), "http://t", tmp_path, progress)


def test_the_key_travels_in_the_environment_and_is_the_one_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REALM_API_KEY", "somebody's")
    assert _options(tmp_path).environment()["REALM_API_KEY"] == KEY
    assert "REALM_API_KEY" not in _options(tmp_path, api_key=None).environment()
    assert KEY not in repr(_options(tmp_path))


def test_relayed_lines_cannot_command_the_terminal(
    progress: Progress, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    progress.line(f"\x1b]0;title\x07 {KEY}\u202e")
    progress.line(f"see {tmp_path}/load.json")
    said = capsys.readouterr().out
    assert "title" in said
    assert "\x1b" not in said
    assert "\u202e" not in said
    assert KEY not in said
    assert "load.json" not in said


def test_what_computes_is_passed_on_to_the_reference() -> None:
    assert Options(Path("out")).computing == []
    chosen = Options(Path("out"), compute="jit", precision="int8", threads=2).computing
    assert chosen == ["--compute", "jit", "--precision", "int8", "--threads", "2"]


def test_what_computes_is_nothing_to_ask_of_a_target() -> None:
    result = CliRunner().invoke(prove, ["--target", "http://127.0.0.1:1", "--precision", "int8"])
    assert result.exit_code == 2
    assert "--precision is for the reference" in result.output
