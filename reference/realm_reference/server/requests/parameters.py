"""What chat and text completions have in common: how a text is sampled, where it ends, what comes with it.

Source: OpenAI's ``CreateChatCompletionRequest`` and ``CreateCompletionRequest``, with the samplers that users
expect of an open server (``top_k``, ``min_p``, ``repetition_penalty``), and how far a server may guess ahead
(``draft_tokens``). null means "the default" everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from realm_reference.server.errors import invalid, unsupported
from realm_reference.server.requests import checks

Table = Mapping[str, Callable[[str, Any], Any]]

ONE_TIER: Final = "it has one service tier and keeps nothing."
MOST_DRAFTS: Final = 16
_MAX_STOPS: Final = 4
_MAX_CHOICES: Final = 8
_MAX_STOP_LENGTH: Final = 256
_TOKEN_ID: Final = re.compile(r"0|[1-9][0-9]{0,8}")


@dataclass(frozen=True, kw_only=True)
class TextRequest:
    """The valid parameters of any request for text. `None` stands for "not given" where the default depends
    on the model or on chance.

    `top_logprobs` is the number of alternatives to report with each token's log probability; None reports
    neither.
    """

    model: str
    stream: bool = False
    n: int = 1
    include_usage: bool = False
    max_tokens: int | None = None
    max_tokens_name: str = "max_tokens"
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    stop: tuple[str, ...] = ()
    seed: int | None = None
    top_logprobs: int | None = None
    draft_tokens: int | None = None


_STOP_SCHEMA: Final = {"type": "string", "minLength": 1, "maxLength": _MAX_STOP_LENGTH}


@checks.described(
    anyOf=[_STOP_SCHEMA, {"type": "array", "items": _STOP_SCHEMA, "minItems": 1, "maxItems": _MAX_STOPS}]
)
def _stop(name: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list):
        raise invalid(name, f"'{name}' must be a string or an array of strings.", "invalid_type")
    if not 1 <= len(value) <= _MAX_STOPS:
        raise invalid(name, f"'{name}' must hold 1 to {_MAX_STOPS} strings.", "out_of_range")
    for text in value:
        if not isinstance(text, str):
            raise invalid(name, f"'{name}' must hold strings only.", "invalid_type")
        if not 1 <= len(text) <= _MAX_STOP_LENGTH:
            raise invalid(
                name, f"A stop string must have 1 to {_MAX_STOP_LENGTH} characters.", "out_of_range"
            )
    return tuple(value)


@checks.described(type="integer", minimum=1, maximum=_MAX_CHOICES)
def _n(name: str, value: Any) -> int:
    """OpenAI's range is 1 to 128; between our limit and theirs it is "not supported", beyond it is wrong."""
    count = checks.integer(1, 128)(name, value)
    if count > _MAX_CHOICES:
        raise unsupported(name, f"'{name}' above {_MAX_CHOICES} is not supported by this server.")
    return count


_BIAS: Final = checks.number(-100, 100)


@checks.described(
    type="object",
    additionalProperties={"type": "number", "minimum": -100, "maximum": 100},
    propertyNames={"pattern": "^(0|[1-9][0-9]{0,8})$"},
)
def _logit_bias(name: str, value: Any) -> dict[int, float]:
    """Token ids, as JSON writes numbers in keys, to what is added to their logits."""
    bias = checks.mapping(name, value)
    for token in bias:
        if not _TOKEN_ID.fullmatch(token):
            raise invalid(name, f"'{name}' has the key {token[:32]!r}, which is no token id.")
    return {int(token): _BIAS(f"{name}.{token}", amount) for token, amount in bias.items()}


HONOURED: Final[Table] = {
    "model": checks.string,
    "stream": checks.boolean,
    "n": _n,
    "temperature": checks.number(0, 2),
    "top_p": checks.number(0, 1),
    "top_k": checks.integer(0, 2**31 - 1),
    "min_p": checks.number(0, 1),
    "repetition_penalty": checks.number(0.01, 10),
    "presence_penalty": checks.number(-2, 2),
    "frequency_penalty": checks.number(-2, 2),
    "logit_bias": _logit_bias,
    "stop": _stop,
    "seed": checks.integer(-(2**63), 2**63 - 1),
    "draft_tokens": checks.integer(0, MOST_DRAFTS),
}
"""Parameters whose key is both the JSON name and TextRequest's."""


def given_of(body: Mapping[str, Any], required: Iterable[str], known: Iterable[str]) -> dict[str, Any]:
    """The parameters in `body` that are not null; ApiError 400 for one that is missing or unknown."""
    checks.known_keys("", body, frozenset(known))  # first: what is missing may be there, misspelled
    for name in required:
        if body.get(name) is None:
            raise invalid(name, f"Missing required parameter: '{name}'.", "missing_required_parameter")
    return {name: value for name, value in body.items() if value is not None}


def checked(given: Mapping[str, Any], table: Table) -> dict[str, Any]:
    """What the checks in `table` make of the parameters that are there."""
    return {name: check(name, given[name]) for name, check in table.items() if name in given}


@checks.described(
    type="object",
    properties={
        "include_usage": {"type": ["boolean", "null"]},
        "include_obfuscation": {"enum": [False, None]},
    },
    additionalProperties=False,
)
def _stream_options(name: str, value: Any) -> bool:
    """Whether usage is to be included."""
    options = checks.mapping(name, value)
    checks.known_keys(f"{name}.", options, frozenset({"include_usage", "include_obfuscation"}))
    values = {
        key: entry is not None and checks.boolean(f"{name}.{key}", entry) for key, entry in options.items()
    }
    if values.get("include_obfuscation"):
        checks.only(False, because="it does not pad its events.")(f"{name}.include_obfuscation", True)
    return values.get("include_usage", False)


STREAM_OPTIONS: Final[Table] = {"stream_options": _stream_options}


def stream_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """`include_usage`, out of `stream_options`, which means nothing without a stream."""
    if "stream_options" in given and given.get("stream") is not True:
        checks.mapping("stream_options", given["stream_options"])
        raise invalid("stream_options", "'stream_options' is only allowed with 'stream': true.")
    wanted = checked(given, STREAM_OPTIONS)
    return {"include_usage": wanted["stream_options"]} if wanted else {}
