"""The proof of the harness: healthy servers and innocent habits pass, each defect is caught by its case."""

import json
import tomllib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from realm_harness import score_commands
from realm_harness.case import load_cases
from realm_harness.conform import INTERNAL
from realm_harness.results import CaseResult
from realm_harness.score import (
    CAUGHT,
    KEY,
    PARALLEL,
    DefectScore,
    Score,
    matrix_lines,
    run_against,
    score_defect,
    score_healthy,
)
from realm_harness.score_commands import score as score_command
from realm_mocks.server import DEFECTS, HABITS, MockServer

CLAIMS: dict[str, str] = tomllib.loads(Path(__file__).with_name("claims.toml").read_text("utf-8"))


def accusations(results: list[CaseResult]) -> list[str]:
    """Verdicts against the server, and cases that could not cope."""
    return [
        f"{result.case.id}: {result.verdict}: {result.message}"
        for result in results
        if result.verdict in CAUGHT or INTERNAL in (result.message or "")
    ]


@pytest.mark.timeout(120)
def test_healthy_server_passes_every_case() -> None:
    results = score_healthy(load_cases())
    assert accusations(results) == []
    unjudged = [r.case.id for r in results if r.case.level != "INFO" and r.verdict != "ok"]
    assert unjudged == []


@pytest.mark.parametrize("habit", sorted(HABITS))
@pytest.mark.timeout(60)
def test_innocent_habits_are_not_accused(habit: str) -> None:
    cases = load_cases(["CHAT-WS*"] if HABITS[habit].session else [])
    assert accusations(run_against(MockServer(habits=[habit], api_key=KEY), cases)) == []


def test_every_defect_is_claimed_by_a_case_that_exists() -> None:
    assert set(CLAIMS) == set(DEFECTS)
    assert set(CLAIMS.values()) <= {case.id for case in load_cases()}


@pytest.fixture(scope="module")
def claimed(request: pytest.FixtureRequest) -> Iterator[dict[str, Future[list[CaseResult]]]]:
    """What the case that claims it makes of each defect that is asked for. Most of such a run is waiting for
    what never comes, so several run at a time.
    """
    asked = [
        item.callspec.params.get("defect") for item in request.session.items if hasattr(item, "callspec")
    ]
    with ThreadPoolExecutor(PARALLEL) as pool:
        yield {
            defect: pool.submit(
                run_against, MockServer(defects=[defect], api_key=KEY), load_cases([CLAIMS[defect]])
            )
            for defect in asked
            if defect in CLAIMS
        }


@pytest.mark.parametrize("defect", CLAIMS)
@pytest.mark.timeout(60)
def test_defect_is_caught_by_the_case_that_claims_it(
    defect: str, claimed: dict[str, Future[list[CaseResult]]]
) -> None:
    case_id, (result,) = CLAIMS[defect], claimed[defect].result()
    if result.verdict not in CAUGHT:
        wait(claimed.values())  # beside others a case that goes by the clock may see nothing: again, alone
        (result,) = run_against(MockServer(defects=[defect], api_key=KEY), load_cases([case_id]))
    assert result.verdict in CAUGHT, f"{case_id} says {result.verdict}: {result.message}"
    assert result.message
    assert result.repro.startswith("curl ")
    assert result.wire


def test_score_names_what_is_wrong_with_the_harness() -> None:
    cases = load_cases(["CHAT-STREAM-00[1-3]"])
    healthy = run_against(MockServer(api_key=KEY), cases)
    seen = score_defect(DEFECTS["named-events"], cases)
    missed = DefectScore(DEFECTS["no-done"], {case.id: "ok" for case in cases})
    assert Score(cases, healthy, [seen]).good
    assert not Score(cases, healthy, [seen, missed]).good
    assert [entry.defect.id for entry in Score(cases, healthy, [seen, missed]).uncaught] == ["no-done"]
    accusing = [replace(healthy[0], verdict="failed"), *healthy[1:]]
    assert not Score(cases, accusing, [seen]).good
    blind = [replace(healthy[0], verdict="informational"), *healthy[1:]]
    assert Score(cases, blind, [seen]).unjudged == ["CHAT-STREAM-001"]


def test_a_case_is_not_busy_by_a_defect_that_breaks_everything() -> None:
    cases = load_cases(["CHAT-STREAM-*"])
    everything = DefectScore(DEFECTS["error-500"], {case.id: "failed" for case in cases})
    assert Score(cases, [], [everything]).idle == [case.id for case in cases]


def test_matrix_has_a_row_for_each_case_and_a_column_for_each_defect() -> None:
    cases = load_cases(["CHAT-STREAM-00[1-3]"])
    verdicts = {"CHAT-STREAM-001": "failed", "CHAT-STREAM-002": "ok", "CHAT-STREAM-003": "informational"}
    lines = matrix_lines(Score(cases, [], [DefectScore(DEFECTS["no-done"], verdicts)]))
    assert [line.split()[-1] for line in lines[-3:]] == ["#", ".", "?"]


def test_command_writes_the_score(tmp_path: Path) -> None:
    path = tmp_path / "score.json"
    arguments = ["--case", "CHAT-STREAM-003", "--defect", "named-events", "--json", str(path)]
    done = CliRunner().invoke(score_command, arguments)
    assert done.exit_code == 0, done.output
    written = json.loads(path.read_text())
    assert written["schema"] == "realm-score/1"
    assert written["defects"][0]["caught_by"] == ["CHAT-STREAM-003"]


def test_command_fails_on_an_uncaught_defect() -> None:
    done = CliRunner().invoke(score_command, ["--case", "CHAT-STREAM-003", "--defect", "no-done"])
    assert done.exit_code == 1
    assert "caught by nobody: no-done" in done.output


def test_command_refuses_an_unknown_defect() -> None:
    done = CliRunner().invoke(score_command, ["--defect", "nonsense"])
    assert done.exit_code == 2
    assert "unknown defect 'nonsense'" in done.output


def test_all_suites_are_one_file_and_one_exit_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cases = load_cases(["CHAT-STREAM-003"])
    good = Score(cases, [], [DefectScore(DEFECTS["named-events"], {"CHAT-STREAM-003": "failed"})])
    bad = Score(cases, [], [DefectScore(DEFECTS["no-done"], {"CHAT-STREAM-003": "ok"})])
    made = {"score_on_servers": good, "score_on_guests": good, "score_on_hosts": bad}
    for name, part in made.items():
        monkeypatch.setattr(score_commands, name, lambda globs, wanted, file=None, part=part: part)
    monkeypatch.setattr(score_commands, "hosts_in", lambda file: None)
    path = tmp_path / "score.json"
    done = CliRunner().invoke(score_command, ["--all", "--hosts", "mine.py", "--json", str(path)])
    assert done.exit_code == 1
    assert done.output.count("caught by nobody: no-done") == 2
    written = json.loads(path.read_text())
    assert (written["schema"], written["good"]) == ("realm-scores/1", False)
    assert list(written["scores"]) == ["server", "guest", "host", "mine.py"]
    assert [part["defects"][0]["caught"] for part in written["scores"].values()] == [True, True, False, False]
    monkeypatch.setattr(score_commands, "score_on_hosts", lambda globs, wanted, file=None: good)
    assert CliRunner().invoke(score_command, ["--all"]).exit_code == 0
