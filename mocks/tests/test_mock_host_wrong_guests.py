"""Negative controls: a small right guest of each version, spoiled in one place; one rule tells on it."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from realm_mocks.host import RULES, Fault, MockHost, Return, Run, Stop, default_vocabulary

GUESTS = Path(__file__).parent / "guests"
VOCABULARY = default_vocabulary()
PROMPT = "the prompt of a test, a little longer than one chunk"
SCRIPT = "hello world, and the end"
FAULTED_CALL = 2


def source(version: str) -> str:
    name = {"v1": "layerwise.wat", "v2": "sessions.wat"}[version]
    text = (GUESTS / name).read_text("utf-8")
    return text.replace("VOCAB", str(VOCABULARY.vocab_size)).replace("EOS", str(VOCABULARY.eos_ids[0]))


def wrong(version: str) -> list[Any]:
    variants = tomllib.loads((GUESTS / f"wrong_{version}.toml").read_text("utf-8"))["wrong"]
    return [pytest.param(version, variant, id=f"{version} {variant['what']}") for variant in variants]


def faults(function: str | None) -> list[Fault]:
    stops = function in ("realm_emit", "realm_stream_token")
    return [Fault(Stop() if stops else Return(-9), function, FAULTED_CALL)] if function else []


def runs(guest: str, function: str | None = None) -> list[Run]:
    """A run that max_tokens ends and one that the EOS ends."""
    host = MockHost(guest, SCRIPT, faults=faults(function), canaries="memory")
    return [host.generate(PROMPT, max_tokens=limit) for limit in (5, 64)]


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_the_right_guests_break_no_rule(version: str) -> None:
    short, whole = runs(source(version))
    assert whole.check().text == SCRIPT
    assert whole.text.startswith(short.check().text)
    assert len(short.tokens) == 5


@pytest.mark.parametrize(("version", "variant"), [*wrong("v1"), *wrong("v2")])
def test_a_spoiled_guest_breaks_its_rule(version: str, variant: dict[str, str]) -> None:
    right = source(version)
    assert right.count(variant["find"]) == 1
    spoiled = runs(right.replace(variant["find"], variant["put"]), variant.get("fault"))
    told = [run for run in spoiled if variant["rule"] in run.rules]
    assert told
    with pytest.raises(AssertionError, match=f"\\[{variant['rule']}\\]"):
        told[0].check(error=told[0].error)


@pytest.mark.parametrize(
    ("version", "function"),
    [
        ("v1", "realm_forward_layer"),
        ("v1", "realm_decode_tokens"),
        ("v1", "realm_stream_token"),
        ("v2", "realm_forward"),
        ("v2", "realm_decode"),
        ("v2", "realm_emit"),
    ],
)
def test_the_faults_of_the_variants_alone_break_no_rule(version: str, function: str) -> None:
    for run in runs(source(version), function):
        run.check(error=run.error)


def test_every_rule_has_a_guest_that_breaks_it() -> None:
    broken = {param.values[1]["rule"] for version in ("v1", "v2") for param in wrong(version)}
    assert broken == set(RULES)
