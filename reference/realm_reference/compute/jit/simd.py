"""Vectors of 16 lanes for compiled functions: a float32 or 32 bits of codes in each lane.

Numba has no vector type, so this makes one: a value of `FLOATS` or `INTS` is one LLVM vector, in one AVX-512
register or in two of AVX2, and every function below is one instruction on it, or a few. Each lane is rounded
as IEEE 754 says, `multiply_add` once, so that the bits are the same on either. Addresses are plain integers.
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

LANES: Final = 16
INT8, INT32 = ir.IntType(8), ir.IntType(32)
FLOAT32 = ir.FloatType()


class VectorType(types.Type):
    """The Numba type of a vector of 16 lanes."""

    def __init__(self, name: str, element: Any) -> None:
        self.element = element
        super().__init__(name)


FLOATS: Final = VectorType("float32x16", FLOAT32)
INTS: Final = VectorType("int32x16", INT32)
LLVM: Final = {kind: ir.VectorType(kind.element, LANES) for kind in (FLOATS, INTS)}


@register_model(VectorType)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: VectorType) -> None:
        super().__init__(manager, kind, LLVM[kind])  # type: ignore[no-untyped-call]


Emit: TypeAlias = Callable[..., Any]  # (builder, *values) -> value


# Numba asks an intrinsic for its parameters by their number.
PARAMETERS: Final[dict[int, Callable[[Callable[..., Any]], Callable[..., Any]]]] = {
    0: lambda typed: lambda typing: typed(),
    1: lambda typed: lambda typing, a: typed(a),
    2: lambda typed: lambda typing, a, b: typed(a, b),
    3: lambda typed: lambda typing, a, b, c: typed(a, b, c),
    4: lambda typed: lambda typing, a, b, c, d: typed(a, b, c, d),
    5: lambda typed: lambda typing, a, b, c, d, e: typed(a, b, c, d, e),
}


def operation(result: Any, arguments: tuple[Any, ...], emit: Emit) -> Callable[..., Any]:
    """An intrinsic with one signature, whose instructions `emit` writes."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        value = emit(builder, *values)
        return context.get_dummy_value() if result is types.void else value

    return intrinsic(PARAMETERS[len(arguments)](lambda *given: (result(*arguments), code)))


def pointer(builder: Any, address: Any, element: Any) -> Any:
    """An address as LLVM wants it."""
    return builder.inttoptr(address, element.as_pointer())


def load_value(builder: Any, address: Any, element: Any) -> Any:
    """A value of the type, from any address that its elements may have."""
    value = builder.load(pointer(builder, address, element), typ=element)
    value.align = 4
    return value


def store_value(builder: Any, address: Any, value: Any, align: int = 4) -> Any:
    """Store a value of any type."""
    stored = builder.store(value, pointer(builder, address, value.type))
    stored.align = align
    return stored


def splat_value(builder: Any, scalar: Any) -> Any:
    """The scalar in every lane."""
    vector = ir.VectorType(scalar.type, LANES)
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, ir.Constant(INT32, 0))
    return builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(INT32, LANES), [0] * LANES))


def constant(kind: VectorType, value: float) -> Any:
    """The same number in every lane."""
    return ir.Constant(LLVM[kind], [value] * LANES)


def call(builder: Any, shape: Any, name: str, values: Any) -> Any:
    """Call a function of LLVM's or of a library's by its name."""
    function = cgutils.get_or_insert_function(builder.module, shape, name)  # type: ignore[no-untyped-call]
    return builder.call(function, values)


def _call(name: str) -> Emit:
    """An LLVM function on vectors of floats, by its name without the type."""

    def emit(builder: Any, *values: Any) -> Any:
        shape = ir.FunctionType(LLVM[FLOATS], [LLVM[FLOATS]] * len(values))
        return call(builder, shape, f"{name}.v16f32", values)

    return emit


fused = _call("llvm.fma")

load = operation(FLOATS, (types.intp,), lambda b, at: load_value(b, at, LLVM[FLOATS]))
load_codes = operation(INTS, (types.intp,), lambda b, at: load_value(b, at, LLVM[INTS]))
store = operation(types.void, (types.intp, FLOATS), store_value)
broadcast = operation(FLOATS, (types.intp,), lambda b, at: splat_value(b, load_value(b, at, FLOAT32)))
broadcast_codes = operation(INTS, (types.intp,), lambda b, at: splat_value(b, load_value(b, at, INT32)))
float_at = operation(types.float32, (types.intp,), lambda b, at: load_value(b, at, FLOAT32))
byte_at = operation(types.intp, (types.intp,), lambda b, at: b.zext(load_value(b, at, INT8), ir.IntType(64)))
store_lane = operation(types.void, (types.intp, types.float32), store_value)
splat = operation(FLOATS, (types.float32,), splat_value)
zero = operation(FLOATS, (), lambda b: constant(FLOATS, 0.0))
zero_codes = operation(INTS, (), lambda b: constant(INTS, 0))
add = operation(FLOATS, (FLOATS, FLOATS), lambda b, x, y: b.fadd(x, y))
subtract = operation(FLOATS, (FLOATS, FLOATS), lambda b, x, y: b.fsub(x, y))
multiply = operation(FLOATS, (FLOATS, FLOATS), lambda b, x, y: b.fmul(x, y))
divide = operation(FLOATS, (FLOATS, FLOATS), lambda b, x, y: b.fdiv(x, y))
multiply_add = operation(FLOATS, (FLOATS, FLOATS, FLOATS), fused)
maximum = operation(FLOATS, (FLOATS, FLOATS), _call("llvm.maxnum"))
minimum = operation(FLOATS, (FLOATS, FLOATS), _call("llvm.minnum"))
absolute = operation(FLOATS, (FLOATS,), _call("llvm.fabs"))
nearest = operation(FLOATS, (FLOATS,), _call("llvm.rint"))
to_floats = operation(FLOATS, (INTS,), lambda b, x: b.sitofp(x, LLVM[FLOATS]))


def _where_less(builder: Any, x: Any, limit: Any, then: Any, otherwise: Any) -> Any:
    return builder.select(builder.fcmp_ordered("<", x, limit), then, otherwise)


def _power_of_two(builder: Any, exponent: Any) -> Any:
    """2**exponent for whole numbers from -126 to 127: the exponent's bits, biased."""
    biased = builder.add(builder.fptosi(exponent, LLVM[INTS]), constant(INTS, 127))
    return builder.bitcast(builder.shl(biased, constant(INTS, 23)), LLVM[FLOATS])


def _within(builder: Any, x: Any, first: Any, last: Any) -> Any:
    lanes = ir.Constant(LLVM[INTS], list(range(LANES)))
    low, high = (splat_value(builder, builder.trunc(bound, INT32)) for bound in (first, last))
    inside = builder.and_(builder.icmp_signed(">=", lanes, low), builder.icmp_signed("<=", lanes, high))
    return builder.select(inside, x, constant(FLOATS, float("-inf")))


where_less = operation(FLOATS, (FLOATS,) * 4, _where_less)
"""(x, limit, then, otherwise): `then` in the lanes where x < limit."""
power_of_two = operation(FLOATS, (FLOATS,), _power_of_two)
within = operation(FLOATS, (FLOATS, types.intp, types.intp), _within)
"""(x, first, last): x in those lanes, minus infinity in the others."""


def _folded(combine: Emit) -> Emit:
    """All lanes into one number: halves onto each other, so that the order is fixed."""

    def emit(builder: Any, vector: Any) -> Any:
        lanes = LANES
        while lanes > 1:
            lanes //= 2
            halves = [
                ir.Constant(ir.VectorType(INT32, LANES), [(i + start) % LANES for i in range(LANES)])
                for start in (0, lanes)
            ]
            low, high = (builder.shuffle_vector(vector, vector, half) for half in halves)
            vector = combine(builder, low, high)
        return builder.extract_element(vector, ir.Constant(INT32, 0))

    return emit


total = operation(types.float32, (FLOATS,), _folded(lambda b, x, y: b.fadd(x, y)))
largest = operation(types.float32, (FLOATS,), _folded(_call("llvm.maxnum")))


def _nibble(builder: Any, codes: Any, index: Any) -> Any:
    shift = splat_value(builder, builder.trunc(builder.mul(index, ir.Constant(index.type, 4)), INT32))
    return builder.uitofp(builder.and_(builder.lshr(codes, shift), constant(INTS, 15)), LLVM[FLOATS])


def _signed_byte(builder: Any, codes: Any, index: Any) -> Any:
    shift = splat_value(builder, builder.trunc(builder.mul(index, ir.Constant(index.type, 8)), INT32))
    code = builder.and_(builder.lshr(codes, shift), constant(INTS, 255))
    return builder.sitofp(builder.sub(code, constant(INTS, 128)), LLVM[FLOATS])


low_nibbles = operation(INTS, (INTS,), lambda b, x: b.and_(x, constant(INTS, 0x0F0F0F0F)))
"""The low half of each byte, as bytes."""
high_nibbles = operation(
    INTS, (INTS,), lambda b, x: b.and_(b.lshr(x, constant(INTS, 4)), constant(INTS, 0x0F0F0F0F))
)
to_codes = operation(INTS, (FLOATS,), lambda b, x: b.fptosi(x, LLVM[INTS]))
store_bytes = operation(
    types.void,
    (types.intp, INTS),
    lambda b, at, x: store_value(b, at, b.trunc(x, ir.VectorType(INT8, LANES)), align=1),
)
"""The lowest byte of each lane."""
nibble = operation(FLOATS, (INTS, types.intp), _nibble)
"""(codes, i): the number in the i-th four bits of each lane."""
signed_byte = operation(FLOATS, (INTS, types.intp), _signed_byte)
"""(codes, i): the i-th byte of each lane, less 128."""
