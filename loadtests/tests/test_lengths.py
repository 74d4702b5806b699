"""Prompts of exact lengths, by tokenizers that the load test knows nothing of."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from realm_loadtests.commands.load import load
from realm_loadtests.figures.lengths import lengths
from realm_loadtests.records.records import Record
from realm_loadtests.runs.tokenizer import Unmeasured, measured
from realm_loadtests.scenarios.drawn import Drawn
from realm_loadtests.scenarios.spread import Spread, SpreadError
from realm_loadtests.settings import Settings
from realm_mocks.server import MockServer

TEMPLATE = 7
FORMS = ("128", "uniform:64-256", "normal:200:50", "lognormal:200:0.8")
TOKENIZERS: dict[str, Callable[[str], int]] = {
    "whole words": lambda text: len(text.split()),
    "some words are two": lambda text: sum(1 + (len(word) > 6) for word in text.split()),
    "pieces of four": lambda text: sum(-(-len(word) // 4) for word in text.split()),
    "letters and spaces": len,
    "bytes, with a first word of its own": lambda text: 1 + len(text.removeprefix("The")),
}


def settings(**more: str) -> Settings:
    return Settings(url="http://127.0.0.1:1", model="m", scenario="lengths", **more)  # type: ignore[arg-type]


@given(st.sampled_from(FORMS), st.integers())
def test_what_is_drawn_is_within_its_limits(form: str, seed: int) -> None:
    spread = Spread.parse(form)
    drawn = [spread.draw(Random(seed)) for _ in range(20)]
    assert all(spread.low <= length <= spread.high for length in drawn)
    assert drawn == [spread.draw(Random(seed)) for _ in range(20)]


@pytest.mark.parametrize(
    "form", ["", "0", "-5", "uniform:9-3", "uniform:5", "normal:5", "lognormal:0:1", "9999999"]
)
def test_what_is_no_length_says_how_one_is_written(form: str) -> None:
    with pytest.raises(SpreadError, match=r"write 128, uniform|the shorter one first"):
        Spread.parse(form)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_prompts_have_the_drawn_length_whatever_the_tokenizer(name: str) -> None:
    calls = []

    def count(text: str) -> int:
        calls.append(text)
        return TEMPLATE + TOKENIZERS[name](text)

    ready = measured(settings(prompt_tokens="uniform:12-300"), count)
    assert len(calls) < 150
    users = Drawn(ready, Random(3))
    for _ in range(50):
        ask = users.next()
        assert count(ask.body["messages"][0]["content"]) == ask.prompt_tokens


def test_a_prompt_below_the_templates_length_is_refused() -> None:
    with pytest.raises(Unmeasured, match=r"no prompt has 5 tokens.*take 8; ask for 8 or more"):
        measured(settings(prompt_tokens="5"), lambda text: TEMPLATE + len(text.split()))


def test_a_tokenizer_without_a_rule_is_refused() -> None:
    with pytest.raises(Unmeasured, match="leave --prompt-tokens out"):
        measured(settings(prompt_tokens="50"), lambda text: 8 + len(text) % 3)


def test_figures_say_how_exact_prompts_were_and_how_many_answers_went_so_far() -> None:
    def record(counted: int | None, tokens: int) -> Record:
        return Record(
            "completed", 0, 0, prompt_tokens=counted, wanted_prompt_tokens=9, tokens=tokens, wanted_tokens=4
        )

    found = lengths([record(9, 4), record(12, 4), record(None, 3), record(9, 1)])
    assert found == {"prompts": 3, "exact": 0.666667, "most_off": 3, "answers": 4, "whole": 0.5}
    assert lengths([Record("completed", 0, 0)]) is None


def test_a_run_asks_in_exact_lengths(tmp_path: Path) -> None:
    with MockServer() as server:
        outcome = CliRunner().invoke(
            load,
            f"{server.url} --prompt-tokens uniform:20-60 --output-tokens uniform:1-6 --users 2 --duration 1s "
            f"--out {tmp_path}",
        )
    assert outcome.exit_code == 0, outcome.output
    found = json.loads((tmp_path / "load.json").read_text())["lengths"]
    assert found["prompts"] > 0
    assert (found["exact"], found["most_off"]) == (1.0, 0)
    assert "drawn lengths" in outcome.output


@pytest.mark.parametrize("also", [("--prompt", "Hello"), ("--scenario", "chat")])
def test_lengths_and_other_prompts_exclude_each_other(also: tuple[str, str]) -> None:
    outcome = CliRunner().invoke(load, ["http://127.0.0.1:1", "--prompt-tokens", "50", *also])
    assert outcome.exit_code == 2
    assert "leave the other ones out" in outcome.output
