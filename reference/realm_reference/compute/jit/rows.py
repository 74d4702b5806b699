"""Several vectors side by side: the sums that a kernel keeps for several rows of activations, so that it
reads a weight once for all of them.

Rows are a tuple of vectors, and a function on rows writes its instructions for each, one behind the other. A
row's numbers stand at an address of their own: that of the first row, and `stride` bytes on for each other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

from llvmlite import ir
from numba import types

from realm_reference.compute.jit.bytedot import add_byte_products
from realm_reference.compute.jit.compiled import intrinsic
from realm_reference.compute.jit.simd import (
    FLOAT32,
    FLOATS,
    INT32,
    INTS,
    LLVM,
    PARAMETERS,
    Emit,
    constant,
    fused,
    load_value,
    splat_value,
    store_value,
)

Rows: TypeAlias = Any  # in compiled code: a tuple of FLOATS
CodeRows: TypeAlias = Any  # in compiled code: a tuple of INTS

_AT: Final = (types.intp, types.intp)  # address and stride


def _zeros(kind: Any) -> Callable[..., Any]:
    def typed(count: Any) -> Any:
        rows = types.UniTuple(kind, count.literal_value)  # type: ignore[no-untyped-call]

        def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            return context.make_tuple(builder, rows, [constant(kind, 0)] * rows.count)

        return rows(count), code

    return intrinsic(PARAMETERS[1](typed))


def _on_rows(
    result: Any, arguments: tuple[Any, ...], rows: tuple[Any, ...], emit: Emit
) -> Callable[..., Any]:
    """An intrinsic on `arguments` and then on rows of the kinds `rows`. For each, `emit` gets the builder,
    the row's index, the arguments and the rows' vectors, and gives the result's.
    """

    def typed(*given: Any) -> Any:
        count = given[-1].count
        tuples = [types.UniTuple(kind, count) for kind in (result, *rows)]  # type: ignore[no-untyped-call]

        def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            same, own = values[: len(arguments)], values[len(arguments) :]
            vectors = [
                emit(
                    builder,
                    ir.Constant(ir.IntType(64), i),
                    *same,
                    *(builder.extract_value(x, i) for x in own),
                )
                for i in range(count)
            ]
            return context.make_tuple(builder, tuples[0], vectors)

        return tuples[0](*arguments, *tuples[1:]), code

    return intrinsic(PARAMETERS[len(arguments) + len(rows)](typed))


def _number(b: Any, row: Any, at: Any, stride: Any, element: Any = FLOAT32) -> Any:
    """The number at the row's address, in all lanes."""
    return splat_value(b, load_value(b, b.add(at, b.mul(row, stride)), element))


zero_rows = _zeros(FLOATS)
"""(count): so many vectors of zeros; the count is a constant."""

zero_code_rows = _zeros(INTS)

add_products = _on_rows(
    FLOATS,
    (FLOATS, *_AT),
    (FLOATS,),
    lambda b, row, w, at, stride, s: fused(b, w, _number(b, row, at, stride), s),
)
"""(weights, address, stride, sums): weights * the row's number + sums."""

add_vectors = _on_rows(
    FLOATS,
    (FLOATS, *_AT),
    (FLOATS,),
    lambda b, row, w, at, stride, s: fused(
        b, w, load_value(b, b.add(at, b.mul(row, stride)), LLVM[FLOATS]), s
    ),
)
"""(weight, address, stride, sums): weight * the 16 numbers at the row's address + sums."""

add_rows = _on_rows(FLOATS, (), (FLOATS, FLOATS), lambda b, row, x, y: b.fadd(x, y))

scale_rows = _on_rows(FLOATS, (FLOATS,), (FLOATS,), lambda b, row, scale, x: b.fmul(scale, x))

add_scaled_rows = _on_rows(FLOATS, (FLOATS,), (FLOATS, FLOATS), lambda b, row, w, x, s: fused(b, w, x, s))
"""(scales, rows, sums): scales * rows + sums."""

add_dots = _on_rows(
    INTS,
    (INTS, *_AT),
    (INTS,),
    lambda b, row, w, at, stride, s: add_byte_products(b, s, w, _number(b, row, at, stride, INT32)),
)
"""(codes, address, stride, sums): to each lane, the four products of its unsigned bytes with the row's four
signed ones.
"""

to_float_rows = _on_rows(FLOATS, (), (INTS,), lambda b, row, x: b.sitofp(x, LLVM[FLOATS]))

add_numbers = _on_rows(
    FLOATS, _AT, (FLOATS,), lambda b, row, at, stride, s: b.fadd(s, _number(b, row, at, stride))
)
"""(address, stride, rows): rows + the row's number."""

add_scaled_products = _on_rows(
    FLOATS,
    (FLOATS, *_AT),
    (FLOATS, FLOATS),
    lambda b, row, w, at, stride, x, s: fused(b, b.fmul(w, _number(b, row, at, stride)), x, s),
)
"""(scales, address, stride, rows, sums): scales * the row's number * rows + sums."""


@intrinsic
def store_rows(typing: Any, address: Any, stride: Any, rows: Any) -> Any:
    """Store each row at its address."""

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        at, step, vectors = values
        for i in range(rows.count):
            place = builder.add(at, builder.mul(ir.Constant(ir.IntType(64), i), step))
            store_value(builder, place, builder.extract_value(vectors, i))
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, rows), code
