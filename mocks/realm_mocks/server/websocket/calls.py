"""What the functions of the protocol take, and how they refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from realm_mocks.server.request import CHECKS, ChatRequest

Json = dict[str, Any]
FUNCTIONS = ("generate", "pipeline", "health", "metadata", "cancel")
PIPELINE = {
    "name": "echo",
    "description": "Says what it was told.",
    "inputs": ["input"],
    "steps": ["say"],
}


class Refused(Exception):
    """A call that is not done: the code and message of its error, and the parameter at fault."""

    def __init__(self, message: str, param: str | None = None, code: str = "DISPATCH_ERROR") -> None:
        super().__init__(message)
        self.code = code
        self.param = param

    def error(self) -> Json:
        """The `error` of a reply."""
        details = {"details": {"param": self.param}} if self.param else {}
        return {"code": self.code, "message": str(self), **details}


def _text(value: Any) -> str | None:
    return None if isinstance(value, str) and value else "must be a string that is not empty"


def _given(value: Any) -> str | None:
    return None if isinstance(value, str | dict) else "must be a string or an object"


def _top_k(value: Any) -> str | None:
    fine = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return None if fine else "must be an integer of at least 0"


def _penalty(value: Any) -> str | None:
    fine = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 10
    return None if fine else "must be a number above 0"


Checks = dict[str, Callable[[Any], str | None]]
_SAMPLING: Checks = {
    **{
        name: CHECKS[name]
        for name in ("stream", "temperature", "top_p", "max_tokens", "seed", "stop", "logprobs")
    },
    "top_k": _top_k,
    "repetition_penalty": _penalty,
}
PARAMS: dict[str, tuple[tuple[str, ...], Checks]] = {
    "generate": (("prompt",), {"prompt": _text, "model": _text, **_SAMPLING}),
    "pipeline": (("pipeline", "input"), {"pipeline": _text, "input": _given, "stream": CHECKS["stream"]}),
    "cancel": (("id",), {"id": _text}),
    "health": ((), {}),
    "metadata": ((), {}),
}
"""Required parameters and checks, by function."""


def check_params(function: str, params: Json) -> None:
    """Refused names the first parameter at fault."""
    required, checks = PARAMS[function]
    for name in required:
        if params.get(name) is None:
            raise Refused(f"Missing required parameter: '{name}'", name)
    for name, value in params.items():
        if name not in checks:
            raise Refused(f"Unknown parameter '{name}'", name)
        if value is not None and (complaint := checks[name](value)) is not None:
            raise Refused(f"Invalid '{name}': it {complaint}", name)


def chat_request(model: str, prompt: str, params: Json) -> ChatRequest:
    """The request of the chat API that has the same answer, with Realm's defaults."""
    given = {name: value for name, value in params.items() if value is not None}
    stop = given.get("stop", ())
    return ChatRequest(
        model=model,
        messages=({"role": "user", "content": prompt},),
        stream=given.get("stream", False) is True,
        max_tokens=given.get("max_tokens", 100),
        temperature=given.get("temperature", 0.7),
        top_p=given.get("top_p", 0.9),
        seed=given.get("seed"),
        logprobs=given.get("logprobs", False) is True,
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
    )
