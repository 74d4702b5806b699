"""The proof of the guest suite: every planted defect is caught by the case that claims it."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from realm_harness.case import load_cases
from realm_harness.conform import INTERNAL, run_cases
from realm_harness.guestsuite import GUEST
from realm_harness.guestsuite.conform import guest_cases, open_guest
from realm_harness.guestsuite.score import (
    NoVariants,
    Variant,
    build_variants,
    score_variants,
)
from realm_harness.results import CaseResult
from realm_harness.score import CAUGHT, Score
from realm_harness.score_commands import score as score_command


@pytest.fixture(scope="module")
def variants(tmp_path_factory: pytest.TempPathFactory) -> list[Variant]:
    return build_variants(tmp_path_factory.mktemp("variants"))


def claimed(variant: Variant) -> CaseResult:
    """What the case that claims a defect makes of it."""
    guest = open_guest(variant.module)
    (result,) = run_cases(guest_cases(guest, [variant.claims]), guest).results
    return result


@pytest.mark.timeout(300)
def test_every_defect_is_caught_by_the_case_that_claims_it(variants: list[Variant]) -> None:
    missed: list[str] = []
    for variant in variants:
        result = claimed(variant)
        if result.verdict not in CAUGHT or INTERNAL in str(result.message):
            missed.append(f"{variant.id}: {result.case.id} says {result.verdict}: {result.message}")
        assert result.repro.endswith(f"--case {result.case.id}")
    assert missed == []


def test_there_are_defects_enough_and_each_has_a_claim(variants: list[Variant]) -> None:
    ids = {case.id for case in load_cases(suite=GUEST)}
    assert {variant.claims for variant in variants} <= ids
    assert len({variant.sentence for variant in variants}) >= 40
    assert len({variant.id for variant in variants}) == len(variants)


def test_a_message_shows_the_calls_and_the_rule(variants: list[Variant]) -> None:
    by_id = {variant.id: variant for variant in variants}
    message = str(claimed(by_id["position-restarts-v1"]).message)
    for part in ("-> #", "realm_forward_layer(", "position", "the rule:"):
        assert part in message


@pytest.mark.timeout(120)
def test_the_score_names_what_is_missed(variants: list[Variant]) -> None:
    chosen = [variant for variant in variants if variant.id in ("stop-reason-v2", "one-too-many-v1")]
    cases = load_cases(["GUEST-STOPPED-003"], GUEST)
    made = Score(cases, [], list(score_variants(chosen, ["GUEST-STOPPED-003"])))
    assert [entry.defect.id for entry in made.uncaught] == ["one-too-many-v1"]
    assert not made.good


def test_an_unknown_defect_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(NoVariants, match="unknown defect nonsense"):
        build_variants(tmp_path, ["nonsense"])
    done = CliRunner().invoke(score_command, ["--guest", "--defect", "nonsense"])
    assert done.exit_code == 2
    assert "unknown defect nonsense" in done.output


@pytest.mark.timeout(120)
def test_the_command_scores_guests() -> None:
    arguments = ["--guest", "--defect", "stop-reason", "--case", "GUEST-STOPPED-*"]
    done = CliRunner().invoke(score_command, arguments)
    assert done.exit_code == 0, done.output
    assert "stop-reason-v2" in done.output
    assert "1 of 1 defects caught, 0 false accusations" in done.output
