"""Tiles of pairwise distances: by differences for few dimensions or near pairs, else by centred dot products."""

from typing import no_type_check

import triton
import triton.language as tl


@triton.jit
@no_type_check
def load_tile(x, rows, num_rows, columns, dim):
    return tl.load(
        x + rows[:, None] * dim + columns[None, :],
        mask=(rows < num_rows)[:, None] & (columns < dim)[None, :],
        other=0.0,
    )


@triton.jit
@no_type_check
def squared_by_differences(x, y, rows, num_rows, columns, num_columns, dim, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Compute ``Σ_k (x[r, k] − y[c, k])²``, accurate for near pairs, without tensor cores."""
    squared = tl.zeros([ROWS, COLUMNS], dtype=tl.float32)
    for k in range(0, dim):
        left = tl.load(x + rows * dim + k, mask=rows < num_rows, other=0.0).to(tl.float32)
        right = tl.load(y + columns * dim + k, mask=columns < num_columns, other=0.0).to(tl.float32)
        difference = left[:, None] - right[None, :]
        squared += difference * difference
    return squared


@triton.jit
@no_type_check
def centred(x, rows, num_rows, columns, dim, centre, CENTRED: tl.constexpr):
    """Load a tile of ``x − centre``. Rows outside are 0 − centre. bfloat16 is not centred; its products are exact."""
    tile = load_tile(x, rows, num_rows, columns, dim)
    if CENTRED:
        tile -= tl.load(centre + columns, mask=columns < dim, other=0.0)[None, :]
    return tile


@triton.jit
@no_type_check
def squared_distances(
    x, y, centre, x_sizes, y_sizes, rows, num_rows, columns, num_columns, dim, same_sample,
    DIRECT: tl.constexpr, CENTRED: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, INNER: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Compute the squared distances of one tile, and whether a near pair required differences.

    ``‖x‖² + ‖y‖² − 2 x·y`` loses digits by cancellation; its first two terms are given. If less than 1/64 remains, the
    whole tile is recomputed. Pairs outside the samples are 0. With ``same_sample``, so is the pair of a row with itself.
    """
    inside = (rows < num_rows)[:, None] & (columns < num_columns)[None, :]
    inside = inside & ((rows[:, None] != columns[None, :]) | (same_sample == 0))
    near = 1
    if DIRECT:
        squared = squared_by_differences(x, y, rows, num_rows, columns, num_columns, dim, ROWS, COLUMNS)
    else:
        squared = tl.zeros([ROWS, COLUMNS], dtype=tl.float32)
        for start in range(0, dim, INNER):
            inner = start + tl.arange(0, INNER)
            left = centred(x, rows, num_rows, inner, dim, centre, CENTRED)
            right = centred(y, columns, num_columns, inner, dim, centre, CENTRED)
            squared = tl.dot(left, tl.trans(right), squared, input_precision=PRECISION)
        left_size = tl.load(x_sizes + rows, mask=rows < num_rows, other=0.0)
        right_size = tl.load(y_sizes + columns, mask=columns < num_columns, other=0.0)
        size = left_size[:, None] + right_size[None, :]
        squared = size - 2 * squared
        near = tl.max(tl.max(tl.where(inside & (squared * 64 < size), 1, 0), 1), 0)
        if near > 0:
            squared = squared_by_differences(x, y, rows, num_rows, columns, num_columns, dim, ROWS, COLUMNS)
    return tl.where(inside, squared, 0.0), near


@triton.jit
@no_type_check
def mean_kernel(
    x, y, centre, x_sizes, y_sizes, partial, num_rows, num_columns, dim, same_sample,
    SPLITS: tl.constexpr, DIRECT: tl.constexpr, CENTRED: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, INNER: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Sum the distances between one block of rows and every ``SPLITS``-th block of columns.

    With ``same_sample``, column blocks begin at the block's own rows, and only pairs with row < column count.
    """
    block = tl.program_id(0)
    split = tl.program_id(1)
    rows = block * ROWS + tl.arange(0, ROWS).to(tl.int64)
    first = tl.where(same_sample > 0, (block * ROWS // COLUMNS), 0)
    total = tl.zeros([ROWS], dtype=tl.float32)
    for tile in range(first + split, tl.cdiv(num_columns, COLUMNS), SPLITS):
        columns = tile * COLUMNS + tl.arange(0, COLUMNS).to(tl.int64)
        squared, _ = squared_distances(
            x, y, centre, x_sizes, y_sizes, rows, num_rows, columns, num_columns, dim, same_sample,
            DIRECT, CENTRED, ROWS, COLUMNS, INNER, PRECISION,
        )  # fmt: skip
        counted = (rows[:, None] < columns[None, :]) | (same_sample == 0)
        total += tl.sum(tl.where(counted, tl.sqrt(squared), 0.0), 1)
    tl.store(partial + block * SPLITS + split, tl.sum(total, 0))


@triton.jit
@no_type_check
def slope_kernel(
    x, y, centre, x_sizes, y_sizes, out, num_rows, num_columns, dim, same_sample, weight,
    SPLITS: tl.constexpr, FIRST: tl.constexpr, FEATURES: tl.constexpr, DIRECT: tl.constexpr, CENTRED: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, INNER: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Compute ``weight · Σ_c (x[r] − y[c]) / ‖x[r] − y[c]‖`` over every ``SPLITS``-th block of columns.

    A program computes ``FEATURES`` of the gradient's dim columns. It writes them if ``FIRST``, else it adds them.
    """
    block = tl.program_id(0)
    split = tl.program_id(2)
    rows = block * ROWS + tl.arange(0, ROWS).to(tl.int64)
    features = tl.program_id(1) * FEATURES + tl.arange(0, FEATURES)
    total = tl.zeros([ROWS, FEATURES], dtype=tl.float32)
    if DIRECT:
        mine = load_tile(x, rows, num_rows, features, dim).to(tl.float32)
    else:
        mine = centred(x, rows, num_rows, features, dim, centre, CENTRED).to(tl.float32)
    for tile in range(split, tl.cdiv(num_columns, COLUMNS), SPLITS):
        columns = tile * COLUMNS + tl.arange(0, COLUMNS).to(tl.int64)
        squared, near = squared_distances(
            x, y, centre, x_sizes, y_sizes, rows, num_rows, columns, num_columns, dim, same_sample,
            DIRECT, CENTRED, ROWS, COLUMNS, INNER, PRECISION,
        )  # fmt: skip
        inverse = tl.where(squared < 1.2e-38, 0.0, tl.rsqrt(tl.where(squared < 1.2e-38, 1.0, squared)))
        if near > 0:
            for k in range(0, FEATURES):
                feature = tl.program_id(1) * FEATURES + k
                if feature < dim:
                    left = tl.load(x + rows * dim + feature, mask=rows < num_rows, other=0.0).to(tl.float32)
                    right = tl.load(y + columns * dim + feature, mask=columns < num_columns, other=0.0).to(tl.float32)
                    slope = tl.sum((left[:, None] - right[None, :]) * inverse, 1)
                    total += tl.where((features == feature)[None, :], slope[:, None], 0.0)
        else:
            others = centred(y, columns, num_columns, features, dim, centre, CENTRED)
            pulled = tl.dot(inverse.to(others.dtype), others, input_precision=PRECISION)
            total += mine * tl.sum(inverse, 1)[:, None] - pulled
    offsets = (split.to(tl.int64) * num_rows + rows)[:, None] * dim + features[None, :]
    inside = (rows < num_rows)[:, None] & (features < dim)[None, :]
    total *= weight
    if not FIRST:
        total += tl.load(out + offsets, mask=inside, other=0.0)
    tl.store(out + offsets, total, mask=inside)
