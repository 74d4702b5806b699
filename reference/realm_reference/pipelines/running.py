"""Running a pipeline: a step's prompt is made from the fields so far, and its text is a new field."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from realm_reference.pipelines.definition import DEFAULT_INPUT, Pipeline, Step
from realm_reference.pipelines.prompts import TemplateFault


class BadInput(Exception):
    """The caller's input does not fit the pipeline; `name` is the field at fault."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


class StepFailed(Exception):
    """A step's generation failed; an optional step may."""


class PipelineFailed(Exception):
    """A step failed that the pipeline cannot do without; the message names it."""

    def __init__(self, step: str, reason: str) -> None:
        super().__init__(f"step '{step}': {reason}")
        self.step = step


@dataclass(frozen=True)
class Usage:
    """What a step's generation cost, and why it ended ("stop" or "length")."""

    prompt_tokens: int
    completion_tokens: int
    finish_reason: str


Generate = Callable[[Step, str], AsyncGenerator[str | Usage, None]]
"""Continues a rendered prompt as a step wants it: pieces of text, then one Usage. Raises StepFailed; whatever
else it raises ends the pipeline as it is."""

Emit = Callable[[str], Awaitable[None]]
"""Takes a piece of the last step's text as it comes."""


@dataclass
class StepResult:
    """What came of a step; `error` is why an optional one failed."""

    name: str
    text: str = ""
    usage: Usage | None = None
    seconds: float = 0.0
    error: str | None = None

    def json(self) -> dict[str, Any]:
        """As a client sees it."""
        usage = self.usage
        told = {"name": self.name, "status": "failed" if self.error else "complete", "error": self.error}
        counted = usage and {
            "prompt_tokens": usage.prompt_tokens,
            "tokens_generated": usage.completion_tokens,
            "finish_reason": usage.finish_reason,
        }
        shown = {**told, **(counted or {}), "time_ms": round(self.seconds * 1e3, 3)}
        return {name: value for name, value in shown.items() if value is not None}


@dataclass
class Result:
    """A finished pipeline: the last step's text, all fields, and each step."""

    text: str
    fields: dict[str, str]
    steps: list[StepResult] = field(default_factory=list)

    @property
    def prompt_tokens(self) -> int:
        """Of all steps."""
        return sum(step.usage.prompt_tokens for step in self.steps if step.usage)

    @property
    def completion_tokens(self) -> int:
        """Of all steps."""
        return sum(step.usage.completion_tokens for step in self.steps if step.usage)


def fields_of(pipeline: Pipeline, given: Any) -> dict[str, str]:
    """The first fields: `given` is a string for the one input, or an object with all of them. BadInput."""
    if isinstance(given, str):
        if len(pipeline.inputs) > 1:
            raise BadInput("input", f"the pipeline needs an object with {', '.join(pipeline.inputs)}")
        given = {pipeline.inputs[0]: given}
    if not isinstance(given, dict):
        raise BadInput("input", "the input must be a string or an object of strings")
    for name in pipeline.inputs:
        if not isinstance(given.get(name), str):
            raise BadInput(f"input.{name}", f"the pipeline needs the string '{name}' in its input")
    for name in given:
        if name not in pipeline.inputs:
            raise BadInput(f"input.{name[:64]}", f"the pipeline has no input '{name[:64]}'")
    return dict(given)


async def run_pipeline(
    pipeline: Pipeline, given: Any, generate: Generate, emit: Emit | None = None
) -> Result:
    """Run all steps; `emit` gets the last step's text piece by piece.

    Raises BadInput, and PipelineFailed when a step failed that is not optional.
    """
    result = Result("", fields_of(pipeline, given))
    for step in pipeline.steps:
        last = step is pipeline.steps[-1]
        done = await _run_step(step, result.fields, generate, emit if last else None)
        result.fields[step.output_field] = result.text = done.text
        result.steps.append(done)
    return result


async def _run_step(
    step: Step, fields: Mapping[str, str], generate: Generate, emit: Emit | None
) -> StepResult:
    done, begun = StepResult(step.name), time.perf_counter()
    try:
        await _generate(step, fields, generate, emit, done)
    except (StepFailed, TemplateFault) as failure:
        # What has been streamed cannot be taken back: then the failure is the pipeline's.
        if not step.optional or (emit is not None and done.text):
            raise PipelineFailed(step.name, str(failure)) from failure
        done.error, done.text = str(failure), fields[step.input_field]
        if emit is not None:
            await emit(done.text)
    done.seconds = time.perf_counter() - begun
    return done


async def _generate(
    step: Step, fields: Mapping[str, str], generate: Generate, emit: Emit | None, done: StepResult
) -> None:
    visible = {**fields, DEFAULT_INPUT: fields[step.input_field]}
    prompt = await asyncio.to_thread(step.template.render, visible)  # a template may take its time
    if not prompt:
        raise StepFailed("its prompt is empty")
    async with aclosing(generate(step, prompt)) as events:
        async for event in events:
            if isinstance(event, Usage):
                done.usage = event
                continue
            done.text += event
            if emit is not None and event:
                await emit(event)
