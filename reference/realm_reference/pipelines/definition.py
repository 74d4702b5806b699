"""What a pipeline is: frozen values, made only by `reading`, so that every one of them is valid."""

from __future__ import annotations

import secrets
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from realm_reference.pipelines.prompts import StepTemplate

DEFAULT_INPUT: Final = "input"


@dataclass(frozen=True)
class Sampling:
    """How to continue a prompt. The defaults are those of Realm's `generate`; seed None draws one.

    `draft_tokens` are the guesses that it may have at a time; None are as many as there may be.
    """

    max_tokens: int = 100
    temperature: float = 0.7
    top_p: float = 0.9
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    draft_tokens: int | None = None

    def within(self, room: int, drafts: int) -> dict[str, Any]:
        """As a request for a generation names them: at most `room` tokens and `drafts` guesses at a time, and
        with a seed.
        """
        seed = secrets.randbits(32) if self.seed is None else self.seed
        drafts = drafts if self.draft_tokens is None else min(self.draft_tokens, drafts)
        return asdict(replace(self, max_tokens=min(self.max_tokens, room), seed=seed, draft_tokens=drafts))


@dataclass(frozen=True)
class Step:
    """One generation: its prompt is `template`, filled with the fields that are known when its turn comes.

    Attributes:
        name: unique in its pipeline.
        model: the model's name; None takes the one that is there.
        adapter: the LoRA adapter that it runs with; None takes the caller's own, if it has one.
        template: the prompt; in it `input` is the value of `input_field`.
        input_field: what the step works on; an optional step that fails hands it on as its output.
        output_field: where its text goes.
        optional: the pipeline goes on without it when it fails.
        chat: the prompt is a user's message to the model's chat template, where the model has one.
        sampling: how to continue it.
    """

    name: str
    model: str | None
    template: StepTemplate
    input_field: str
    output_field: str
    optional: bool = False
    chat: bool = True
    sampling: Sampling = field(default_factory=Sampling)
    adapter: str | None = None


@dataclass(frozen=True)
class Pipeline:
    """Steps in the order in which they run. `inputs` are the fields that a caller has to give."""

    name: str
    steps: tuple[Step, ...]
    inputs: tuple[str, ...] = (DEFAULT_INPUT,)
    description: str = ""

    def card(self) -> dict[str, Any]:
        """What a client may know of it."""
        return {
            "name": self.name,
            "description": self.description,
            "inputs": list(self.inputs),
            "steps": [step.name for step in self.steps],
        }
