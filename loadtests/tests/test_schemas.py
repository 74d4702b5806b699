"""The published schemas, and the results that are held against them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner
from realm_loadtests.calibration.instrument import Error, Level
from realm_loadtests.commands.load import load
from realm_loadtests.commands.schema import NAMES
from realm_loadtests.figures.comparison import compare
from realm_loadtests.records.records import Record
from realm_loadtests.runs.knee import Step, find

Schema = dict[str, Any]


def schema(name: str) -> Schema:
    outcome = CliRunner().invoke(load, ["schema", name])
    assert outcome.exit_code == 0, outcome.output
    found: Schema = json.loads(outcome.output)
    return found


@pytest.fixture(scope="module")
def result(reported: Callable[..., Path]) -> dict[str, Any]:
    folder = reported("--slo", "ttft_p99<300ms,error_rate<1%", tenants=("a", "b"), failures=2)
    document: dict[str, Any] = json.loads((folder / "load.json").read_text())
    level = Level(16, 800.0, Error(0.1, 0.9, 100), Error(0.1, 0.9, 900), 0.03, client_limited=False)
    return document | {"calibration": {"measured": "then", **asdict(level), "trusted": level.trusted}}


@pytest.mark.parametrize("name", NAMES)
def test_schemas_are_schemas_and_name_what_they_are_of(name: str) -> None:
    found = schema(name)
    jsonschema.Draft202012Validator.check_schema(found)
    assert found["$id"].removeprefix("urn:realm-harness:") == found["properties"]["schema"]["const"]


def test_a_result_is_of_its_schema(result: dict[str, Any]) -> None:
    jsonschema.validate(result, schema("load"))


def test_the_schema_says_what_every_member_is(result: dict[str, Any]) -> None:
    """A figure that is added to a result has to be added to its schema."""
    whole = schema("load")
    assert sorted(unknown(result, whole, whole, "")) == []


def unknown(value: Any, part: Schema, whole: Schema, path: str) -> Iterator[str]:
    """Paths of the members that no schema names; what is open to any member is its own affair."""
    if "$ref" in part:
        part = whole["$defs"][part["$ref"].rpartition("/")[2]]
    for choice in part.get("anyOf", ()):
        yield from unknown(value, choice, whole, path) if value is not None else ()
    if not isinstance(value, dict) or path.startswith(".settings"):
        return
    for name, member in value.items():
        if name in part.get("properties", {}):
            yield from unknown(member, part["properties"][name], whole, f"{path}.{name}")
        elif "additionalProperties" in part:
            yield from unknown(member, part["additionalProperties"], whole, f"{path}.{name}")
        elif "anyOf" not in part and part.get("type") != "null":
            yield f"{path}.{name}"


def test_what_a_reader_relies_on_is_missed(result: dict[str, Any]) -> None:
    without = {name: value for name, value in result.items() if name != "figures"}
    renamed = result | {"figures": {**result["figures"], "ttft_ms": None}}
    for broken in (without, renamed, result | {"schema": "realm-load/2"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(broken, schema("load"))


def test_a_knee_is_of_its_schema() -> None:
    for broken_at in (0.5, 3, 100):
        knee = find(lambda rate, at=broken_at: Step(rate, float(rate < at), False), 1, 8, 2)
        jsonschema.validate(json.loads(json.dumps(knee.to_json())), schema("knee"))


def test_a_comparison_is_of_its_schema() -> None:
    records = [Record("completed", n, 900 + n, token_us=[100 + n, 300], tokens=2) for n in range(30)]
    found = compare([records], [records], threshold=0.05, seed=1)
    jsonschema.validate(json.loads(json.dumps(found)), schema("compare"))
