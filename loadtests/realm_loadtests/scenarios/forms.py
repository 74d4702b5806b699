"""Requests that cost a server more than a text: answers by a schema, and other adapters."""

from __future__ import annotations

from typing import Any, Final

from realm_loadtests.scenarios.chat import PROMPTS
from realm_loadtests.scenarios.scenario import Ask, Questions

SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "title": {"type": "string", "maxLength": 40},
        "items": {"type": "array", "items": {"type": "string", "maxLength": 20}, "maxItems": 4},
        "certain": {"type": "boolean"},
    },
    "required": ["title", "items", "certain"],
    "additionalProperties": False,
}


class Structured(Questions):
    """Answers that must be JSON of one schema."""

    def next(self) -> Ask:
        """A question whose answer has a form."""
        form = {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": SCHEMA}}
        return Ask(self.body(self.random.choice(PROMPTS), response_format=form))


class Adapters(Questions):
    """Each request asks for one of the run's adapters, or for the base model, at random."""

    def next(self) -> Ask:
        """A question to `model:adapter`, or to the model."""
        ask = Ask(self.body(self.random.choice(PROMPTS)))
        adapter = self.random.choice(("", *self.settings.adapters))
        if adapter:
            ask.body["model"] = f"{self.settings.model}:{adapter}"
        return ask
