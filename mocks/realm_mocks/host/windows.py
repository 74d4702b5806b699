"""What a call's raw parameters mean: its windows for the record, and what of them the host may write."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from realm_abi.contract import Function, Term
from realm_abi.errors import AbiError
from realm_abi.guard import Guard, Raw, Window
from realm_abi.hostapi import Dimensions, HandleKind
from realm_abi.structs import element_size

from realm_mocks.host import record
from realm_mocks.host.canaries import Extent

Bytes = NDArray[np.uint8]
Checked = Mapping[str, Raw | Window]


def located(guard: Guard, memory: Bytes, raw: tuple[Raw, ...]) -> Checked:
    """The parameters as the guard finds them; empty for a call that it refuses."""
    try:
        return guard.check(len(memory), raw)
    except AbiError:
        return {}


def parted(checked: Checked) -> tuple[list[Window], list[Window]]:
    """The input and the output windows of a call."""
    inputs: list[Window] = []
    outputs: list[Window] = []
    for value in checked.values():
        if isinstance(value, Window):
            (outputs if value.param.kind == "out" else inputs).append(value)
    return inputs, outputs


def extent(window: Window) -> Extent:
    """Where a window lies."""
    return Extent(window.start, window.stop)


def written(
    function: Function, checked: Checked, outputs: Sequence[Window], result: int, host: Dimensions
) -> list[Extent]:
    """What a call with this result may have written: nothing if it failed, else as far as the result says."""
    if result < 0:
        return []
    extents = []
    for window in outputs:
        size = element_size(window.param.element)
        nbytes = window.stop - window.start
        if window.param.at_least and function.result == "count":
            nbytes = size * _product(window.param.at_least, function, checked, host)
        elif not window.param.count:
            nbytes = min(nbytes, result * (size if function.result == "count" else 1))
        extents.append(Extent(window.start, window.start + nbytes))
    return extents


def _product(terms: tuple[Term, ...], function: Function, checked: Checked, host: Dimensions) -> int:
    """A product of the contract's terms: numbers, scalars, counts of windows, the model's dimensions."""
    dims: dict[str, int] = {}
    for param in function.params:
        if param.kind == "handle":
            kind: HandleKind = "session" if param.of == "session" else "model"
            dims.update(host.dims(kind, _number(checked[param.name])))
    known = {name: _number(value) for name, value in checked.items()}
    return math.prod({**dims, **known}[term] if isinstance(term, str) else term for term in terms)


def _number(value: Raw | Window) -> int:
    return value.count if isinstance(value, Window) else int(value)


def record_inputs(inputs: Sequence[Window], memory: Bytes) -> tuple[record.Window, ...]:
    """A call's input windows with digests of their contents."""
    return tuple([_record("in", window, window.start, window.stop, memory) for window in inputs])


def record_outputs(
    outputs: Sequence[Window], extents: Sequence[Extent], memory: Bytes
) -> tuple[record.Window, ...]:
    """A call's output windows with digests of what was written to them: nothing, for want of `extents`."""
    if not extents:
        return tuple([_record("out", window, window.start, window.start, memory) for window in outputs])
    pairs = zip(outputs, extents, strict=True)
    return tuple([_record("out", window, filled.start, filled.stop, memory) for window, filled in pairs])


def _record(
    direction: Literal["in", "out"], window: Window, start: int, stop: int, memory: Bytes
) -> record.Window:
    return record.Window(
        name=window.param.name,
        direction=direction,
        offset=window.start,
        count=window.count,
        nbytes=stop - start,
        digest=record.digest(memory[start:stop].data),
    )


def contents(inputs: Sequence[Window], memory: Bytes) -> tuple[str | None, tuple[int, ...] | None]:
    """The input text (undecodable bytes escaped) and the input token ids of a call, where it has them."""
    text: str | None = None
    ids: tuple[int, ...] | None = None
    for window in inputs:
        if window.param.kind == "text":
            text = memory[window.start : window.stop].tobytes().decode("utf-8", "backslashreplace")
        elif window.param.kind == "in" and window.param.element == "u32":
            ids = tuple(window.view(memory).tolist())
    return text, ids
