"""Tenants of a load test: who asks with which key, how often, and what each got."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from realm_loadtests.users.tenants import Tenant, TenantsError, Turns, jain, read_tenants
from realm_mocks.server import MockServer, Schedule

FLOOD = [Tenant("flood", "k1", 9), Tenant("light", "k2", 1)]


@pytest.mark.parametrize("count", [10, 100, 1000])
def test_weights_decide_the_shares_for_any_number_of_users(count: int) -> None:
    flood = Turns(FLOOD)
    got = Counter(flood.of(number).name for number in range(count))
    assert got["light"] == pytest.approx(count / 10, abs=1.5)
    turns = Turns([Tenant(name, "k") for name in "abcd"])
    shares = Counter(turns.of(number).name for number in range(count)).values()
    assert max(shares) - min(shares) <= 3


def test_jains_index() -> None:
    assert jain([5, 5, 5]) == 1
    assert jain([9, 0, 0]) == pytest.approx(1 / 3)
    assert jain([]) is None
    assert jain([0, 0]) is None


def test_each_tenant_has_its_figures_and_no_key_is_kept(run_load: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "tenants.txt"
    file.write_text("# who\nacme sk-secret-1 3\nother sk-secret-1-other  # a tenant of MockServer's\n")
    with MockServer(Schedule(itl=0.01, tokens=4), api_key="sk-secret-1") as server:
        run = run_load(server.url, "--tenants", str(file), "--users", "4", "--duration", "2s")
    assert run.code == 0, run.stderr
    each = run.result["tenants"]["each"]
    assert set(each) == {"acme", "other"}
    assert each["acme"]["completed"] > each["other"]["completed"] > 0
    assert sum(part["completed"] for part in each.values()) == run.result["figures"]["completed"]
    assert 0.5 < run.result["tenants"]["jain_tokens"] < 1
    assert "Jain's fairness index" in run.stdout
    written = [path for path in run.folder.iterdir() if path.is_file() and path != file]
    assert not any("sk-secret" in path.read_text(errors="replace") for path in written)
    assert "sk-secret" not in run.stdout + run.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "names no tenant"),
        ("acme\n", "line 1: a line is NAME KEY"),
        ("acme sk-secret fast\n", "line 1: a line is NAME KEY"),
        ("a k\nb k 0\n", "line 2: a line is NAME KEY"),
        ("a k 1 2\n", "line 1"),
        ("a k\na k2\n", "names a tenant twice"),
    ],
)
def test_a_file_that_is_none_is_told_without_its_keys(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "t").write_text(text)
    with pytest.raises(TenantsError, match=said) as told:
        read_tenants(tmp_path / "t")
    assert "secret" not in str(told.value)
