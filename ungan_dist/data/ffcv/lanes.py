"""Normalise sixteen pixels of a row as vector code, which numba does not generate for so short a loop.

Addresses are not checked, so callers must pass valid ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, no_type_check

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

LANES = 16
"""Pixels per vector."""
WIDEST = 1 << 15
"""Largest number of pixels in a row, because columns are compared in 16 bits."""


@no_type_check
def _splat(builder: ir.IRBuilder, value: ir.Value, vector: ir.VectorType) -> ir.Value:
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(
        first, ir.Constant(vector, ir.Undefined), ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    )


def _make_lanes(*, mirrored: bool) -> Callable[..., Any]:
    """Make ``normalise_lanes`` or ``normalise_lanes_mirrored``."""
    signature = types.none(*[types.int64] * 5, *[types.float32] * 4)

    @no_type_check
    def generate(context, builder, given, arguments):
        source, target, x, begin, end, *line = arguments
        short = ir.IntType(16)
        as_bytes, as_floats = ir.VectorType(ir.IntType(8), LANES), ir.VectorType(ir.FloatType(), LANES)
        as_shorts = ir.VectorType(short, LANES)

        pixels = builder.load(builder.inttoptr(source, as_bytes.as_pointer()), align=1)
        if mirrored:
            backwards = ir.Constant(ir.VectorType(ir.IntType(32), LANES), list(reversed(range(LANES))))
            pixels = builder.shuffle_vector(pixels, ir.Constant(as_bytes, ir.Undefined), backwards)

        # begin ≤ column < end as one comparison, because columns left of begin wrap around
        from_begin, visible = (
            _splat(builder, builder.trunc(builder.sub(value, begin), short), as_shorts) for value in (x, end)
        )
        column = builder.add(from_begin, ir.Constant(as_shorts, list(range(LANES))))
        inside = builder.icmp_unsigned("<", column, visible)
        pixels = builder.select(inside, pixels, ir.Constant(as_bytes, [0] * LANES))

        # without flags, so that no sum is regrouped, however the caller is compiled
        values = builder.uitofp(pixels, as_floats)
        slope, offset, slope_rest, offset_rest = (_splat(builder, value, as_floats) for value in line)
        coarse = builder.fadd(builder.fmul(values, slope), offset)
        rest = builder.fadd(builder.fmul(values, slope_rest), offset_rest)
        builder.store(builder.fadd(coarse, rest), builder.inttoptr(target, as_floats.as_pointer()), align=4)
        return context.get_dummy_value()

    @no_type_check
    def typed(context, source, target, x, begin, end, slope, offset, slope_rest, offset_rest):
        return signature, generate

    return intrinsic(typed)


normalise_lanes = _make_lanes(mirrored=False)
"""Convert bytes to float32: ``(value · slope + offset) + (value · slope_rest + offset_rest)``.

``source`` is the address of the first byte, ``target`` the address of the first float32, and ``x`` its column in the
output. Columns from ``begin`` to ``end`` show the image, in rows of up to ``WIDEST`` pixels. Other columns are computed
from the value 0. The last four arguments are the line.
"""
normalise_lanes_mirrored = _make_lanes(mirrored=True)
"""The same, but the first float32 is computed from the last byte."""
