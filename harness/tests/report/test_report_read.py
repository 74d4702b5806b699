"""Result files: what is broken is named by its place, and nothing of it is believed."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from realm_harness.report import (
    CONFORMANCE_SCHEMA,
    LOAD_SCHEMA,
    BrokenResults,
    conformance_of,
    load_of,
    read_json,
)


def _written(folder: Path, value: Any) -> Path:
    path = folder / "results.json"
    path.write_text(json.dumps(value))
    return path


def test_both_files_are_read(
    tmp_path: Path, conformance_json: dict[str, Any], load_json: dict[str, Any]
) -> None:
    found = conformance_of(read_json(_written(tmp_path, conformance_json), CONFORMANCE_SCHEMA))
    assert [case.verdict for case in found.cases] == [case["verdict"] for case in conformance_json["cases"]]
    assert found.cases[0].wire[0].sent
    assert not found.cases[0].wire[1].sent
    load = load_of(read_json(_written(tmp_path, load_json), LOAD_SCHEMA))
    assert load.latencies["itl_ms"].p99 == 41.0
    assert load.requests == 40


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "is not of the schema"),
        ('{"schema": "realm-load/2"}', "is not of the schema"),
    ],
)
def test_no_json_of_the_schema(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "load.json"
    path.write_text(content)
    with pytest.raises(BrokenResults, match=said):
        read_json(path, LOAD_SCHEMA)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BrokenResults, match=r"load\.json was not written"):
        read_json(tmp_path / "load.json", LOAD_SCHEMA)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"cases": None}, "conformance.cases should be an array"),
        ({"cases": [None]}, r"conformance.cases\[0\] should be an object"),
        ({"seconds": "4"}, "conformance.seconds should be a number"),
        ({"target": []}, "conformance.target should be an object"),
    ],
)
def test_a_wrong_shape_is_named_by_its_place(
    conformance_json: dict[str, Any], change: dict[str, Any], place: str
) -> None:
    with pytest.raises(BrokenResults, match=place):
        conformance_of(conformance_json | change)


@pytest.mark.parametrize(
    ("member", "value"),
    [("verdict", "fine"), ("level", "must"), ("wire", [{"t_ms": 1, "dir": "?", "text": ""}])],
)
def test_a_word_that_the_schema_does_not_know(
    conformance_json: dict[str, Any], member: str, value: Any
) -> None:
    changed = copy.deepcopy(conformance_json)
    changed["cases"][3][member] = value
    with pytest.raises(BrokenResults, match=rf"cases\[3\]\.{member}.* should be one of"):
        conformance_of(changed)


def test_a_negative_count_is_refused(load_json: dict[str, Any]) -> None:
    load_json["figures"]["failed"] = -1
    with pytest.raises(BrokenResults, match=r"load\.figures\.failed should be a count"):
        load_of(load_json)


def test_a_run_without_samples_has_no_latencies(load_json: dict[str, Any]) -> None:
    nothing = dict.fromkeys(("mean", "p50", "p90", "p95", "p99", "max"))
    load_json["figures"]["ttft_ms"] = {"count": 0, **nothing}
    load_json["figures"]["tokens_per_second"] = None
    load = load_of(load_json)
    assert load.latencies["ttft_ms"].p50 is None
    assert load.tokens_per_second is None


@pytest.mark.parametrize("secret", ["sk-0123456789", "ok", "failed", "MUST"])
def test_the_key_is_taken_out_and_the_file_stays_readable(
    tmp_path: Path, conformance_json: dict[str, Any], load_json: dict[str, Any], secret: str
) -> None:
    conformance_json["cases"][1]["wire"][0]["text"] = f"Authorization: Bearer {secret}\r\n"
    conformance_json["cases"][1]["repro"] = f"curl -H 'Authorization: Bearer {secret}'"
    load_json["figures"]["errors"] = {f"401: wrong key {secret}": 1}
    read = read_json(_written(tmp_path, conformance_json), CONFORMANCE_SCHEMA, secret)
    case = conformance_of(read).cases[1]
    assert secret not in case.wire[0].text + case.repro
    errors = load_of(read_json(_written(tmp_path, load_json), LOAD_SCHEMA, secret)).errors
    assert not any(secret in name for name in errors)


def test_numbers_that_json_has_not_become_null(tmp_path: Path, load_json: dict[str, Any]) -> None:
    load_json["figures"]["ttft_ms"]["p99"] = float("nan")
    load_json["figures"]["ttft_ms"]["max"] = float("inf")
    read = read_json(_written(tmp_path, load_json), LOAD_SCHEMA)
    json.dumps(read, allow_nan=False)
    assert load_of(read).latencies["ttft_ms"].p99 is None
