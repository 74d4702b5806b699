"""Sums of products of bytes, four to a lane: one instruction where the processor has it (VNNI), else some
that give the same integers.
"""

from __future__ import annotations

from typing import Any

from llvmlite import binding, ir

from realm_reference.compute.jit.cpu import VNNI
from realm_reference.compute.jit.simd import INTS, LLVM, call

_BYTES = ir.VectorType(ir.IntType(8), 64)
_HALVES = ir.VectorType(ir.IntType(16), 32)


def add_byte_products(builder: Any, sums: Any, unsigned: Any, signed: Any) -> Any:
    """To each 32-bit lane of `sums`, the products of the four bytes of `unsigned` and of `signed` there."""
    return (_vnni if VNNI else _in_halves)(builder, sums, unsigned, signed)


def _vnni(builder: Any, sums: Any, unsigned: Any, signed: Any) -> Any:
    # From LLVM 22 on the instruction is declared on bytes; before, on whole lanes.
    operand = _BYTES if binding.llvm_version_info[0] >= 22 else LLVM[INTS]
    shape = ir.FunctionType(LLVM[INTS], [LLVM[INTS], operand, operand])
    operands = [builder.bitcast(unsigned, operand), builder.bitcast(signed, operand)]
    return call(builder, shape, "llvm.x86.avx512.vpdpbusd.512", [sums, *operands])


def _in_halves(builder: Any, sums: Any, unsigned: Any, signed: Any) -> Any:
    """Bytes of even and of odd number as 16 bits each; their products are added up two by two (vpmaddwd)."""
    u, s = builder.bitcast(unsigned, _HALVES), builder.bitcast(signed, _HALVES)
    eight = ir.Constant(_HALVES, [8] * 32)
    even = _pair_sums(
        builder, builder.and_(u, ir.Constant(_HALVES, [255] * 32)), builder.ashr(builder.shl(s, eight), eight)
    )
    odd = _pair_sums(builder, builder.lshr(u, eight), builder.ashr(s, eight))
    return builder.add(sums, builder.add(even, odd))


def _pair_sums(builder: Any, x: Any, y: Any) -> Any:
    """[32 of 16 bits] twice -> [16 of 32 bits]: x[2i] * y[2i] + x[2i + 1] * y[2i + 1]."""

    def products(first: int) -> Any:
        index = ir.Constant(ir.VectorType(ir.IntType(32), 16), list(range(first, 32, 2)))
        low, high = (builder.sext(builder.shuffle_vector(v, v, index), LLVM[INTS]) for v in (x, y))
        return builder.mul(low, high)

    return builder.add(products(0), products(1))
