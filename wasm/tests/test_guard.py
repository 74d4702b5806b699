"""The guard against a model of it in plain integers: it accepts exactly what fits and shows no byte more."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from realm_abi.contract import Function, Param, load_contract
from realm_abi.errors import AbiError, ErrorCode
from realm_abi.guard import Bytes, Guard, Window, bind
from realm_abi.hostapi import HostTrap
from realm_abi.structs import element_size

CONTRACT = load_contract()
HIDDEN, VOCAB = 3, 5
U32 = 0xFFFF_FFFF


class Memory:
    def __init__(self, size: int) -> None:
        self.bytes_ = np.arange(size, dtype=np.uint64).astype(np.uint8)

    def data(self) -> Bytes:
        return self.bytes_


class Host:
    def dims(self, kind: str, handle: int, /) -> Mapping[str, int]:
        if handle == 13:
            raise AbiError(ErrorCode.invalid_handle)
        return {"hidden_size": HIDDEN, "vocab_size": VOCAB}


def function(*params: Param) -> Function:
    raw = tuple(name for param in params for name in param.raw)
    return Function("probe", 2, "", params, "count", "", (), raw)


def signed(value: int) -> int:
    """A u32 as wasm hands it to the host."""
    return value - (value >> 31 << 32)


def refusal(check: Callable[[], object]) -> ErrorCode | None:
    """The code that a check refuses with, or None."""
    try:
        check()
    except AbiError as error:
        return error.code
    return None


# Around all the borders that matter: of the memory, of the signed and of the unsigned range.
sizes = st.integers(0, 300)
near = st.sampled_from([0, 2**30, 2**31, 2**32, 2**32 // 3, 2**32 // 12])
u32s = st.one_of(
    st.integers(0, 320), st.builds(lambda base, offset: (base + offset) & U32, near, st.integers(-320, 320))
)
elements = st.sampled_from(["u8", "u32", "u64", "f32"])


@given(size=sizes, pointer=u32s, count=u32s, element=elements, unit=st.sampled_from(["elements", "bytes"]))
def test_a_window_fits_or_is_refused(size: int, pointer: int, count: int, element: str, unit: Any) -> None:
    width = element_size(element)
    taken = count if unit == "bytes" else count * width
    guard = Guard(function(Param("w", "out", ("p", "n"), element, unit)), Host())
    memory = Memory(size).data()
    raw = (signed(pointer), signed(count))
    outside, crooked = pointer + taken > size, pointer % width != 0
    expected = ErrorCode.out_of_bounds if outside else ErrorCode.misaligned if crooked else None
    assert refusal(lambda: guard.arguments(memory, raw)) is expected
    if expected is not None:
        return
    (view,) = guard.arguments(memory, raw)
    assert len(view) == taken // width
    before = memory.copy()
    view.view(np.uint8)[:] ^= 0xFF
    changed = np.flatnonzero(memory != before)
    assert changed.tolist() == list(range(pointer, pointer + taken // width * width)), "no byte more or less"
    if len(view):
        assert np.shares_memory(view, memory), "a view, not a copy"


@given(size=sizes, ids=u32s, count=u32s, out=u32s)
def test_embed_needs_count_times_hidden(size: int, ids: int, count: int, out: int) -> None:
    guard = Guard(CONTRACT.imports["realm_embed_tokens"], Host())
    raw = (1, signed(ids), signed(count), signed(out))
    expected = None
    for pointer, taken in ((ids, 4 * count), (out, 4 * count * HIDDEN)):
        if pointer + taken > size:
            expected = expected or ErrorCode.out_of_bounds
        elif pointer % 4:
            expected = expected or ErrorCode.misaligned
    assert refusal(lambda: guard.check(size, raw)) is expected
    if expected is None:
        window = guard.check(size, raw)["out"]
        assert isinstance(window, Window)
        assert (window.start, window.stop) == (out, out + 4 * count * HIDDEN)


@given(size=sizes, count=u32s, rows=u32s, capacity=u32s)
def test_forward_needs_rows_times_vocab(size: int, count: int, rows: int, capacity: int) -> None:
    guard = Guard(CONTRACT.imports["realm_forward"], Host())
    fits = 4 * count <= size and 4 * capacity <= size
    expected = None
    if not fits:
        expected = ErrorCode.out_of_bounds
    elif capacity < rows * VOCAB:
        expected = ErrorCode.buffer_too_small
    elif rows > count:
        expected = ErrorCode.invalid_argument
    raw = (1, 0, signed(count), 0, signed(rows), signed(capacity))
    assert refusal(lambda: guard.check(size, raw)) is expected


@given(size=sizes, pointer=u32s, length=u32s)
def test_text(size: int, pointer: int, length: int) -> None:
    memory = np.full(size, 0x20, np.uint8)
    memory[size // 2 :] = 0xC3  # never followed by a continuation byte
    guard = Guard(function(Param("text", "text", ("p", "n"))), Host())
    raw = (signed(pointer), signed(length))
    expected = None
    if pointer + length > size:
        expected = ErrorCode.out_of_bounds
    elif length and pointer + length > size // 2:
        expected = ErrorCode.invalid_utf8
    assert refusal(lambda: guard.arguments(memory, raw)) is expected
    if expected is None:
        assert guard.arguments(memory, raw) == [" " * length]


@given(value=u32s, bits=st.integers(0, 5))
def test_scalars(value: int, bits: int) -> None:
    for param, accepted, code in (
        (Param("h", "handle", ("h",)), 1 <= value < 2**31, ErrorCode.invalid_handle),
        (Param("h", "handle", ("h",), zero=True), value < 2**31, ErrorCode.invalid_handle),
        (Param("f", "flags", ("f",), bits=("x",) * bits), value < 2**bits, ErrorCode.invalid_argument),
        (Param("u", "u32", ("u",)), True, ErrorCode.internal),
    ):
        guard = Guard(function(param), Host())
        assert refusal(lambda guard=guard: guard.check(0, (signed(value),))) is (None if accepted else code)  # type: ignore[misc]
        if accepted:
            assert guard.check(0, (signed(value),)) == {param.name: value}


def test_hidden_states_are_whole_rows() -> None:
    guard = Guard(CONTRACT.imports["realm_forward_layer"], Host())
    for count, accepted in ((0, True), (HIDDEN, True), (2 * HIDDEN, True), (HIDDEN + 1, False)):
        raw = (1, 0, 0, count, 0, 64)
        if accepted:
            guard.check(256, raw)
        else:
            with pytest.raises(AbiError, match="invalid_argument"):
                guard.check(256, raw)
    with pytest.raises(AbiError, match="invalid_argument"):
        Guard(CONTRACT.imports["realm_compute_logits"], Host()).check(256, (1, 0, 2 * HIDDEN, 64))


def test_an_unknown_handle_is_found_before_any_window() -> None:
    guard = Guard(CONTRACT.imports["realm_embed_tokens"], Host())
    with pytest.raises(AbiError, match="invalid_handle"):
        guard.check(16, (13, 1 << 20, 1, 0))


def test_inputs_are_read_only() -> None:
    guard = Guard(CONTRACT.imports["realm_decode"], Host())
    _, ids, _, out = guard.arguments(Memory(64).data(), (1, 0, 2, 0, 16, 8))
    assert ids.dtype == np.uint32
    assert not ids.flags.writeable
    assert out.flags.writeable


def test_gen_options_and_their_stop_tokens() -> None:
    memory = Memory(256)
    packed = CONTRACT.structs["GenOptions"].pack(max_tokens=3, stop_token_count=2, stop_tokens_ptr=64)
    memory.bytes_[128 : 128 + len(packed)] = np.frombuffer(packed, np.uint8)
    guard = Guard(CONTRACT.imports["realm_host_generate"], Host())
    options = guard.arguments(memory.data(), (1, 0, 0, 128, 0, 0))[2]
    assert options["max_tokens"] == 3
    assert options["stop_tokens"].tolist() == memory.bytes_[64:72].view("<u4").tolist()
    assert guard.arguments(memory.data(), (1, 0, 0, 0, 0, 0))[2]["max_tokens"] == 512, "0 means the defaults"
    for pointer, code in ((228, "out_of_bounds"), (130, "misaligned")):
        with pytest.raises(AbiError, match=code):
            guard.arguments(memory.data(), (1, 0, 0, pointer, 0, 0))
    memory.bytes_[128 + 28 : 128 + 32] = 0xFF
    with pytest.raises(AbiError, match="out_of_bounds"):
        guard.arguments(memory.data(), (1, 0, 0, 128, 0, 0))


@given(data=st.data(), size=sizes)
def test_every_refusal_is_in_the_contract(data: st.DataObject, size: int) -> None:
    called = data.draw(st.sampled_from(list(CONTRACT.imports.values())))
    values = {"f32": st.floats(width=32), "i32": u32s.map(signed)}
    raw = tuple(data.draw(values[kind]) for kind in called.wasm_params)
    code = refusal(lambda: Guard(called, Host()).arguments(Memory(size).data(), raw))
    assert code is None or code.name in called.errors


@pytest.mark.parametrize(
    ("behaviour", "answer"),
    [
        (lambda: 7, 7),
        (lambda: np.int64(2**31 - 1), 2**31 - 1),
        (lambda: 2**31, ErrorCode.internal),
        (lambda: -3, ErrorCode.internal),
        (lambda: None, ErrorCode.internal),
        (lambda: 1 // 0, ErrorCode.internal),
        (lambda: (_ for _ in ()).throw(AbiError(ErrorCode.not_found)), ErrorCode.not_found),
    ],
)
def test_what_the_host_does_becomes_an_answer(behaviour: Any, answer: int) -> None:
    assert bind(CONTRACT.imports["realm_abi_version"], behaviour, Host())(Memory(0)) == answer


def test_a_trap_passes() -> None:
    def trap() -> int:
        raise HostTrap("enough")

    with pytest.raises(HostTrap, match="enough"):
        bind(CONTRACT.imports["realm_abi_version"], trap, Host())(Memory(0))


def test_the_host_is_not_called_with_what_does_not_fit() -> None:
    called: list[str] = []

    def stream(text: str) -> int:
        called.append(text)
        return 0

    guarded = bind(CONTRACT.imports["realm_stream_token"], stream, Host())
    assert guarded(Memory(8), 0, 0) == 0
    assert guarded(Memory(8), 4, -1) == ErrorCode.out_of_bounds
    assert called == [""]
