"""The row-wise stages of the critic's losses. Each program computes all three layers for a few rows.

Symbols follow DERIVATION.md. Between layers, a program writes its rows to memory and reads them back after a barrier.
Layers thus need not fit into registers, and the weight gradients need these rows anyway.
"""

from typing import no_type_check

import triton
import triton.language as tl


@triton.jit
@no_type_check
def inverse_norm(squared):
    """Return 1 / sqrt, or 0 below 1.2e-38, for which the hardware's rsqrt returns infinity. NaN is kept."""
    return tl.where(squared < 1.2e-38, 0.0, tl.rsqrt(tl.where(squared < 1.2e-38, 1.0, squared)))


@triton.jit
@no_type_check
def rows_times(
    x, width, weight, stride_out, stride_in, rows, is_row, columns, num_columns,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, INNER: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Compute ``Σ_k x[r, k] · weight[c · stride_out + k · stride_in]``, a layer or (strides swapped) its transpose."""
    total = tl.zeros([ROWS, COLUMNS], dtype=tl.float32)
    for start in range(0, width, INNER):
        inner = start + tl.arange(0, INNER)
        left = tl.load(
            x + rows[:, None] * width + inner[None, :], mask=is_row[:, None] & (inner < width)[None, :], other=0.0
        )
        right = tl.load(
            weight + columns[None, :] * stride_out + inner[:, None] * stride_in,
            mask=(inner < width)[:, None] & (columns < num_columns)[None, :],
            other=0.0,
        )
        total = tl.dot(left, right, total, input_precision=PRECISION)
    return total


@triton.jit
@no_type_check
def linear(
    x, width, weight, bias, out, num_columns, rows, is_row, RELU: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, INNER: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Compute ``out = x Wᵀ + b``, optionally with ReLU."""
    for start in range(0, num_columns, COLUMNS):
        columns = start + tl.arange(0, COLUMNS)
        is_column = columns < num_columns
        y = rows_times(x, width, weight, width, 1, rows, is_row, columns, num_columns, ROWS, COLUMNS, INNER, PRECISION)
        y += tl.load(bias + columns, mask=is_column, other=0.0).to(tl.float32)[None, :]
        if RELU:
            y = tl.where(y <= 0, 0.0, y)  # unlike maximum(y, 0), this keeps NaN
        tl.store(
            out + rows[:, None] * num_columns + columns[None, :],
            y.to(out.dtype.element_ty),
            mask=is_row[:, None] & is_column[None, :],
        )
    tl.debug_barrier()


@triton.jit
@no_type_check
def masked_product(
    x, width, weight, stride_out, stride_in, active, active_rows, out, out_rows, num_columns, x_rows, is_row,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, INNER: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Compute ``out = M ⊙ (x · weight)``. M is 1 at positive activations of ``active_rows``, else 0."""
    for start in range(0, num_columns, COLUMNS):
        columns = start + tl.arange(0, COLUMNS)
        inside = is_row[:, None] & (columns < num_columns)[None, :]
        y = rows_times(
            x, width, weight, stride_out, stride_in, x_rows, is_row, columns, num_columns,
            ROWS, COLUMNS, INNER, PRECISION,
        )  # fmt: skip
        r = tl.load(active + active_rows[:, None] * num_columns + columns[None, :], mask=inside, other=0.0)
        y = tl.where(r <= 0, 0.0, y)
        tl.store(out + out_rows[:, None] * num_columns + columns[None, :], y.to(out.dtype.element_ty), mask=inside)
    tl.debug_barrier()


@triton.jit
@no_type_check
def embed_kernel(
    z_unseen, z_forget, z_forget2, epsilon, w1, b1, w2, b2, w3, b3, r0, r1, r2, h,
    batch, features, width1, width2, width3, mixed_columns,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, INNER: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Compute D for one group of rows (0 unseen, 1 forget, 2 second forget, 3 mixture ẑ) and store all activations."""
    group = tl.program_id(1)
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS).to(tl.int64)
    is_row = rows < batch
    stacked = group * batch + rows
    source = z_unseen
    if group == 1:
        source = z_forget
    if group == 2:
        source = z_forget2
    for start in range(0, features, INNER):
        columns = start + tl.arange(0, INNER)
        inside = is_row[:, None] & (columns < features)[None, :]
        offsets = rows[:, None] * features + columns[None, :]
        z = tl.load(source + offsets, mask=inside, other=0.0)
        if group == 3:
            e = tl.load(epsilon + rows, mask=is_row, other=0.0).to(tl.float32)[:, None]
            other = tl.load(z_forget + offsets, mask=inside, other=0.0)
            mixed = (e * z.to(tl.float32) + (1 - e) * other.to(tl.float32)).to(z.dtype)
            z = tl.where((columns < mixed_columns)[None, :], mixed, other)
        tl.store(r0 + stacked[:, None] * features + columns[None, :], z, mask=inside)
    tl.debug_barrier()
    linear(r0, features, w1, b1, r1, width1, stacked, is_row, True, ROWS, COLUMNS, INNER, PRECISION)
    linear(r1, width1, w2, b2, r2, width2, stacked, is_row, True, ROWS, COLUMNS, INNER, PRECISION)
    linear(r2, width2, w3, b3, h, width3, stacked, is_row, False, ROWS, COLUMNS, INNER, PRECISION)


@triton.jit
@no_type_check
def backward_kernel(
    w1, w2, w3, r1, r2, p1, p2, p3, dz, batch, features, width1, width2, width3, INPUT_GRADIENT: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, INNER: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Compute p2, p1 and optionally ∂L/∂z from p3 = ∂L/∂h of one group of rows."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS).to(tl.int64)
    is_row = rows < batch
    stacked = tl.program_id(1) * batch + rows
    masked_product(
        p3, width3, w3, 1, width2, r2, stacked, p2, stacked, width2, stacked, is_row, ROWS, COLUMNS, INNER, PRECISION
    )
    masked_product(
        p2, width2, w2, 1, width1, r1, stacked, p1, stacked, width1, stacked, is_row, ROWS, COLUMNS, INNER, PRECISION
    )
    if INPUT_GRADIENT:
        for start in range(0, features, COLUMNS):
            columns = start + tl.arange(0, COLUMNS)
            y = rows_times(
                p1, width1, w1, 1, features, stacked, is_row, columns, features, ROWS, COLUMNS, INNER, PRECISION
            )
            inside = is_row[:, None] & (columns < features)[None, :]
            tl.store(dz + stacked[:, None] * features + columns[None, :], y.to(dz.dtype.element_ty), mask=inside)
