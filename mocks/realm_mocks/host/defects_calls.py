"""Planted defects at the border: bounds, lengths, codes, what is written."""

from __future__ import annotations

import numpy as np
from realm_abi.contract import Function
from realm_abi.errors import ErrorCode
from realm_abi.guard import MASK, Bytes, Guarded, Memory, Raw
from realm_abi.hostapi import HostTrap
from realm_abi.sandbox import Wrap
from realm_abi.structs import element_size

from realm_mocks.host.defects import planted
from realm_mocks.host.probed import Functions, ProbedMock


class _Bent(ProbedMock):
    """A host whose calls all go through `call`."""

    def wrap(self, functions: Functions) -> Wrap | None:
        def bent(function: Function, guarded: Guarded) -> Guarded:
            def call(memory: Memory, *raw: Raw) -> int:
                return self.call(function, guarded, memory, raw)

            return call

        return bent

    def call(self, function: Function, guarded: Guarded, memory: Memory, raw: tuple[Raw, ...]) -> int:
        return guarded(memory, *raw)


def _windows(function: Function, raw: tuple[Raw, ...], kinds: tuple[str, ...]) -> list[tuple[int, int]]:
    """Start and bytes of the windows with a length of their own."""
    given = dict(zip(function.signature, raw, strict=True))
    found = []
    for param in function.params:
        if param.kind in kinds and len(param.raw) == 2:
            size = 1 if param.unit == "bytes" else element_size(param.element)
            found.append((int(given[param.raw[0]]) & MASK, (int(given[param.raw[1]]) & MASK) * size))
    return found


ALL = ("in", "text", "out")


@planted("allocates-first", "a length is allocated before it is checked", "1", "ENCODE-LEN-*")
class _AllocatesFirst(_Bent):
    def call(self, function: Function, guarded: Guarded, memory: Memory, raw: tuple[Raw, ...]) -> int:
        copies = [np.empty(size, np.uint8) for _, size in _windows(function, raw, ALL)]
        del copies
        return guarded(memory, *raw)


@planted("wraps-at-32-bits", "ptr + length is computed in 32 bits", "3", "ENCODE-LEN-*")
class _Wraps(_Bent):
    def call(self, function: Function, guarded: Guarded, memory: Memory, raw: tuple[Raw, ...]) -> int:
        result, size = guarded(memory, *raw), len(memory.data())
        fits = all(((start + length) & MASK) <= size for start, length in _windows(function, raw, ALL))
        return 0 if result == ErrorCode.out_of_bounds and fits and _windows(function, raw, ALL) else result


@planted("no-upper-bound", "windows beyond the memory are cut to what is there", "2", "*-PTR-*")
class _NoBound(_Bent):
    def call(self, function: Function, guarded: Guarded, memory: Memory, raw: tuple[Raw, ...]) -> int:
        return max(guarded(memory, *raw), 0) if self._beyond(function, memory, raw) else guarded(memory, *raw)

    @staticmethod
    def _beyond(function: Function, memory: Memory, raw: tuple[Raw, ...]) -> bool:
        size = len(memory.data())
        return any(start < size < start + length for start, length in _windows(function, raw, ALL))


@planted("empty-anywhere", "an empty window may lie beyond the memory", "a slice's habits", "ENCODE-LEN-*")
class _EmptyAnywhere(_Bent):
    def call(self, function: Function, guarded: Guarded, memory: Memory, raw: tuple[Raw, ...]) -> int:
        result, size = guarded(memory, *raw), len(memory.data())
        beyond = [start for start, length in _windows(function, raw, ALL) if not length and start > size]
        return 0 if result == ErrorCode.out_of_bounds and beyond else result


@planted(
    "end-is-out",
    "a window that ends with the memory is refused",
    "< for <=",
    "*-PTR-*",
)
class _EndIsOut(_Bent):
    def call(self, function: Function, guarded: Guarded, memory: Memory, raw: tuple[Raw, ...]) -> int:
        size = len(memory.data())
        if any(start + length == size for start, length in _windows(function, raw, ALL)):
            return int(ErrorCode.out_of_bounds)
        return guarded(memory, *raw)


def _answers_instead(code: ErrorCode, answer: int) -> type[_Bent]:
    """A host that answers something else where `code` would be right."""

    class Instead(_Bent):
        def call(self, function: Function, guarded: Guarded, memory: Memory, raw: tuple[Raw, ...]) -> int:
            result = guarded(memory, *raw)
            return answer if result == code else result

    return Instead


planted("misaligned-is-taken", "a misaligned pointer is taken", "a host on x86", "*-PTR-*")(
    _answers_instead(ErrorCode.misaligned, 0)
)
planted("any-bytes-are-text", "text that is no UTF-8 is taken", "from_utf8_unchecked", "*-UTF8-*")(
    _answers_instead(ErrorCode.invalid_utf8, 0)
)
planted("short-buffer-is-well", "a result that does not fit is a success", "13", "*-LEN-*")(
    _answers_instead(ErrorCode.buffer_too_small, 0)
)
planted("bounds-are-arguments", "invalid_argument where out_of_bounds is right", "6", "*-PTR-*")(
    _answers_instead(ErrorCode.out_of_bounds, int(ErrorCode.invalid_argument))
)


@planted("one-code-for-all", "every error is -1", "6", "*-HANDLE-*")
class _OneCode(_Bent):
    def call(self, function: Function, guarded: Guarded, memory: Memory, raw: tuple[Raw, ...]) -> int:
        return max(guarded(memory, *raw), -1)


@planted("refusals-are-internal", "a bad argument raises in the host: internal", "12", "*-PTR-*")
class _Internal(_Bent):
    def call(self, function: Function, guarded: Guarded, memory: Memory, raw: tuple[Raw, ...]) -> int:
        result = guarded(memory, *raw)
        return int(ErrorCode.internal) if result < 0 else result


@planted("refusals-trap", "a bad argument ends the guest", "wasmtime's own bounds errors", "*-PTR-*")
class _Traps(_Bent):
    def call(self, function: Function, guarded: Guarded, memory: Memory, raw: tuple[Raw, ...]) -> int:
        result = guarded(memory, *raw)
        if result in (ErrorCode.out_of_bounds, ErrorCode.misaligned):
            raise HostTrap("out of bounds")
        return result


@planted(
    "flags-are-masked", "unknown bits in flags are ignored", "bits that mean something later", "*-FLAGS-*"
)
class _Masked(_Bent):
    def call(self, function: Function, guarded: Guarded, memory: Memory, raw: tuple[Raw, ...]) -> int:
        given = dict(zip(function.signature, raw, strict=True))
        for param in function.params:
            if param.kind == "flags":
                given[param.raw[0]] = int(given[param.raw[0]]) & ((1 << len(param.bits)) - 1)
        return guarded(memory, *given.values())


class _Writes(_Bent):
    """A host that writes somewhere after a call: `stain` says where, given the window and the result."""

    def call(self, function: Function, guarded: Guarded, memory: Memory, raw: tuple[Raw, ...]) -> int:
        result = guarded(memory, *raw)
        unit = 4 if function.result == "count" and function.name != "realm_forward" else 1
        for start, size in _windows(function, raw, ("out",)):
            if start + size <= len(memory.data()):
                self.stain(memory.data(), start, size, result * unit if result >= 0 else result)
        return result

    def stain(self, memory: Bytes, start: int, size: int, result: int) -> None:
        raise NotImplementedError


@planted("writes-past-the-window", "four bytes more than the capacity are written", "2", "*-PTR-*")
class _WritesPast(_Writes):
    def stain(self, memory: Bytes, start: int, size: int, result: int) -> None:
        if result >= 0:
            memory[start + size : start + size + 4] = 0


@planted("fills-the-capacity", "what the result does not need is zeroed", "a copied buffer", "ENCODE-PTR-*")
class _Fills(_Writes):
    def stain(self, memory: Bytes, start: int, size: int, result: int) -> None:
        if 0 <= result < size:
            memory[start + result : start + size] = 0


@planted("writes-before-it-fails", "a call that fails has written a part", "2", "ENCODE-*-LEN-*")
class _WritesFirst(_Writes):
    def stain(self, memory: Bytes, start: int, size: int, result: int) -> None:
        if result < 0 and size:
            memory[start] = 0


@planted("stale-view", "memory is checked against its size at the first call", "a kept view", "EFFECT-009")
class _Stale(_Bent):
    def functions(self) -> Functions:
        self.first = 0
        return super().functions()

    def call(self, function: Function, guarded: Guarded, memory: Memory, raw: tuple[Raw, ...]) -> int:
        self.first = self.first or len(memory.data())
        return guarded(_Cut(memory, self.first), *raw)


class _Cut:
    """A memory as it was when it had `size` bytes."""

    def __init__(self, memory: Memory, size: int) -> None:
        self._memory, self._size = memory, size

    def data(self) -> Bytes:
        return self._memory.data()[: self._size]


@planted(
    "poisoned-lock", "after one call that failed every call of every guest is internal", "12", "ENCODE-*"
)
class _Poisoned(_Bent):
    poisoned = False

    def call(self, function: Function, guarded: Guarded, memory: Memory, raw: tuple[Raw, ...]) -> int:
        if self.poisoned:
            return int(ErrorCode.internal)
        result = guarded(memory, *raw)
        self.poisoned = result in (ErrorCode.out_of_bounds, ErrorCode.invalid_utf8)
        return result


@planted(
    "writes-before-it-reads",
    "an output is zeroed before the input is read",
    "aliasing",
    "EFFECT-008",
)
class _WritesOverInput(_Bent):
    def call(self, function: Function, guarded: Guarded, memory: Memory, raw: tuple[Raw, ...]) -> int:
        inputs, outputs = _windows(function, raw, ("in", "text")), _windows(function, raw, ("out",))
        for start, size in inputs:
            if any(start == place and size and start + size <= len(memory.data()) for place, _ in outputs):
                memory.data()[start : start + size] = 0
        return guarded(memory, *raw)


@planted(
    "names-beyond-the-end", "a name that does not fit in the memory is not found", "6", "GET-TENSOR-PTR-*"
)
class _NamesBeyond(_Bent):
    def call(self, function: Function, guarded: Guarded, memory: Memory, raw: tuple[Raw, ...]) -> int:
        result, named = guarded(memory, *raw), function.name in ("realm_get_tensor", "realm_set_lora_adapter")
        return int(ErrorCode.not_found) if named and result == ErrorCode.out_of_bounds else result


@planted("any-width-of-row", "the length of a hidden state is not looked at", "3", "COMPUTE-LOGITS-RANGE-*")
class _AnyWidth(_Bent):
    def call(self, function: Function, guarded: Guarded, memory: Memory, raw: tuple[Raw, ...]) -> int:
        if function.name != "realm_compute_logits":
            return guarded(memory, *raw)
        given = dict(zip(function.signature, raw, strict=True))
        given["n_f32"] = self.scripted.hidden_size
        return guarded(memory, *given.values())


@planted("wears-out", "after a thousand calls of one guest every call is internal", "39", "CONTAIN-007")
class _WearsOut(_Bent):
    def functions(self) -> Functions:
        self.calls = 0
        return super().functions()

    def call(self, function: Function, guarded: Guarded, memory: Memory, raw: tuple[Raw, ...]) -> int:
        self.calls += 1
        return guarded(memory, *raw) if self.calls <= 1000 else int(ErrorCode.internal)
