"""Defects planted in the reference's own host functions: the host suite catches each, and only them."""

from __future__ import annotations

from pathlib import Path

import pytest
from realm_harness.hostsuite.conform import host_cases
from realm_harness.hostsuite.score import LONG_PATIENCE, PlantedHost, hosts_of, judged, run_against
from realm_harness.score import CAUGHT

HOSTS = hosts_of(Path(__file__).with_name("planted_hosts.py"))


@pytest.mark.parametrize("defect", HOSTS.defects.values(), ids=HOSTS.defects.keys())
def test_a_planted_defect_is_caught(defect: PlantedHost) -> None:
    cases = host_cases([defect.claim])
    assert any(result.verdict in CAUGHT for result in judged(defect, cases)), defect.claim
    healthy = run_against(HOSTS.healthy, HOSTS.name, cases, LONG_PATIENCE)
    told = {result.case.id: result.message for result in healthy if result.verdict != "ok"}
    assert not told
