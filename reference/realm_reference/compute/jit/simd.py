"""Vectors of 16 lanes for compiled functions: a float32 or 32 bits of codes in each lane.

Numba has no vector type, so this makes one: a value of `FLOATS` or `INTS` is one LLVM vector, in one AVX-512
register or in two of AVX2, and every function below is one instruction on it, or a few. Each lane is rounded
as IEEE 754 says, `multiply_add` once, so that the bits are the same on either. Addresses are plain integers.

Functions on `rows` take a tuple of vectors: as many sums side by side, which is how a kernel reads a weight
once for several rows of activations.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import models, register_model

from realm_reference.compute.jit.compiled import intrinsic

Vector: TypeAlias = Any  # in compiled code: FLOATS or INTS
Rows: TypeAlias = Any  # in compiled code: a tuple of FLOATS

LANES: Final = 16
_INT8, _INT32 = ir.IntType(8), ir.IntType(32)
_FLOAT32 = ir.FloatType()


class VectorType(types.Type):
    """The Numba type of a vector of 16 lanes."""

    def __init__(self, name: str, element: Any) -> None:
        self.element = element
        super().__init__(name)


FLOATS: Final = VectorType("float32x16", _FLOAT32)
INTS: Final = VectorType("int32x16", _INT32)
_LLVM: Final = {kind: ir.VectorType(kind.element, LANES) for kind in (FLOATS, INTS)}


@register_model(VectorType)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: VectorType) -> None:
        super().__init__(manager, kind, _LLVM[kind])  # type: ignore[no-untyped-call]


Emit: TypeAlias = Callable[..., Any]  # (builder, *values) -> value


# Numba asks an intrinsic for its parameters by their number.
_PARAMETERS: Final[dict[int, Callable[[Callable[..., Any]], Callable[..., Any]]]] = {
    0: lambda typed: lambda typing: typed(),
    1: lambda typed: lambda typing, a: typed(a),
    2: lambda typed: lambda typing, a, b: typed(a, b),
    3: lambda typed: lambda typing, a, b, c: typed(a, b, c),
    4: lambda typed: lambda typing, a, b, c, d: typed(a, b, c, d),
}


def _operation(result: Any, arguments: tuple[Any, ...], emit: Emit) -> Callable[..., Any]:
    """An intrinsic with one signature, whose instructions `emit` writes."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        value = emit(builder, *values)
        return context.get_dummy_value() if result is types.void else value

    return intrinsic(_PARAMETERS[len(arguments)](lambda *given: (result(*arguments), code)))


def _pointer(builder: Any, address: Any, element: Any) -> Any:
    return builder.inttoptr(address, element.as_pointer())


def _load(builder: Any, address: Any, element: Any) -> Any:
    value = builder.load(_pointer(builder, address, element), typ=element)
    value.align = 4
    return value


def _store(builder: Any, address: Any, value: Any) -> Any:
    stored = builder.store(value, _pointer(builder, address, value.type))
    stored.align = 4
    return stored


def _splat(builder: Any, scalar: Any) -> Any:
    vector = ir.VectorType(scalar.type, LANES)
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, ir.Constant(_INT32, 0))
    return builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(_INT32, LANES), [0] * LANES))


def _constant(kind: VectorType, value: float) -> Any:
    return ir.Constant(_LLVM[kind], [value] * LANES)


def call(builder: Any, shape: Any, name: str, values: Any) -> Any:
    """Call a function of LLVM's or of a library's by its name."""
    function = cgutils.get_or_insert_function(builder.module, shape, name)  # type: ignore[no-untyped-call]
    return builder.call(function, values)


def _call(name: str) -> Emit:
    """An LLVM function on vectors of floats, by its name without the type."""

    def emit(builder: Any, *values: Any) -> Any:
        shape = ir.FunctionType(_LLVM[FLOATS], [_LLVM[FLOATS]] * len(values))
        return call(builder, shape, f"{name}.v16f32", values)

    return emit


_fused = _call("llvm.fma")

load = _operation(FLOATS, (types.intp,), lambda b, at: _load(b, at, _LLVM[FLOATS]))
load_codes = _operation(INTS, (types.intp,), lambda b, at: _load(b, at, _LLVM[INTS]))
store = _operation(types.void, (types.intp, FLOATS), _store)
broadcast = _operation(FLOATS, (types.intp,), lambda b, at: _splat(b, _load(b, at, _FLOAT32)))
broadcast_codes = _operation(INTS, (types.intp,), lambda b, at: _splat(b, _load(b, at, _INT32)))
float_at = _operation(types.float32, (types.intp,), lambda b, at: _load(b, at, _FLOAT32))
byte_at = _operation(types.intp, (types.intp,), lambda b, at: b.zext(_load(b, at, _INT8), ir.IntType(64)))
store_lane = _operation(types.void, (types.intp, types.float32), _store)
splat = _operation(FLOATS, (types.float32,), _splat)
zero = _operation(FLOATS, (), lambda b: _constant(FLOATS, 0.0))
zero_codes = _operation(INTS, (), lambda b: _constant(INTS, 0))
add = _operation(FLOATS, (FLOATS, FLOATS), lambda b, x, y: b.fadd(x, y))
subtract = _operation(FLOATS, (FLOATS, FLOATS), lambda b, x, y: b.fsub(x, y))
multiply = _operation(FLOATS, (FLOATS, FLOATS), lambda b, x, y: b.fmul(x, y))
divide = _operation(FLOATS, (FLOATS, FLOATS), lambda b, x, y: b.fdiv(x, y))
multiply_add = _operation(FLOATS, (FLOATS, FLOATS, FLOATS), _fused)
maximum = _operation(FLOATS, (FLOATS, FLOATS), _call("llvm.maxnum"))
minimum = _operation(FLOATS, (FLOATS, FLOATS), _call("llvm.minnum"))
absolute = _operation(FLOATS, (FLOATS,), _call("llvm.fabs"))
nearest = _operation(FLOATS, (FLOATS,), _call("llvm.rint"))
to_floats = _operation(FLOATS, (INTS,), lambda b, x: b.sitofp(x, _LLVM[FLOATS]))


def _where_less(builder: Any, x: Any, limit: Any, then: Any, otherwise: Any) -> Any:
    return builder.select(builder.fcmp_ordered("<", x, limit), then, otherwise)


def _power_of_two(builder: Any, exponent: Any) -> Any:
    """2**exponent for whole numbers from -126 to 127: the exponent's bits, biased."""
    biased = builder.add(builder.fptosi(exponent, _LLVM[INTS]), _constant(INTS, 127))
    return builder.bitcast(builder.shl(biased, _constant(INTS, 23)), _LLVM[FLOATS])


def _within(builder: Any, x: Any, first: Any, last: Any) -> Any:
    lanes = ir.Constant(_LLVM[INTS], list(range(LANES)))
    low, high = (_splat(builder, builder.trunc(bound, _INT32)) for bound in (first, last))
    inside = builder.and_(builder.icmp_signed(">=", lanes, low), builder.icmp_signed("<=", lanes, high))
    return builder.select(inside, x, _constant(FLOATS, float("-inf")))


where_less = _operation(FLOATS, (FLOATS,) * 4, _where_less)
"""(x, limit, then, otherwise): `then` in the lanes where x < limit."""
power_of_two = _operation(FLOATS, (FLOATS,), _power_of_two)
within = _operation(FLOATS, (FLOATS, types.intp, types.intp), _within)
"""(x, first, last): x in those lanes, minus infinity in the others."""


def _folded(combine: Emit) -> Emit:
    """All lanes into one number: halves onto each other, so that the order is fixed."""

    def emit(builder: Any, vector: Any) -> Any:
        lanes = LANES
        while lanes > 1:
            lanes //= 2
            halves = [
                ir.Constant(ir.VectorType(_INT32, LANES), [(i + start) % LANES for i in range(LANES)])
                for start in (0, lanes)
            ]
            low, high = (builder.shuffle_vector(vector, vector, half) for half in halves)
            vector = combine(builder, low, high)
        return builder.extract_element(vector, ir.Constant(_INT32, 0))

    return emit


total = _operation(types.float32, (FLOATS,), _folded(lambda b, x, y: b.fadd(x, y)))
largest = _operation(types.float32, (FLOATS,), _folded(_call("llvm.maxnum")))


def _nibble(builder: Any, codes: Any, index: Any) -> Any:
    shift = _splat(builder, builder.trunc(builder.mul(index, ir.Constant(index.type, 4)), _INT32))
    return builder.uitofp(builder.and_(builder.lshr(codes, shift), _constant(INTS, 15)), _LLVM[FLOATS])


def _signed_byte(builder: Any, codes: Any, index: Any) -> Any:
    shift = _splat(builder, builder.trunc(builder.mul(index, ir.Constant(index.type, 8)), _INT32))
    code = builder.and_(builder.lshr(codes, shift), _constant(INTS, 255))
    return builder.sitofp(builder.sub(code, _constant(INTS, 128)), _LLVM[FLOATS])


nibble = _operation(FLOATS, (INTS, types.intp), _nibble)
"""(codes, i): the number in the i-th four bits of each lane."""
signed_byte = _operation(FLOATS, (INTS, types.intp), _signed_byte)
"""(codes, i): the i-th byte of each lane, less 128."""


@intrinsic
def zero_rows(typing: Any, count: Any) -> Any:
    """`count` (a constant) vectors of zeros."""
    rows = types.UniTuple(FLOATS, count.literal_value)  # type: ignore[no-untyped-call]

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return context.make_tuple(builder, rows, [_constant(FLOATS, 0.0)] * rows.count)

    return rows(count), code


def _on_rows(arguments: tuple[Any, ...], emit: Emit) -> Callable[..., Any]:
    """An intrinsic whose last argument is rows; `emit` gets the builder, a row's index, the arguments before,
    and that row, and gives its new value.
    """

    def typed(*given: Any) -> Any:
        rows = given[-1]

        def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            *others, last = values
            new = [
                emit(builder, ir.Constant(ir.IntType(64), i), *others, builder.extract_value(last, i))
                for i in range(rows.count)
            ]
            return context.make_tuple(builder, rows, new)

        return rows(*arguments, rows), code

    return intrinsic(_PARAMETERS[len(arguments) + 1](typed))


def _row_address(builder: Any, row: Any, address: Any, stride: Any) -> Any:
    return builder.add(address, builder.mul(row, stride))


def _times_broadcast(b: Any, row: Any, weight: Any, at: Any, stride: Any, sums: Any) -> Any:
    return _fused(b, weight, _splat(b, _load(b, _row_address(b, row, at, stride), _FLOAT32)), sums)


def _times_loaded(b: Any, row: Any, weight: Any, at: Any, stride: Any, sums: Any) -> Any:
    return _fused(b, weight, _load(b, _row_address(b, row, at, stride), _LLVM[FLOATS]), sums)


add_products = _on_rows((FLOATS, types.intp, types.intp), _times_broadcast)
"""(weights, address, stride, sums): to row i's sums, weights * the number at address + i * stride."""
add_vectors = _on_rows((FLOATS, types.intp, types.intp), _times_loaded)
"""(weight, address, stride, sums): to row i's sums, weight * the 16 numbers at address + i * stride."""


def _rows_with_rows(emit: Emit, scaled: bool) -> Callable[..., Any]:
    """An intrinsic on two tuples of rows, after a vector of factors if `scaled`."""

    def typed(*given: Any) -> Any:
        rows = given[-1]

        def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            *factor, left, right = values
            pairs = [
                emit(builder, *factor, builder.extract_value(left, i), builder.extract_value(right, i))
                for i in range(rows.count)
            ]
            return context.make_tuple(builder, rows, pairs)

        return rows(*([FLOATS] if scaled else []), rows, rows), code

    return intrinsic(_PARAMETERS[3 if scaled else 2](typed))


scale_rows = _on_rows((FLOATS,), lambda b, row, scale, sums: b.fmul(scale, sums))
add_rows = _rows_with_rows(lambda b, x, y: b.fadd(x, y), scaled=False)
add_scaled_rows = _rows_with_rows(_fused, scaled=True)
"""(scales, rows, sums): scales * rows + sums."""


@intrinsic
def store_rows(typing: Any, address: Any, stride: Any, rows: Any) -> Any:
    """Store row i at address + i * stride."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        at, step, tuple_ = values
        for i in range(rows.count):
            place = _row_address(builder, ir.Constant(ir.IntType(64), i), at, step)
            _store(builder, place, builder.extract_value(tuple_, i))
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, rows), code
