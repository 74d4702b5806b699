"""From the failure of a generation to what the client is told."""

from __future__ import annotations

from realm_reference.orchestration import Failed, FailureKind
from realm_reference.server.errors import (
    SERVER,
    UNAVAILABLE,
    ApiError,
    invalid,
    overloaded,
    unprocessable,
)


def failure(failed: Failed, prompt_param: str, retry_after: int) -> ApiError:
    """The error of a generation that failed; `prompt_param` is what the endpoint calls its prompt."""
    kind, message = failed.kind, failed.message
    if kind is FailureKind.CONTEXT_FULL:
        return invalid(prompt_param, message, "context_length_exceeded")
    if kind is FailureKind.FORMAT:
        return unprocessable("response_format", message, "too_complex")
    if kind is FailureKind.DEADLINE:
        return ApiError(504, message, type=SERVER, code="timeout")
    if kind is FailureKind.OUT_OF_MEMORY:
        return ApiError(503, message, type=UNAVAILABLE, code="out_of_memory", headers={"Retry-After": "1"})
    if kind is FailureKind.SHUTDOWN:
        return overloaded(message, retry_after)
    return ApiError(500, message, type=SERVER, code=kind.value)
