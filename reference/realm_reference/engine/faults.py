"""What sessions are told when something goes wrong on the loop's thread."""

from __future__ import annotations

import logging

from realm_abi.errors import AbiError, ErrorCode

log = logging.getLogger(__name__)


def closed() -> AbiError:
    """Of a call that comes too late."""
    return AbiError(ErrorCode.internal, "the engine is closed")


def cancelled() -> AbiError:
    """Of a call that nobody wants any more."""
    return AbiError(ErrorCode.cancelled, "the request was cancelled")


def fault_of(error: Exception) -> AbiError:
    """What a session is told of an error of the model's; the loop goes on whatever it was."""
    if isinstance(error, AbiError):
        return error
    if isinstance(error, ValueError):
        return AbiError(ErrorCode.invalid_argument, str(error))
    if isinstance(error, MemoryError):
        return AbiError(ErrorCode.out_of_memory, "no memory for this step")
    log.error("a step failed; its session gets an error, the loop goes on", exc_info=error)
    return AbiError(ErrorCode.internal, "the step failed")
