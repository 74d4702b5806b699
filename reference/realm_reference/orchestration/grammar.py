"""Answers of a given form: a JSON schema or a grammar as a mask over the vocabulary, by way of llguidance.

The library compiles a grammar in milliseconds and computes the mask of a state in microseconds, within limits
of its own on the work that a grammar may cost, which is a stranger's input.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper
from numpy.typing import NDArray

from realm_reference.model.tokenizer import Tokenizer
from realm_reference.orchestration.logits import F32

_MAX_GRAMMAR: Final = 256 * 1024  # characters
_LARGEST: Final = 2**53
_MOST_STATES: Final = 100
_MULTIPLES: Final = frozenset(number / part for number in range(1, _MOST_STATES + 1) for part in (1, 10, 100))
# Between JSON's tokens: one space, or a new line with its indentation. A model that may write any number of
# them does so until its limit.
WHITESPACE: Final = r"(\n[ ]{0,32}|[ ]?)"


class GrammarError(Exception):
    """The grammar cannot be used; the message says why, for who wrote it."""


class GrammarFault(Exception):
    """The grammar cost more than it may while it was used."""


@dataclass(frozen=True)
class Grammar:
    """A grammar that compiles, with the vocabulary that it is for. Safe to share between generations."""

    source: str
    tokenizer: LLTokenizer
    vocab_size: int


def json_grammar(schema: Mapping[str, Any]) -> str:
    """The grammar of JSON that `schema` accepts, strictly: what the library does not know is an error.

    Raises GrammarError for a schema that is nested too deeply or has numbers that are too large; the rest is
    found when it is compiled.
    """
    check_numbers(schema)
    options: Any = {"whitespace_pattern": WHITESPACE, "lenient": False, "coerce_one_of": False}
    try:
        return LLMatcher.grammar_from_json_schema(json.dumps(schema), overrides=options)
    except (ValueError, RecursionError):
        raise GrammarError("it is nested too deeply") from None


def check_numbers(schema: Any) -> None:
    """Raise GrammarError for a number past 2**53, which not every reader of JSON keeps, and for multiples
    that need many states.

    It has to be asked here: near 2**63 the library (1.9) recurses without end, and takes the process with
    it; a large multiple takes it minutes and gigabytes.
    """
    left = [schema]
    while left:
        value = left.pop()
        if isinstance(value, Mapping):
            left += value.values()
        elif isinstance(value, list):
            left += value
        elif isinstance(value, int | float) and not -_LARGEST <= value <= _LARGEST:
            raise GrammarError("it holds a number beyond 2 to the power of 53")
        multiple = value.get("multipleOf") if isinstance(value, Mapping) else None
        if isinstance(multiple, int | float) and multiple not in _MULTIPLES:
            raise GrammarError(
                f"'multipleOf' {multiple} is none of 1 to {_MOST_STATES}, or these over 10 or 100"
            )


class GrammarCompiler:
    """Compiles grammars for one model's vocabulary."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._lock = threading.Lock()

    @cached_property
    def _library_tokenizer(self) -> LLTokenizer:
        """Made with the first grammar: it takes some tenths of a second on a large vocabulary."""
        wrapped = TokenizerWrapper(_Vocabulary(self._tokenizer))
        return LLTokenizer(
            wrapped,
            n_vocab=self._tokenizer.vocab_size,
            eos_token=list(self._tokenizer.eos_ids),
            slices=LLTokenizer.json_slices(),
        )

    def compile(self, source: str) -> Grammar:
        """Check a grammar, in Lark's or the library's own notation; takes time in proportion to its size.

        Raises GrammarError.
        """
        if not self._tokenizer.eos_ids:
            raise GrammarError("the model has no token that could end an answer")
        if len(source) > _MAX_GRAMMAR:
            raise GrammarError(f"it has more than {_MAX_GRAMMAR} characters")
        with self._lock:
            tokenizer = self._library_tokenizer
        grammar = Grammar(source, tokenizer, self._tokenizer.vocab_size)
        try:
            with _no_panic():
                failed, messages = LLMatcher.validate_grammar_with_warnings(source, tokenizer)
            if failed:
                raise GrammarError(" ".join(messages[0].split())[:300])
            GrammarProcessor(grammar).allows([], 0)  # some find out only now that they cannot
        except GrammarFault:
            raise GrammarError("it allows no text, or only text without end") from None
        return grammar


class GrammarProcessor:
    """The mask of a grammar in one generation. It goes back with a guest that takes tokens back."""

    def __init__(self, grammar: Grammar) -> None:
        self._grammar = grammar
        with _no_panic():
            self._matcher = LLMatcher(grammar.tokenizer, grammar.source, log_level=0)
        self._consumed: list[int] = []
        self._mask: NDArray[np.bool_] | None = None

    def __call__(self, generated: Sequence[int], row: F32) -> None:
        """Rule out the tokens that the grammar does not allow next.

        After tokens that it does not allow it has nothing to say: whatever follows them is not the answer.
        """
        with _no_panic():
            if self._follow(generated):
                row[: self._grammar.vocab_size][~self._allowed()] = -np.inf

    def allows(self, generated: Sequence[int], token: int) -> bool:
        """Whether `token` may follow `generated`."""
        with _no_panic():
            known = token < self._grammar.vocab_size
            return known and self._follow(generated) and bool(self._allowed()[token])

    def _follow(self, generated: Sequence[int]) -> bool:
        """Bring the matcher to the state after `generated`; False if there is none."""
        same = 0
        for mine, theirs in zip(self._consumed, generated, strict=False):
            if mine != theirs:
                break
            same += 1
        if same == len(self._consumed) == len(generated):
            return True
        self._mask = None
        if same < len(self._consumed):
            self._matcher.rollback(len(self._consumed) - same)
            del self._consumed[same:]
        fresh = list(generated[same:])
        taken = self._matcher.try_consume_tokens(fresh)
        if self._matcher.is_error():
            raise GrammarFault
        self._consumed += fresh[:taken]
        return taken == len(fresh)

    def _allowed(self) -> NDArray[np.bool_]:
        if self._mask is None:
            bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
            if self._matcher.is_error():
                raise GrammarFault
            unpacked = np.unpackbits(bits, count=self._grammar.vocab_size, bitorder="little")
            self._mask = unpacked.astype(np.bool_)
        return self._mask


@contextlib.contextmanager
def _no_panic() -> Iterator[None]:
    """A panic inside the library, which is no Exception, becomes a GrammarFault."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise GrammarFault from None


class _Vocabulary:
    """A tokenizer as the library wants it."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.eos_token_id = tokenizer.eos_ids[0]
        self.bos_token_id = tokenizer.bos_id
        self.tokens = [tokenizer.token_bytes(i) for i in range(tokenizer.vocab_size)]
        self.special_token_ids = [i for i in range(tokenizer.vocab_size) if tokenizer.is_special(i)]

    def __call__(self, text: str | bytes) -> list[int]:
        decoded = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
        return self._tokenizer.encode(decoded, parse_special=False)
