"""What is asked of the orchestrator: a prompt and how to continue it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from realm_reference.engine.adapters import LoadedAdapter
from realm_reference.model.tokenizer import Tokenizer
from realm_reference.orchestration.grammar import Grammar


@dataclass(frozen=True)
class Prompt:
    """A prompt as the guest gets it, and the number of tokens that it is to the model, BOS included.

    `ids` are there if the client gave token ids: the host then encodes `text`, which is what they spell, as
    these, because another encoding of it may be what the model would choose.
    """

    text: str
    tokens: int
    add_bos: bool
    ids: tuple[int, ...] | None = None

    def tokenized(self, tokenizer: Tokenizer) -> list[int]:
        """Its token ids, BOS included."""
        return list(self.ids) if self.ids else tokenizer.encode(self.text, add_bos=self.add_bos)


@dataclass(frozen=True)
class GenerationRequest:
    """One generation. Names and meanings are those of the ABI's GenRequest; `seed` is taken modulo 2**64.

    `tenant` is whose guest runs it and on whose share of the engine. `adapter` names what it runs with, ""
    is the model itself; `loaded` is that one, held by the orchestrator until the request's end. Guests of ABI
    v1 have no `draft_tokens`, and lose nothing but time. What the ABI does not know is done by the host:
    `logit_bias` (by token), the two penalties, `grammar`, and `logprobs`, which is how many alternatives to
    report with each token (None reports nothing), with `score_prompt` the prompt's too.
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
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    grammar: Grammar | None = None
    logprobs: int | None = None
    score_prompt: bool = False
    draft_tokens: int = 0
    tenant: str = ""
    adapter: str = ""
    loaded: LoadedAdapter | None = None

    @property
    def shaped(self) -> bool:
        """Whether the host has to look at the logits."""
        penalised = bool(self.presence_penalty or self.frequency_penalty)
        return penalised or bool(self.logit_bias) or self.grammar is not None or self.logprobs is not None


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


def prompt_of_ids(tokenizer: Tokenizer, ids: tuple[int, ...]) -> Prompt:
    """A prompt that a client gave as token ids, which has all that it wants in it."""
    text = tokenizer.decode(ids, skip_special=False).decode("utf-8", "replace")
    return Prompt(text, len(ids), add_bos=False, ids=ids)
