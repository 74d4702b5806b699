"""Arguments that are none are refused with a sentence that says what to write."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from realm_loadtests.commands.load import load
from realm_loadtests.commands.parameters import parse_duration, parse_share


@pytest.mark.parametrize(("text", "seconds"), [("30", 30), ("30s", 30), ("2m", 120), ("1h", 3600)])
def test_durations(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0s", "-1s", "1.5s", "2 m", "soon", "1d"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(click.BadParameter, match="write 30s, 2m or 1h"):
        parse_duration(text)


@pytest.mark.parametrize(("text", "share"), [("0%", 0.0), ("1%", 0.01), ("0.5", 0.5), ("100%", 1.0)])
def test_shares(text: str, share: float) -> None:
    assert parse_share(text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["", "%", "-1%", "101%", "2", "nan", "none"])
def test_what_is_no_share(text: str) -> None:
    with pytest.raises(click.BadParameter, match="write 1% or"):
        parse_share(text)


@pytest.mark.parametrize(
    "arguments",
    [
        ["http://127.0.0.1:1", "--users", "0"],
        ["http://127.0.0.1:1", "--duration", "never"],
        ["http://127.0.0.1:1", "--max-tokens", "0"],
        ["http://127.0.0.1:1", "--spawn-rate", "nan"],
        ["http://127.0.0.1:1", "--timeout", "nan"],
        ["http://127.0.0.1:1", "--drain", "nan"],
        ["not-a-url"],
    ],
)
def test_wrong_arguments_end_with_status_2(arguments: list[str], tmp_path: Path) -> None:
    result = CliRunner().invoke(load, [*arguments, "--out", str(tmp_path)])
    assert result.exit_code == 2
    assert result.exception is None or isinstance(result.exception, SystemExit)
