"""What is asked of the orchestrator: a prompt and how to continue it."""

from __future__ import annotations

from dataclasses import dataclass, field

from realm_reference.model.tokenizer import Tokenizer


@dataclass(frozen=True)
class Prompt:
    """A prompt as the guest gets it, and the number of tokens that it is to the model, BOS included."""

    text: str
    tokens: int
    add_bos: bool


@dataclass(frozen=True)
class GenerationRequest:
    """One generation. Names and meanings are those of the ABI's GenRequest; `seed` is taken modulo 2**64.

    `tenant` is whose guest runs it and on whose share of the engine.
    """

    prompt: Prompt
    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = field(default=())
    want_logprobs: bool = False
    tenant: str = ""


def encode_with_bos(tokenizer: Tokenizer, text: str, *, parse_special: bool = True) -> list[int]:
    """Token ids with the model's BOS first, never twice: chat templates write theirs into the text."""
    ids = tokenizer.encode(text, parse_special=parse_special)
    if tokenizer.bos_id is None or ids[:1] == [tokenizer.bos_id]:
        return ids
    return [tokenizer.bos_id, *ids]


def prepare_prompt(tokenizer: Tokenizer, text: str, *, abi_version: int) -> Prompt:
    """Count a prompt's tokens exactly as the guest will see them.

    ABI v1 puts BOS before every text. With v2 the host says whether to, and does where the model was
    trained so.
    """
    ids = tokenizer.encode(text)
    wanted = tokenizer.bos_id is not None and (abi_version == 1 or tokenizer.adds_bos)
    add_bos = wanted and ids[:1] != [tokenizer.bos_id]
    return Prompt(text, len(ids) + add_bos, add_bos)
