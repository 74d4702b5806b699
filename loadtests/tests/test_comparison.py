"""Comparisons: a difference that is there is found, one that is not is not, and intervals are honest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from realm_loadtests.commands import compare_command
from realm_loadtests.figures.comparison import compare
from realm_loadtests.records.records import Record, RecordFile
from realm_mocks.server import MockServer, Schedule


def requests(
    seed: int, *, ttft_ms: float = 100, itl_ms: float = 10, count: int = 300, failed: int = 0
) -> list[Record]:
    """Requests with log-normal latencies: medians as given, a tenth of spread, ten tokens each."""
    draw = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        first = ttft_ms * np.exp(0.1 * draw.standard_normal())
        gaps = itl_ms * np.exp(0.1 * draw.standard_normal(9))
        times = [int(1000 * moment) for moment in np.cumsum([first, *gaps])]
        made.append(Record("completed", 0, times[-1], token_us=times, tokens=10))
    return made + [Record("failed", 0, 1, error="timeout")] * failed


def verdicts(a: list[list[Record]], b: list[list[Record]], threshold: float = 0.05) -> dict[str, str]:
    found = compare(a, b, threshold=threshold, seed=7)
    return {each["figure"]: each["verdict"] for each in found["figures"]}


def test_what_got_slower_is_found_and_what_did_not_is_not() -> None:
    found = verdicts([requests(1)], [requests(2, ttft_ms=120)])
    assert found["ttft_p50"] == "worse"
    assert found["itl_p50"] == found["tpot_p50"] == found["error_rate"] == "same"
    assert verdicts([requests(1, ttft_ms=120)], [requests(2)])["ttft_p50"] == "better"


def test_equal_servers_are_the_same_and_few_requests_are_unclear() -> None:
    assert set(verdicts([requests(1)], [requests(2)], threshold=0.1).values()) == {"same"}
    few = verdicts([requests(1, count=4)], [requests(2, count=4)], threshold=0.01)
    assert few["ttft_p50"] == "unclear"


def test_failures_are_compared_by_their_share() -> None:
    found = compare([requests(1)], [requests(2, failed=100)], threshold=0.05, seed=7)
    (errors,) = [each for each in found["figures"] if each["figure"] == "error_rate"]
    assert errors["change"] == pytest.approx(0.25)
    assert errors["verdict"] == "worse"


def test_runs_that_differ_widen_the_interval() -> None:
    """Two runs of a side that are 40 % apart say little of the next one, however many requests they have."""
    steady = compare([requests(1), requests(2)], [requests(3), requests(4)], threshold=0.05, seed=7)
    shaky = compare(
        [requests(1, ttft_ms=80), requests(2, ttft_ms=120)],
        [requests(3), requests(4)],
        threshold=0.05,
        seed=7,
    )
    widths = [found["figures"][0]["high"] - found["figures"][0]["low"] for found in (steady, shaky)]
    assert widths[1] > 5 * widths[0]


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    """Of forty comparisons of equal servers 95 % intervals miss in two; nine would be one chance in 10^4."""
    missed = 0
    for round_ in range(40):
        found = compare(
            [requests(2 * round_, count=60)], [requests(2 * round_ + 1, count=60)], threshold=0.05, seed=7
        )
        (ttft,) = [each for each in found["figures"] if each["figure"] == "ttft_p50"]
        missed += not ttft["low"] <= 0 <= ttft["high"]
    assert missed <= 8


def test_equal_seeds_give_equal_results() -> None:
    a, b = [requests(1, count=50)], [requests(2, count=50)]
    assert compare(a, b, threshold=0.05, seed=3) == compare(a, b, threshold=0.05, seed=3)
    assert compare(a, b, threshold=0.05, seed=3) != compare(a, b, threshold=0.05, seed=4)


@pytest.mark.parametrize("side", [0, 1])
def test_a_side_without_a_completed_request_cannot_be_compared(side: int) -> None:
    sides = [[requests(1)], [requests(2)]]
    sides[side] = [[Record("failed", 0, 1, error="timeout")]]
    with pytest.raises(ValueError, match=f"{'AB'[side]} has no completed request"):
        compare(*sides, threshold=0.05, seed=7)


def written(folder: Path, records: list[Record]) -> str:
    folder.mkdir()
    file = RecordFile(folder)
    for record in records:
        file.write(record.to_json())
    file.close()
    return str(folder)


def run(*arguments: str) -> Any:
    return CliRunner().invoke(compare_command, arguments)


def test_the_command_compares_folders_and_ends_for_a_pipeline(tmp_path: Path) -> None:
    a, b = written(tmp_path / "a", requests(1)), written(tmp_path / "b", requests(2, ttft_ms=150))
    worse = run(a, b, "--more", a, b, "--json", str(tmp_path / "out.json"))
    assert worse.exit_code == 5, worse.output
    assert "ttft_p50" in worse.output
    assert "worse" in worse.output
    assert json.loads((tmp_path / "out.json").read_text())["runs"] == {"a": 2, "b": 2}
    assert run(b, a).exit_code == 0
    assert run(a, a, "--threshold", "80%").exit_code == 0


def test_the_commands_mistakes_are_told(tmp_path: Path) -> None:
    a = written(tmp_path / "a", requests(1))
    (tmp_path / "empty").mkdir()
    for arguments, said in (
        ((a, str(tmp_path / "none")), "does not exist"),
        ((a, str(tmp_path / "empty")), "holds no load test: it has no requests.jsonl"),
        ((a, written(tmp_path / "b", [])), "B has no completed request"),
        ((a, a, "--threshold", "much"), "is not a share"),
        ((a, a, "--json", "/nowhere/out"), "cannot be written"),
    ):
        outcome = run(*arguments)
        assert outcome.exit_code == 2, arguments
        assert said in outcome.output


def test_since_a_baseline_only_what_changed_beside_the_yardstick_counts(tmp_path: Path) -> None:
    """Both sides twice as slow is another machine; B alone half as slow again is B's doing."""
    then = (written(tmp_path / "a", requests(1)), written(tmp_path / "b", requests(2, ttft_ms=200)))
    slower_machine = (
        written(tmp_path / "a2", requests(3, ttft_ms=200, itl_ms=20)),
        written(tmp_path / "b2", requests(4, ttft_ms=400, itl_ms=20)),
    )
    slower_server = (
        written(tmp_path / "a3", requests(5, ttft_ms=200, itl_ms=20)),
        written(tmp_path / "b3", requests(6, ttft_ms=600, itl_ms=20)),
    )
    baseline = str(tmp_path / "baseline.json")
    assert run(*then, "--json", baseline).exit_code == 5
    same = run(*slower_machine, "--baseline", baseline, "--threshold", "15%")
    assert same.exit_code == 0, same.output
    worse = run(*slower_server, "--baseline", baseline, "--threshold", "15%")
    assert worse.exit_code == 5, worse.output
    assert "B beside A, since" in worse.output
    (tmp_path / "none.json").write_text("{}")
    told = run(*then, "--baseline", str(tmp_path / "none.json"))
    assert told.exit_code == 2
    assert "is no result of realm compare --json" in told.output


def test_servers_are_loaded_in_turns_and_compared(tmp_path: Path) -> None:
    with (
        MockServer(Schedule(ttft=0.02, itl=0.002, tokens=4)) as a,
        MockServer(Schedule(ttft=0.2, itl=0.002, tokens=4)) as b,
    ):
        said = run("run", a.url, b.url, "--rounds", "1", "--each", "2s", "--out", str(tmp_path))
    assert said.exit_code == 5, said.output
    assert "ttft_p50" in said.output
    assert {path.name for path in tmp_path.iterdir()} == {"a1", "b1"}
    missing = run("run", "http://127.0.0.1:1", b.url, "--out", str(tmp_path))
    assert missing.exit_code == 2
    assert "is not there" in missing.output
