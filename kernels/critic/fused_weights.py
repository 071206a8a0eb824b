"""The six weight gradients from stacked rows: partial sums over fixed spans, added in a fixed order."""

from typing import no_type_check

import triton
import triton.language as tl


@triton.jit
@no_type_check
def layer_gradient(
    p, r, outputs, inputs, tile, first_row, num_rows, num_bias_rows, matrix_out, bias_out,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, INNER: tl.constexpr, SPLIT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Compute one tile of ``Σ_r p[r]ᵀ r[r]`` over a span of rows; the first tiles also store the bias gradient."""
    column_tiles = tl.cdiv(inputs, COLUMNS)
    out_rows = (tile // column_tiles) * ROWS + tl.arange(0, ROWS)
    columns = (tile % column_tiles) * COLUMNS + tl.arange(0, COLUMNS)
    total = tl.zeros([ROWS, COLUMNS], dtype=tl.float32)
    bias = tl.zeros([ROWS], dtype=tl.float32)
    for start in range(0, SPLIT, INNER):
        stacked = first_row + start + tl.arange(0, INNER)
        is_row = (stacked < num_rows) & (start + tl.arange(0, INNER) < SPLIT)
        left = tl.load(
            p + stacked[None, :] * outputs + out_rows[:, None],
            mask=is_row[None, :] & (out_rows < outputs)[:, None],
            other=0.0,
        )
        right = tl.load(
            r + stacked[:, None] * inputs + columns[None, :],
            mask=is_row[:, None] & (columns < inputs)[None, :],
            other=0.0,
        )
        total = tl.dot(left, right, total, input_precision=PRECISION)
        bias += tl.sum(tl.where((stacked < num_bias_rows)[None, :], left.to(tl.float32), 0.0), 1)
    tl.store(
        matrix_out + out_rows[:, None].to(tl.int64) * inputs + columns[None, :],
        total,
        mask=(out_rows < outputs)[:, None] & (columns < inputs)[None, :],
    )
    if tile % column_tiles == 0:
        tl.store(bias_out + out_rows, bias, mask=out_rows < outputs)


@triton.jit
@no_type_check
def weights_kernel(
    r0, r1, r2, p1, p2, p3, partial, num_rows, num_bias_rows, features, width1, width2, width3,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, INNER: tl.constexpr, SPLIT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Compute the six flat gradients of one span of rows. Rows from ``num_bias_rows`` on have no bias."""
    size1, size2 = width1 * features + width1, width2 * width1 + width2
    tiles1 = tl.cdiv(width1, ROWS) * tl.cdiv(features, COLUMNS)
    tiles2 = tl.cdiv(width2, ROWS) * tl.cdiv(width1, COLUMNS)
    tile = tl.program_id(0)
    split = tl.program_id(1).to(tl.int64)
    out = partial + split * (size1 + size2 + width3 * width2 + width3)
    if tile < tiles1:
        layer_gradient(
            p1, r0, width1, features, tile, split * SPLIT, num_rows, num_bias_rows, out, out + width1 * features,
            ROWS, COLUMNS, INNER, SPLIT, PRECISION,
        )  # fmt: skip
    elif tile < tiles1 + tiles2:
        out += size1
        layer_gradient(
            p2, r1, width2, width1, tile - tiles1, split * SPLIT, num_rows, num_bias_rows, out, out + width2 * width1,
            ROWS, COLUMNS, INNER, SPLIT, PRECISION,
        )  # fmt: skip
    else:
        out += size1 + size2
        layer_gradient(
            p3, r2, width3, width2, tile - tiles1 - tiles2, split * SPLIT, num_rows, num_bias_rows,
            out, out + width3 * width2, ROWS, COLUMNS, INNER, SPLIT, PRECISION,
        )  # fmt: skip


@triton.jit
@no_type_check
def sum_of_rows(row_loss, batch, BLOCK: tl.constexpr):
    """Sum the losses of the rows in a fixed order."""
    total = tl.zeros([BLOCK], dtype=tl.float32)
    lanes = tl.arange(0, BLOCK)
    for start in range(0, batch, BLOCK):
        total += tl.load(row_loss + start + lanes, mask=start + lanes < batch, other=0.0)
    return tl.sum(total, 0)


@triton.jit
@no_type_check
def sum_of_splits(partial, entries, num_splits, size, BLOCK: tl.constexpr):
    """Sum the partial gradients of some entries in a fixed order."""
    total = tl.zeros([BLOCK], dtype=tl.float32)
    for _ in range(num_splits):
        total += tl.load(partial + entries, mask=entries < size, other=0.0)
        partial += size
    return total


@triton.jit
@no_type_check
def reduce_kernel(partial, num_splits, size, flat, row_loss, batch, loss, BLOCK: tl.constexpr):
    """Sum the partial gradients. The last program sums the losses of the rows."""
    block = tl.program_id(0)
    if block == tl.num_programs(0) - 1:
        tl.store(loss, sum_of_rows(row_loss, batch, BLOCK))
    else:
        entries = block.to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
        tl.store(flat + entries, sum_of_splits(partial, entries, num_splits, size, BLOCK), mask=entries < size)


@triton.jit
@no_type_check
def descend(w, place, size, gradient, learning_rate, weight_decay):
    """Update the entries of one tensor by an SGD step. Its first entry is at ``place`` 0."""
    is_own = (place >= 0) & (place < size)
    before = tl.load(w + place, mask=is_own, other=0.0).to(tl.float32)
    tl.store(w + place, before - learning_rate * (gradient + weight_decay * before), mask=is_own)


@triton.jit
@no_type_check
def descend_kernel(
    partial, num_splits, size, w1, b1, w2, b2, w3, b3, features, width1, width2, width3, row_loss, batch, loss,
    learning_rate, weight_decay, BLOCK: tl.constexpr,
):  # fmt: skip
    """Apply the summed gradient to the weights as one SGD step, and sum the losses like ``reduce_kernel``."""
    block = tl.program_id(0)
    if block == tl.num_programs(0) - 1:
        tl.store(loss, sum_of_rows(row_loss, batch, BLOCK))
    else:
        place = block.to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
        gradient = sum_of_splits(partial, place, num_splits, size, BLOCK)
        descend(w1, place, width1 * features, gradient, learning_rate, weight_decay)
        place -= width1 * features
        descend(b1, place, width1, gradient, learning_rate, weight_decay)
        place -= width1
        descend(w2, place, width2 * width1, gradient, learning_rate, weight_decay)
        place -= width2 * width1
        descend(b2, place, width2, gradient, learning_rate, weight_decay)
        place -= width2
        descend(w3, place, width3 * width2, gradient, learning_rate, weight_decay)
        place -= width3 * width2
        descend(b3, place, width3, gradient, learning_rate, weight_decay)
