"""The register and the cases fit together."""

import re

import pytest
from realm_harness.case import CHAPTERS, CHAT, load_cases
from realm_harness.clauses import clause, register
from realm_harness.guestsuite import GUEST
from realm_harness.hostsuite.conform import HOST

SUITES = (CHAT, GUEST, HOST)


def test_every_clause_is_tested_and_every_case_has_a_clause() -> None:
    cases = [case for suite in SUITES for case in load_cases(suite=suite)]
    assert {case.clause.id for case in cases} == set(register())


def test_clauses_say_where_they_come_from() -> None:
    for entry in register().values():
        assert entry.sentence.endswith(".")
        assert len(entry.source) > 5


def test_ids_are_unique_and_well_formed() -> None:
    ids = [case.id for case in load_cases()]
    assert len(ids) == len(set(ids))
    assert all(re.fullmatch(r"CHAT-[A-Z0-9]+-\d{3}", case_id) for case_id in ids)


def test_cases_have_one_line_titles_and_reasons() -> None:
    for case in load_cases():
        assert case.title.endswith("."), case.id
        assert case.reason, case.id
        assert "\n" not in case.reason


def test_cases_are_at_home_in_the_chapters() -> None:
    assert [chapter for chapter in CHAPTERS if not load_cases_of(chapter)] == []


def load_cases_of(chapter: str) -> list[str]:
    return [case.id for case in load_cases() if case.chapter == chapter]


def test_globs_choose() -> None:
    chosen = [case.id for case in load_cases(["CHAT-AUTH-00[12]", "CHAT-STREAM-001"])]
    assert chosen == ["CHAT-AUTH-001", "CHAT-AUTH-002", "CHAT-STREAM-001"]


def test_unknown_clause_is_an_error() -> None:
    with pytest.raises(KeyError, match="no-such"):
        clause("no-such")
