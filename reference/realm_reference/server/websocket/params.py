"""The parameters of the functions: what is accepted, its ranges, its defaults. null means the default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from realm_reference.pipelines import Sampling
from realm_reference.server.errors import invalid
from realm_reference.server.requests import checks, parameters
from realm_reference.server.requests.parameters import Table


@dataclass(frozen=True)
class GenerateParams:
    """What `generate` was asked. `chat` makes the prompt a user's message to the model's chat template;
    Realm's own prompts are continued as they are.
    """

    prompt: str
    model: str | None = None
    stream: bool = False
    chat: bool = False
    logprobs: bool = False
    max_tokens_given: bool = False
    sampling: Sampling = field(default_factory=Sampling)


@dataclass(frozen=True)
class PipelineParams:
    """What `pipeline` was asked; the pipeline itself knows which inputs it needs."""

    pipeline: str
    input: Any
    stream: bool = False


def _prompt(name: str, value: Any) -> str:
    text = checks.string(name, value)
    if not text:
        raise invalid(name, f"'{name}' must not be empty.", "out_of_range")
    return text


def _input(name: str, value: Any) -> Any:
    if not isinstance(value, str | dict):
        raise invalid(name, f"'{name}' must be a string or an object of strings.", "invalid_type")
    return value


_SAMPLING: Final[Table] = {
    "max_tokens": checks.integer(1, 2**31 - 1),
    **{name: parameters.HONOURED[name] for name in Sampling.__dataclass_fields__ if name != "max_tokens"},
}
_GENERATE: Final[Table] = {
    "prompt": _prompt,
    "model": checks.string,
    "stream": checks.boolean,
    "chat": checks.boolean,
    "logprobs": checks.boolean,
}
_PIPELINE: Final[Table] = {"pipeline": checks.string, "input": _input, "stream": checks.boolean}
_CANCEL: Final[Table] = {"id": checks.string}


def generate_params(params: Mapping[str, Any]) -> GenerateParams:
    """The parameters of `generate`; ApiError 400 names the first at fault."""
    given = parameters.given_of(params, ("prompt",), {**_GENERATE, **_SAMPLING})
    return GenerateParams(
        **parameters.checked(given, _GENERATE),
        max_tokens_given="max_tokens" in given,
        sampling=Sampling(**parameters.checked(given, _SAMPLING)),
    )


def pipeline_params(params: Mapping[str, Any]) -> PipelineParams:
    """The parameters of `pipeline`; ApiError 400 names the first at fault."""
    return PipelineParams(
        **parameters.checked(parameters.given_of(params, _PIPELINE.keys() - {"stream"}, _PIPELINE), _PIPELINE)
    )


def cancel_params(params: Mapping[str, Any]) -> str:
    """The id of the call that `cancel` is to end."""
    return str(parameters.checked(parameters.given_of(params, ("id",), _CANCEL), _CANCEL)["id"])


def no_params(params: Mapping[str, Any]) -> None:
    """ApiError 400 for any: `health` and `metadata` have none."""
    parameters.given_of(params, (), ())
