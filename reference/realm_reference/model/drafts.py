"""Draft models for speculation: any other model of the same vocabulary, or the model's own first layers."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from realm_reference.model.errors import ModelError
from realm_reference.model.model import Model, load_model
from realm_reference.model.transformer import Transformer

FIRST_LAYERS: Final = "layers:"


class DraftError(ModelError):
    """A model cannot draft for another; the message is one line with the remedy."""


def load_draft(source: str, target: Model) -> Model:
    """The draft model for `target`: its first N layers for "layers:N", else a known name or a GGUF file.

    Raises ModelError if there is none, or if its tokens are not the target's.
    """
    if source.startswith(FIRST_LAYERS):
        return first_layers(target, source.removeprefix(FIRST_LAYERS))
    draft = load_model(source, target.compute)
    mine, its = (model.tokenizer.vocabulary.texts for model in (target, draft))
    if len(mine) != len(its):
        raise DraftError(
            f"{draft.name} has {len(its)} tokens and {target.name} has {len(mine)};"
            " a draft model needs the same vocabulary: choose another, or layers:N"
        )
    at = next((i for i, pair in enumerate(zip(mine, its, strict=True)) if pair[0] != pair[1]), None)
    if at is not None:
        raise DraftError(
            f"token {at} of {draft.name} is {its[at][:20]!r}, of {target.name} it is {mine[at][:20]!r};"
            " a draft model needs the same vocabulary: choose another, or layers:N"
        )
    return draft


def first_layers(model: Model, count: str) -> Model:
    """The model without the layers from `count` on; the weights are shared. Raises DraftError for a count
    that is not at least one and fewer than the model has.
    """
    have = model.config.n_layers
    if not count.isascii() or not count.isdigit() or not 0 < int(count) < have:
        given = f"layers:{count[:20]} is no draft of {model.name}"
        raise DraftError(f"{given}, which has {have} layers; take layers:1 or more, but not all of them")
    kept = int(count)
    config = replace(model.config, n_layers=kept, layers=model.config.layers[:kept])
    weights = model.weights
    if isinstance(weights, Transformer):
        cut = replace(weights.weights, layers=weights.weights.layers[:kept])
        return replace(model, config=config, weights=replace(weights, config=config, weights=cut))
    return replace(model, config=config, weights=replace(weights, layers=weights.layers[:kept]))
