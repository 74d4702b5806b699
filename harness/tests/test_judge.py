"""The verdict on one case, whatever its function does."""

from collections.abc import Iterator

import pytest
from realm_harness.case import Broken, Case, Check, Unjudged, case, case_of
from realm_harness.conform import INTERNAL, judge
from realm_harness.discover import discover
from realm_harness.target import Target
from realm_mocks.server import MockServer


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    with MockServer(api_key="secret") as server:
        yield discover(server.url, api_key="secret", timeout=5)


def made(check: Check, clause_id: str = "stream.done-once", *, confirm: bool = False) -> Case:
    """A case out of a function."""
    found = case_of(case("CHAT-TEST-001", clause_id=clause_id, reason="a test", confirm=confirm)(check))
    assert found is not None
    return found


def broken(_: Target) -> None:
    raise Broken("seen this")


@pytest.mark.parametrize(
    ("clause_id", "verdict"),
    [("stream.done-once", "failed"), ("stream.role-once", "non_strict"), ("ops.health", "informational")],
)
def test_a_breach_weighs_as_its_clause(target: Target, clause_id: str, verdict: str) -> None:
    result = judge(made(broken, clause_id), target)
    assert (result.verdict, result.message) == (verdict, "seen this")


def test_ok_keeps_the_evidence(target: Target) -> None:
    def check(it: Target) -> None:
        it.ask("hello", 4)

    result = judge(made(check), target)
    assert (result.verdict, result.message, result.ending) == ("ok", None, "complete")
    assert "secret" not in str(result.as_json())
    assert [entry["dir"] for entry in result.wire][:2] == [">", "<"]


def test_a_parameter_that_is_refused_by_name_is_unimplemented(target: Target) -> None:
    def check(it: Target) -> None:
        it.ask("hello", 4, tools=[{"type": "function"}])

    result = judge(made(check), target)
    assert result.verdict == "unimplemented"
    assert "`tools`" in str(result.message)


def test_what_cannot_be_judged_informs(target: Target) -> None:
    def check(_: Target) -> None:
        raise Unjudged("no answer was long enough")

    assert judge(made(check), target).verdict == "informational"


def test_a_fault_of_the_harness_accuses_nobody(target: Target) -> None:
    def check(_: Target) -> None:
        raise KeyError("oops")

    result = judge(made(check), target)
    assert result.verdict == "informational"
    assert INTERNAL in str(result.message)


def test_a_breach_to_be_confirmed_must_be_seen_twice(target: Target) -> None:
    runs: list[int] = []

    def once(_: Target) -> None:
        runs.append(1)
        if len(runs) == 1:
            raise Broken("odd")

    result = judge(made(once, confirm=True), target)
    assert result.verdict == "informational"
    assert "seen once" in str(result.message)
    assert judge(made(broken, confirm=True), target).verdict == "failed"
