"""The body of POST /v1/completions: prompts as text or as token ids, continued as they are.

Source: OpenAI's ``CreateCompletionRequest``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from realm_reference.server.errors import invalid, unsupported
from realm_reference.server.requests import checks, parameters
from realm_reference.server.requests.parameters import Table, TextRequest

PromptValue = str | tuple[int, ...]

_MAX_GENERATIONS: Final = 64
_DEFAULT_MAX_TOKENS: Final = 16
_TOKEN: Final = checks.integer(0, 2**31 - 1)
_TOKENS_SCHEMA: Final = {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1}


@dataclass(frozen=True, kw_only=True)
class CompletionRequest(TextRequest):
    """A valid request. Each prompt is a text or token ids; `echo` puts it before its completion."""

    prompt: tuple[PromptValue, ...]
    echo: bool = False


@checks.described(
    anyOf=[
        {"type": "string"},
        {
            "type": "array",
            "minItems": 1,
            "maxItems": _MAX_GENERATIONS,
            "items": {"anyOf": [{"type": "string"}, _TOKENS_SCHEMA]},
        },
        _TOKENS_SCHEMA,
    ]
)
def _prompt(name: str, value: Any) -> tuple[PromptValue, ...]:
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list):
        raise invalid(name, f"'{name}' must be a string or an array.", "invalid_type")
    if not value:
        raise invalid(name, f"'{name}' must not be empty.", "out_of_range")
    if isinstance(value[0], int | float):
        return (_tokens(name, value),)
    if len(value) > _MAX_GENERATIONS:
        raise invalid(name, f"'{name}' may hold at most {_MAX_GENERATIONS} prompts.", "out_of_range")
    return tuple(_one_of_many(f"{name}[{index}]", entry) for index, entry in enumerate(value))


def _one_of_many(name: str, value: Any) -> PromptValue:
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise invalid(name, f"'{name}' must be a string or an array of token ids.", "invalid_type")
    return _tokens(name, value)


def _tokens(name: str, value: list[Any]) -> tuple[int, ...]:
    if not value:
        raise invalid(name, f"'{name}' must not be empty.", "out_of_range")
    return tuple(_TOKEN(f"{name}[{index}]", token) for index, token in enumerate(value))


@checks.described(enum=[""], description="Not supported: its models continue a text, they do not fill in.")
def _suffix(name: str, value: Any) -> None:
    if checks.string(name, value):
        raise unsupported(name, f"'{name}' is not supported by this server: its models only continue a text.")


_HONOURED: Final[Table] = {
    **parameters.HONOURED,
    "prompt": _prompt,
    "echo": checks.boolean,
    "max_tokens": checks.integer(0, 2**31 - 1),
}
_OTHERS: Final[Table] = {
    "logprobs": checks.integer(0, 5),
    "best_of": checks.integer(1, 20),
    "suffix": _suffix,
    "user": checks.string,
}
PARAMETERS: Final[Table] = {**_HONOURED, **_OTHERS, **parameters.STREAM_OPTIONS}
"""Every parameter that the route knows."""


def parse_completion_request(body: Mapping[str, Any]) -> CompletionRequest:
    """The request in `body`; ApiError 400 that names the first parameter at fault."""
    given = parameters.given_of(body, ("model", "prompt"), PARAMETERS)
    others = parameters.checked(given, _OTHERS)
    values = {"max_tokens": _DEFAULT_MAX_TOKENS, **parameters.checked(given, _HONOURED)}
    request = CompletionRequest(
        **values, **parameters.stream_options(given), top_logprobs=others.get("logprobs")
    )
    if others.get("best_of", request.n) != request.n:
        raise unsupported("best_of", "'best_of' is not supported by this server, unless it is equal to 'n'.")
    if len(request.prompt) * request.n > _MAX_GENERATIONS:
        raise invalid("n", f"'n' times the prompts may be at most {_MAX_GENERATIONS}.", "out_of_range")
    return request
