"""Pipelines run: fields, optional steps, failures by name, streaming of the last step. No model in here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest
from realm_reference.pipelines import (
    BadInput,
    Generate,
    Pipeline,
    PipelineFailed,
    Step,
    StepFailed,
    Usage,
    parse_pipeline,
    run_pipeline,
)

TWO = """
name: two
inputs: [text, tone]
steps:
  - {name: first, template: "1 {{ text }}"}
  - {name: second, template: "2 {{ input }} {{ tone }} {{ text }}"}
"""


def answering(*failing: str, prompts: list[str] | None = None) -> Generate:
    """Echoes each prompt in two pieces; the steps named in `failing` fail after the first of them."""

    async def generate(step: Step, prompt: str) -> AsyncGenerator[str | Usage, None]:
        if prompts is not None:
            prompts.append(prompt)
        yield "<"
        if step.name in failing:
            raise StepFailed("the model is tired")
        yield prompt + ">"
        yield Usage(len(prompt), 2, "stop")

    return generate


def pipeline(text: str) -> Pipeline:
    return parse_pipeline(text, "p.yaml")


async def test_each_step_sees_what_was_there_before() -> None:
    prompts: list[str] = []
    result = await run_pipeline(pipeline(TWO), {"text": "T", "tone": "calm"}, answering(prompts=prompts))
    assert prompts == ["1 T", "2 <1 T> calm T"]
    assert result.text == "<2 <1 T> calm T>"
    assert result.fields == {"text": "T", "tone": "calm", "first": "<1 T>", "second": result.text}
    assert (result.prompt_tokens, result.completion_tokens) == (3 + 14, 4)
    told = [step.json() for step in result.steps]
    assert [(step["name"], step["status"], step["tokens_generated"]) for step in told] == [
        ("first", "complete", 2), ("second", "complete", 2),
    ]  # fmt: skip


async def test_only_the_last_step_streams() -> None:
    pieces: list[str] = []

    async def emit(piece: str) -> None:
        pieces.append(piece)

    result = await run_pipeline(pipeline(TWO), {"text": "T", "tone": "x"}, answering(), emit)
    assert pieces == ["<", "2 <1 T> x T>"]
    assert "".join(pieces) == result.text


async def test_a_failing_step_is_named() -> None:
    with pytest.raises(PipelineFailed, match="step 'first': the model is tired") as caught:
        await run_pipeline(pipeline(TWO), {"text": "T", "tone": "x"}, answering("first"))
    assert caught.value.step == "first"


async def test_an_optional_step_may_fail_and_hands_its_input_on() -> None:
    optional = pipeline(TWO.replace("{name: first,", "{name: first, optional: true,"))
    result = await run_pipeline(optional, {"text": "T", "tone": "x"}, answering("first"))
    assert result.text == "<2 T x T>"
    assert result.steps[0].json() | {"time_ms": 0} == {
        "name": "first", "status": "failed", "error": "the model is tired", "time_ms": 0,
    }  # fmt: skip


async def test_what_has_been_streamed_is_not_taken_back() -> None:
    optional = pipeline("name: p\nsteps: [{name: only, optional: true}]")

    async def emit(piece: str) -> None:
        assert piece == "<"

    with pytest.raises(PipelineFailed, match="step 'only'"):
        await run_pipeline(optional, "T", answering("only"), emit)
    assert (await run_pipeline(optional, "T", answering("only"))).text == "T"


async def test_a_template_that_fails_is_the_steps_failure() -> None:
    greedy = "name: p\nsteps: [{name: only, template: '{{ input * 99999999 }}'}]"
    with pytest.raises(PipelineFailed, match="step 'only': the template was stopped: one of its values"):
        await run_pipeline(pipeline(greedy), "long", answering())
    with pytest.raises(PipelineFailed, match="step 'only': its prompt is empty"):
        await run_pipeline(pipeline("name: p\nsteps: [{name: only}]"), "", answering())


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("a text", "input"),
        (None, "input"),
        ({"text": "T"}, "input.tone"),
        ({"text": "T", "tone": 5}, "input.tone"),
        ({"text": "T", "tone": "x", "tune": "y"}, "input.tune"),
    ],
)
async def test_input_that_does_not_fit_is_named(given: object, name: str) -> None:
    with pytest.raises(BadInput) as caught:
        await run_pipeline(pipeline(TWO), given, answering())
    assert caught.value.name == name


async def test_cancelling_it_ends_the_generation_of_the_step() -> None:
    ended = asyncio.Event()

    async def generate(step: Step, prompt: str) -> AsyncGenerator[str | Usage, None]:
        try:
            yield "first"
            await asyncio.sleep(60)
        finally:
            ended.set()

    running = asyncio.ensure_future(run_pipeline(pipeline(TWO), {"text": "T", "tone": "x"}, generate))
    await asyncio.sleep(0.05)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert ended.is_set()
