"""How models are talked to whose files say nothing of it: formats that their makers have published, as chat
templates. A template in the file is always preferred.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class PublishedFormat:
    """A chat template with the tokens that a vocabulary needs for it, and where it is described."""

    template: str
    tokens: frozenset[str]
    source: str


# Turns are the user's or the model's; what the system says stands at the head of the next turn.
_GEMMA: Final = PublishedFormat(
    template=(
        "{{ bos_token }}{% set said = namespace(before='') %}"
        "{% for message in messages %}{% if message.role == 'system' %}"
        "{% set said.before = said.before ~ (message.content | trim) ~ '\n\n' %}"
        "{% else %}<start_of_turn>{{ 'model' if message.role == 'assistant' else 'user' }}\n"
        "{{ said.before ~ (message.content | trim) }}<end_of_turn>\n"
        "{% set said.before = '' %}{% endif %}{% endfor %}"
        "{% if said.before %}<start_of_turn>user\n{{ said.before | trim }}<end_of_turn>\n{% endif %}"
        "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
    ),
    tokens=frozenset({"<start_of_turn>", "<end_of_turn>"}),
    source="https://ai.google.dev/gemma/docs/core/prompt-structure",
)
_FORMATS: Final = {"gemma3": _GEMMA}


def published_format(architecture: str, texts: Collection[str]) -> PublishedFormat | None:
    """The format of models of that architecture, if the vocabulary has the tokens for it."""
    found = _FORMATS.get(architecture)
    return found if found is not None and found.tokens <= set(texts) else None
