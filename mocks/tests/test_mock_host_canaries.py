"""The canaries themselves: a host function that writes where it must not is seen, whatever it answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from realm_abi.contract import load_contract
from realm_abi.errors import AbiError, ErrorCode
from realm_abi.guard import bind
from realm_mocks.host import (
    Fault,
    FaultPlan,
    Mode,
    Overlong,
    Return,
    ShortWrite,
    Stain,
    default_vocabulary,
    winners,
)
from realm_mocks.host.findings import Findings
from realm_mocks.host.functions_v2 import FunctionsV2
from realm_mocks.host.inject import Interceptor, Log
from realm_mocks.host.model import ScriptedModel
from realm_mocks.host.sessions import SessionTable

VOCABULARY = default_vocabulary()
IDS, OUT, CAPACITY = 512, 1024, 40
Body = Callable[[NDArray[Any]], int]


class Memory:
    """A guest's memory without a guest: 4 KiB, patterned so that a stray write shows."""

    def __init__(self) -> None:
        self.content = np.arange(4096, dtype=np.uint8)

    def data(self) -> NDArray[np.uint8]:
        return self.content


class Decoder(FunctionsV2):
    """A host whose realm_decode is the test's."""

    def __init__(self, memory: Memory, body: Body) -> None:
        model = ScriptedModel(winners("", VOCABULARY))
        super().__init__(model, SessionTable(16), owner=1)
        self.body = body

    def realm_decode(self, model: int, ids: Any, flags: int, out: Any, /) -> int:
        return self.body(out)

    def dims(self, kind: Any, handle: int, /) -> Mapping[str, int]:
        return self.model.dims()


def decode(
    body: Callable[[NDArray[Any], Memory], int], mode: Mode = "memory", *faults: Fault
) -> tuple[int, Log, Memory]:
    """One guarded, intercepted realm_decode of two ids into 40 bytes."""
    memory = Memory()
    host = Decoder(memory, lambda out: body(out, memory))
    way = Interceptor(host, FaultPlan(faults), mode, lambda pages: None)
    log = way.begin(Findings())
    function = load_contract().imports["realm_decode"]
    call = way.wrap(function, bind(function, host.realm_decode, host))
    return call(memory, 0x2A, IDS, 2, 0, OUT, CAPACITY), log, memory


def write(count: int) -> Callable[[NDArray[Any], Memory], int]:
    def body(out: NDArray[Any], _: Memory) -> int:
        out[:count] = 255
        return count

    return body


def test_what_the_result_covers_may_be_written() -> None:
    result, log, _ = decode(write(CAPACITY))
    assert (result, log.stains) == (CAPACITY, [])
    assert log.trace[0].window("out").nbytes == CAPACITY


def wrongly(offset: int, count: int, result: int) -> Callable[[NDArray[Any], Memory], int]:
    def body(_: NDArray[Any], memory: Memory) -> int:
        memory.content[offset : offset + count] = 0
        memory.content[offset] = 254
        if result < 0:
            raise AbiError(ErrorCode(result))
        return result

    return body


WRONG = [
    ("one byte past the window", OUT + CAPACITY, 1, CAPACITY, True),
    ("one byte before it", OUT - 1, 1, CAPACITY, True),
    ("more than the result says", OUT + 9, 1, 9, True),
    ("anything when it fails", OUT, 1, ErrorCode.invalid_argument, True),
    ("its input", IDS, 4, CAPACITY, False),
    ("far away", 4000, 1, CAPACITY, False),
]


@pytest.mark.parametrize("case", WRONG, ids=[case[0] for case in WRONG])
@pytest.mark.parametrize("mode", ["edges", "memory", "off"])
def test_a_write_elsewhere_is_a_stain(case: tuple[str, int, int, int, bool], mode: Mode) -> None:
    _, offset, count, result, near = case
    _, log, _ = decode(wrongly(offset, count, result), mode)
    seen = mode == "memory" or (mode == "edges" and near)
    assert [stain.offset for stain in log.stains] == [offset] * seen
    assert all(isinstance(stain, Stain) and "realm_decode" in str(stain) for stain in log.stains)


def test_a_short_write_leaves_the_rest_as_it_was() -> None:
    result, log, memory = decode(write(20), "memory", Fault(ShortWrite(5)))
    assert (result, log.stains) == (5, [])
    expected = np.arange(OUT, OUT + CAPACITY, dtype=np.uint16).astype(np.uint8)
    expected[:5] = 255
    assert np.array_equal(memory.content[OUT : OUT + CAPACITY], expected)


def test_a_short_write_may_lie_about_it() -> None:
    result, _, memory = decode(write(20), "memory", Fault(ShortWrite(5, honest=False)))
    assert result == 20
    assert (memory.content[OUT : OUT + CAPACITY] == 255).sum() == 5


def test_an_overlong_result_writes_nothing_more() -> None:
    result, log, memory = decode(write(20), "memory", Fault(Overlong(100)))
    assert (result, log.stains) == (120, [])
    assert (memory.content[OUT : OUT + 200] == 255).sum() == 20


def test_a_call_that_only_returns_writes_nothing() -> None:
    result, log, memory = decode(write(20), "memory", Fault(Return(ErrorCode.internal)))
    assert result == ErrorCode.internal
    assert np.array_equal(memory.content, Memory().content)
    assert log.trace[0].error is ErrorCode.internal
    assert log.met == [Fault(Return(ErrorCode.internal))]


def test_a_refused_call_is_recorded_with_its_raw_arguments() -> None:
    memory = Memory()
    host = Decoder(memory, lambda out: 0)
    way = Interceptor(host, FaultPlan(), "memory", lambda pages: None)
    log = way.begin(Findings())
    function = load_contract().imports["realm_decode"]
    call = way.wrap(function, bind(function, host.realm_decode, host))
    assert call(memory, 0x2A, IDS, 2, 0, 4090, CAPACITY) == ErrorCode.out_of_bounds
    assert log.trace[0].arguments["out_ptr"] == 4090
    assert log.trace[0].windows == ()
    assert log.findings.seen[0].rule == "refused"
