"""Pipelines from files: what is valid, and where exactly what is wrong is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from realm_reference.pipelines import (
    Pipeline,
    PipelineError,
    Sampling,
    load_folder,
    parse_pipeline,
    read_pipeline,
)

EXAMPLES = Path(__file__).parents[1] / "examples" / "pipelines"
ONE = "name: one\nsteps:\n  - name: only\n"


def problems(text: str, source: str = "p.yaml") -> list[str]:
    with pytest.raises(PipelineError) as caught:
        parse_pipeline(text, source)
    return [str(problem).removeprefix(f"{source}:") for problem in caught.value.problems]


def test_the_example_is_valid() -> None:
    pipeline = read_pipeline(EXAMPLES / "explain.yaml")
    assert pipeline.card() == {
        "name": "explain",
        "description": "Explains a text to an audience.",
        "inputs": ["text", "audience"],
        "steps": ["summarise", "explain", "simplify"],
    }
    first, second, third = pipeline.steps
    assert (first.input_field, second.input_field, third.input_field) == ("text", "summarise", "explain")
    assert [step.optional for step in pipeline.steps] == [False, False, True]
    assert first.sampling == Sampling(max_tokens=40, temperature=0.0)
    assert third.sampling.stop == ("\n\n",)


def test_a_step_needs_no_more_than_a_name() -> None:
    [step] = parse_pipeline(ONE, "p.yaml").steps
    assert (step.input_field, step.output_field, step.model, step.chat) == ("input", "only", None, True)
    assert step.template.render({"input": "as it is"}) == "as it is"
    assert step.sampling == Sampling()


def test_json_and_yaml_mean_the_same() -> None:
    document = {
        "name": "two",
        "steps": [
            {"name": "first-step", "model_id": "m", "template": "\U0001f642 {{ input }}/"},
            {"name": "second", "params": {"stop": "x", "seed": -5, "temperature": 1.5}},
        ],
    }

    def shape(pipeline: Pipeline) -> list[object]:
        return [
            (step.name, step.model, step.template.source, step.input_field, step.output_field, step.sampling)
            for step in pipeline.steps
        ]

    one = shape(parse_pipeline(json.dumps(document, indent="\t"), "p.json"))
    assert shape(parse_pipeline(json.dumps(document, ensure_ascii=False), "p.yaml")) == one
    assert one[0] == ("first-step", "m", "\U0001f642 {{ input }}/", "input", "first_step", Sampling())
    assert one[1][3] == "first_step"  # type: ignore[index]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "1:1: it is empty"),
        ("- 1", "1:1: a pipeline must be a mapping"),
        ("name: a b\nsteps: [{name: x}]", "1:7: 'name' must be 1 to 64 letters"),
        ("name: a", "1:1: a pipeline needs 'steps'"),
        ("name: a\nsteps: []", "2:8: 'steps' must be a list of 1 to 32 steps"),
        ("name: a\nsteps: [{name: x}]\nname: b", "3:1: the key 'name' is there twice"),
        ("name: a\nstep: [{name: x}]", "2:1: a pipeline has the unknown key 'step'; did you mean 'steps'?"),
        ("name: a\nsteps:\n  - {}", "3:5: 'name' is missing"),
        ("name: a\nsteps:\n - name: x\n - name: x", "4:10: the step name 'x' is there twice"),
        ("inputs: [a, a]\n" + ONE, "1:13: the input 'a' is there twice"),
        ("inputs: [a-b]\n" + ONE, "1:10: 'a-b' cannot be used as a field"),
        (ONE + "    optional: no\n", "4:15: 'optional' must be true or false"),
        (ONE + "    adapter: 3\n", "4:14: 'adapter' must be a string that is not empty"),
        (ONE + "    model: m\n    model_id: m\n", "5:15: 'model' and 'model_id' are the same"),
        (ONE + "    input_field: inptu\n", "4:18: the field 'inptu' is not there yet; did you mean 'input'?"),
        (ONE + "    template: '{{ only }}'\n", "4:15: the template asks for 'only', which is not there yet"),
        (ONE + "    template: |\n      a\n      {% if %}\n", "4:15: line 2 of the template: "),
        (ONE + "    template: 5\n", "4:15: 'template' must be a string"),
        (ONE + f"    template: {'x' * 20000}\n", "4:15: 'template' has more than 16384 characters"),
        (ONE + "    params: {temperature: 3}\n", "4:27: 'temperature' must be a number from 0 to 2"),
        (ONE + "    params: {max_tokens: 1.5}\n", "4:26: 'max_tokens' must be an integer from 1 to"),
        (
            ONE + "    params: {repetition_penalty: 0}\n",
            "4:34: 'repetition_penalty' must be a number from 0.01",
        ),
        (ONE + "    params: {top_p: .nan}\n", "4:21: 'top_p' must be a number from 0 to 1"),
        (ONE + "    params: {stop: []}\n", "4:20: 'stop' must be 1 to 4 strings"),
        (
            ONE + "    params: {seeds: 1}\n",
            "4:14: 'params' has the unknown key 'seeds'; did you mean",
        ),
        ("a: &x [1]\nb: *x", "2:4: aliases and tags are not allowed"),
        ("name: !!python/name:os.system x", "1:7: aliases and tags are not allowed"),
        ("a: [1", "1:6: "),
        ("? [a]\n: 1", "1:3: a key must be a string"),
        ("x" * 70000, "1:1: it is larger than 64 KiB"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(text: str, told: str) -> None:
    assert any(line.startswith(told) for line in problems(text)), problems(text)


def test_all_problems_are_told_in_order() -> None:
    told = problems(ONE + "    modle: x\n    optional: 1\n    params: {top_k: -1}\n  - 7\n")
    assert [line.split(":")[:2] for line in told] == [
        ["4", "5"], ["5", "15"], ["6", "21"], ["7", "5"], ["7", "5"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"name": "a",}', "1:14: "),
        ('{"name": "a" "b"}', "1:14: "),
        ("[" * 30000, "1:1: it is nested too deeply"),
        ('{"name": "a\\ud800", "steps": [{"name": "x"}]}', "1:10: 'name' must be"),
        ('{"name": "a", "steps": [{"name": "x", "template": "\\udfff"}]}', "1:51: 'template' holds an unp"),
    ],
)
def test_json_is_held_to_json(text: str, told: str) -> None:
    assert problems(text, "p.json")[0].startswith(told)


def test_a_folder_is_read_whole(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text(ONE)
    (tmp_path / "two.json").write_text('{"name": "two", "steps": [{"name": "x", "model": "other"}]}')
    (tmp_path / "notes.txt").write_text("not a pipeline")
    assert sorted(load_folder(tmp_path)) == ["one", "two"]
    with pytest.raises(PipelineError, match="step 'x' wants the model 'other', and 'tiny' is what is loaded"):
        load_folder(tmp_path, model="tiny")
    (tmp_path / "three.yml").write_text(ONE)
    (tmp_path / "four.yaml").write_text("name: [\n")
    (tmp_path / "five.yaml").write_bytes(b"name: \xff")
    with pytest.raises(PipelineError) as caught:
        load_folder(tmp_path)
    assert sorted(Path(problem.source).name for problem in caught.value.problems) == [
        "five.yaml", "four.yaml", "three.yml",
    ]  # fmt: skip
    with pytest.raises(PipelineError, match="cannot be read"):
        load_folder(tmp_path / "nothing")
    with pytest.raises(PipelineError, match="cannot be read"):
        read_pipeline(tmp_path / "nothing.yaml")


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(st.text(), st.text(alphabet="{}[]:,-\"' \n\t&*!|>?#%@a1.~")), st.sampled_from(["yaml", "json"])
)
def test_no_text_makes_it_raise_anything_else(text: str, ending: str) -> None:
    with pytest.raises(PipelineError) as caught:
        parse_pipeline(text, f"p.{ending}")
    assert all(problem.line >= 1 and problem.column >= 1 for problem in caught.value.problems)
