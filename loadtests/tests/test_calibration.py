"""The calibration: a known error is found, it is kept for this machine alone, and reports show it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from realm_loadtests.calibration import instrument as calibration
from realm_loadtests.calibration.instrument import Arrived, Calibration, Error, Level
from realm_loadtests.commands import calibrate_command
from realm_loadtests.records.records import Record
from realm_mocks.server import MockServer, Schedule

GOOD = Level(16, 3000.0, Error(0.1, 0.6, 500), Error(0.05, 0.4, 15_000), 0.03, client_limited=False)
BAD = replace(GOOD, streams=64, ttft=Error(0.4, 3.0, 500))


def calibrated(*levels: Level) -> Calibration:
    arrivals = (Arrived("poisson:100", 99.0, 1.02, 2.5),)
    return Calibration(
        calibration.fingerprint(), calibration.machine(), "2026-01-01T00:00:00+00:00", levels, arrivals, 1e5
    )


def served(number: int, ttft_us: int, gaps_us: list[int]) -> dict[str, Any]:
    arrived = 5_000_000_000 + number
    sent = [arrived + ttft_us * 1000]
    for gap in gaps_us:
        sent.append(sent[-1] + gap * 1000)
    return {"id": f"r{number}", "arrived_ns": arrived, "sent_ns": sent}


def test_the_error_is_what_the_client_saw_more_than_the_server_did() -> None:
    truth = {f"r{n}": served(n, 20_000, [5_000, 5_000]) for n in range(100)}
    seen = [
        Record(
            "completed",
            2_000_000,
            40_000,
            response_id=f"r{n}",
            token_us=[20_100, 25_100, 30_100 + 40 * (n == 7)],
        )
        for n in range(100)
    ]
    ttft, itl = calibration.errors(seen, truth)
    assert ttft == Error(0.1, 0.1, 100)
    assert itl == Error(0.0, 0.0, 200)
    assert calibration.errors(seen[7:8], truth)[1] == Error(0.0, 0.04, 2)


@pytest.mark.parametrize(
    "record",
    [
        Record("failed", 2_000_000, 1, response_id="r0", token_us=[1, 2]),
        Record("completed", 2_000_000, 1, response_id="unknown", token_us=[1, 2]),
        Record("completed", 500_000, 1, response_id="r0", token_us=[1, 2]),
    ],
    ids=["failed", "not the server's", "in the warm-up"],
)
def test_what_says_nothing_is_left_out(record: Record) -> None:
    with pytest.raises(ValueError, match="no request of the calibration"):
        calibration.errors([record], {"r0": served(0, 10, [10])})


def test_levels_are_trusted_up_to_the_first_that_is_not() -> None:
    assert calibrated(GOOD, BAD).trusted_streams == 16
    assert calibrated(BAD).trusted_streams is None
    assert calibrated(GOOD, BAD, replace(GOOD, streams=128)).trusted_streams == 16
    assert not replace(GOOD, client_limited=True).trusted
    assert calibrated(GOOD, BAD).level(3) == GOOD
    assert calibrated(GOOD, BAD).level(17) == BAD
    assert calibrated(GOOD, BAD).level(65) is None


def keep(monkeypatch: pytest.MonkeyPatch, folder: Path, found: Calibration) -> None:
    monkeypatch.setenv("REALM_CACHE", str(folder))
    calibration.path().parent.mkdir(parents=True)
    calibration.path().write_text(json.dumps(found.to_json()))


def test_it_is_kept_for_this_machine_and_these_versions(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    keep(monkeypatch, tmp_path, calibrated(GOOD, BAD))
    assert calibration.kept() == calibrated(GOOD, BAD)
    monkeypatch.setattr("platform.node", lambda: "another")
    assert calibration.kept() is None


def test_a_broken_file_is_as_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    keep(monkeypatch, tmp_path, calibrated(GOOD))
    calibration.path().write_text('{"levels": [')
    assert calibration.kept() is None


def test_a_report_has_the_error_beside_its_figures(run_load: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        keep(patch, tmp_path / "cache", calibrated(GOOD))
    with MockServer(Schedule(itl=0.01, tokens=4)) as server:
        known = run_load(server.url, "--users", "2", "--duration", "1s", REALM_CACHE=str(tmp_path / "cache"))
        assert known.result["calibration"]["ttft"]["p99"] == 0.6
        assert "Instrument's error (calibrated at 16 streams): TTFT ±0.10 ms (p99 ±0.60)" in known.stdout
        unknown = run_load(server.url, "--users", "2", "--duration", "1s", REALM_CACHE=str(tmp_path / "none"))
    assert unknown.result["calibration"] is None
    assert "realm calibrate measures it once" in unknown.stdout


def test_the_command_measures_and_keeps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A whole calibration of one level; how good it is here is no test's business."""
    monkeypatch.setenv("REALM_CACHE", str(tmp_path))
    outcome = CliRunner().invoke(calibrate_command, ["--streams", "2", "--duration", "3"])
    assert outcome.exit_code in (0, 3), outcome.output
    found = calibration.kept()
    assert found is not None
    assert [level.streams for level in found.levels] == [2]
    assert found.levels[0].ttft.count > 10
    assert found.levels[0].itl.count == 31 * found.levels[0].ttft.count
    assert [arrived.process for arrived in found.arrivals] == ["constant:100", "poisson:100"]
    assert all(arrived.rate is not None and 50 < arrived.rate < 150 for arrived in found.arrivals)
    assert found.most_events_per_second > 0
    for said in ("2 streams: TTFT error p50", "constant:100", "unpaced", "Kept as"):
        assert said in outcome.output


@pytest.mark.parametrize("text", ["", "0", "1,,2", "-1", "many", "1;2"])
def test_what_is_no_list_of_streams(text: str) -> None:
    outcome = CliRunner().invoke(calibrate_command, ["--streams", text])
    assert outcome.exit_code == 2
    assert "write 1,16,64" in outcome.output
