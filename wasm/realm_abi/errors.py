"""Generated from contract.toml by `python -m realm_abi.generate`; edit that file instead."""

from enum import IntEnum


class ErrorCode(IntEnum):
    """What an import, or a v2 guest's `generate`, answers when it fails."""

    invalid_argument = -1
    """A parameter is outside its documented range or contradicts another."""

    out_of_bounds = -2
    """A window does not lie inside the guest's memory."""

    misaligned = -3
    """A window's pointer is not a multiple of its element's size."""

    buffer_too_small = -4
    """An out window's capacity is less than the result needs; nothing was written."""

    invalid_utf8 = -5
    """A text is not valid UTF-8."""

    invalid_handle = -6
    """No such model or session, or it is not this guest's."""

    not_found = -7
    """Nothing goes by that name."""

    permission_denied = -8
    """The tenant may not do that."""

    out_of_memory = -9
    """The host, or the guest's own memory, has no room left."""

    context_full = -10
    """The tokens would not fit in the model's context."""

    cancelled = -11
    """The request has been cancelled: clean up and return."""

    unsupported = -12
    """This host does not offer the function."""

    limit_exceeded = -13
    """A limit set for the tenant or the request is reached."""

    internal = -14
    """The other side broke the contract or failed; its log says how."""


class FinishReason(IntEnum):
    """What a v2 guest's `generate` answers when it succeeds."""

    stop_token = 0
    """A stop token or the model's end-of-sequence token was sampled."""

    stop_string = 1
    """A stop string appeared; the text ends before it."""

    max_tokens = 2
    """max_tokens were generated, or the model's context ended."""

    stopped = 3
    """realm_emit asked to stop."""


class AbiError(Exception):
    """A failure with a code of the contract; a host function raises it to answer the guest with that code."""

    def __init__(self, code: ErrorCode, detail: str = "") -> None:
        super().__init__(f"{code.name}: {detail}" if detail else code.name)
        self.code = code
        self.detail = detail
