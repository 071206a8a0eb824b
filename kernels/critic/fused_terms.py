"""The losses as functions of the embeddings: values per row, and gradients for the critic's backward pass."""

from typing import no_type_check

import triton
import triton.language as tl

from ungan_dist.kernels.critic.fused_rows import inverse_norm, masked_product, rows_times


@triton.jit
@no_type_check
def load_rows(x, rows, is_row, columns, width):
    return tl.load(
        x + rows[:, None] * width + columns[None, :], mask=is_row[:, None] & (columns < width)[None, :], other=0.0
    ).to(tl.float32)


@triton.jit
@no_type_check
def store_rows(x, rows, is_row, columns, width, y):
    tl.store(
        x + rows[:, None] * width + columns[None, :],
        y.to(x.dtype.element_ty),
        mask=is_row[:, None] & (columns < width)[None, :],
    )


@triton.jit
@no_type_check
def surrogate_kernel(
    h_unseen, h_forget, h_forget2, row_loss, d_unseen, d_forget, d_forget2, batch, width, scale,
    GENERATOR: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Compute ``scale`` · eq. 8 (eq. 6 if ``GENERATOR``) per row, and its gradients with respect to the embeddings."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS).to(tl.int64)
    is_row = rows < batch
    unseen_forget2 = tl.zeros([ROWS], dtype=tl.float32)
    forget_forget2 = tl.zeros([ROWS], dtype=tl.float32)
    third = tl.zeros([ROWS], dtype=tl.float32)
    unseen = tl.zeros([ROWS], dtype=tl.float32)
    for start in range(0, width, COLUMNS):
        columns = start + tl.arange(0, COLUMNS)
        u = load_rows(h_unseen, rows, is_row, columns, width)
        f = load_rows(h_forget, rows, is_row, columns, width)
        f2 = load_rows(h_forget2, rows, is_row, columns, width)
        unseen_forget2 += tl.sum((u - f2) * (u - f2), 1)
        forget_forget2 += tl.sum((f - f2) * (f - f2), 1)
        if GENERATOR:
            third += tl.sum((u - f) * (u - f), 1)
        else:
            third += tl.sum(f * f, 1)
            unseen += tl.sum(u * u, 1)
    inverse_unseen_forget2 = inverse_norm(unseen_forget2)
    inverse_forget_forget2 = inverse_norm(forget_forget2)
    inverse_third = inverse_norm(third)
    inverse_unseen = inverse_norm(unseen)
    loss = tl.sqrt(unseen_forget2) + tl.sqrt(third) - tl.sqrt(forget_forget2) - tl.sqrt(unseen)
    tl.store(row_loss + rows, loss * scale, mask=is_row)
    for start in range(0, width, COLUMNS):
        columns = start + tl.arange(0, COLUMNS)
        u = load_rows(h_unseen, rows, is_row, columns, width)
        f = load_rows(h_forget, rows, is_row, columns, width)
        f2 = load_rows(h_forget2, rows, is_row, columns, width)
        to_forget2 = (u - f2) * inverse_unseen_forget2[:, None]
        between = (f - f2) * inverse_forget_forget2[:, None]
        if GENERATOR:
            to_forget = (u - f) * inverse_third[:, None]
            du = to_forget2 + to_forget
            df = -to_forget - between
        else:
            du = to_forget2 - u * inverse_unseen[:, None]
            df = f * inverse_third[:, None] - between
        store_rows(d_unseen, rows, is_row, columns, width, du * scale)
        store_rows(d_forget, rows, is_row, columns, width, df * scale)
        store_rows(d_forget2, rows, is_row, columns, width, (between - to_forget2) * scale)


@triton.jit
@no_type_check
def critic_kernel(
    w1, w2, w3, r0, r1, r2, h, p1, p2, p3, row_loss, batch, features, width1, width2, width3,
    surrogate_scale, penalty_scale,
    CRITIC: tl.constexpr, SQUARED: tl.constexpr, GRADIENT: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, INNER: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Run steps 2 to 6 of DERIVATION.md: the surrogate, the penalty, and ∂L/∂h of all four groups of rows.

    ``r0, r1, r2, p1, p2, p3, h`` have a fifth group of rows for the second factors and operands of the penalty.
    """
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS).to(tl.int64)
    is_row = rows < batch
    second, mixture, penalty = 2 * batch + rows, 3 * batch + rows, 4 * batch + rows

    unseen_forget2 = tl.zeros([ROWS], dtype=tl.float32)
    forget_forget2 = tl.zeros([ROWS], dtype=tl.float32)
    forget = tl.zeros([ROWS], dtype=tl.float32)
    unseen = tl.zeros([ROWS], dtype=tl.float32)
    mixed_forget2 = tl.zeros([ROWS], dtype=tl.float32)
    mixed = tl.zeros([ROWS], dtype=tl.float32)
    for start in range(0, width3, COLUMNS):
        columns = start + tl.arange(0, COLUMNS)
        u = load_rows(h, rows, is_row, columns, width3)
        f = load_rows(h, batch + rows, is_row, columns, width3)
        f2 = load_rows(h, second, is_row, columns, width3)
        x = load_rows(h, mixture, is_row, columns, width3)
        unseen_forget2 += tl.sum((u - f2) * (u - f2), 1)
        forget_forget2 += tl.sum((f - f2) * (f - f2), 1)
        forget += tl.sum(f * f, 1)
        unseen += tl.sum(u * u, 1)
        mixed_forget2 += tl.sum((x - f2) * (x - f2), 1)
        mixed += tl.sum(x * x, 1)
    surrogate = tl.sqrt(unseen_forget2) + tl.sqrt(forget) - tl.sqrt(forget_forget2) - tl.sqrt(unseen)
    i1 = inverse_norm(mixed_forget2)
    i2 = inverse_norm(mixed)

    for start in range(0, width3, COLUMNS):
        columns = start + tl.arange(0, COLUMNS)
        if CRITIC:
            f2 = load_rows(h, second, is_row, columns, width3)
            x = load_rows(h, mixture, is_row, columns, width3)
            v = (x - f2) * i1[:, None] - x * i2[:, None]
        else:
            v = tl.full([ROWS, COLUMNS], 1.0, dtype=tl.float32)
        store_rows(p3, penalty, is_row, columns, width3, v)
    tl.debug_barrier()
    masked_product(
        p3, width3, w3, 1, width2, r2, mixture, p2, penalty, width2, penalty, is_row, ROWS, COLUMNS, INNER, PRECISION
    )
    masked_product(
        p2, width2, w2, 1, width1, r1, mixture, p1, penalty, width1, penalty, is_row, ROWS, COLUMNS, INNER, PRECISION
    )
    squared_length = tl.zeros([ROWS], dtype=tl.float32)
    for start in range(0, features, COLUMNS):
        columns = start + tl.arange(0, COLUMNS)
        g = rows_times(p1, width1, w1, 1, features, penalty, is_row, columns, features, ROWS, COLUMNS, INNER, PRECISION)
        squared_length += tl.sum(g * g, 1)
        store_rows(r0, penalty, is_row, columns, features, g)
    tl.debug_barrier()
    excess = tl.sqrt(squared_length) - 1
    if SQUARED:
        slope = 2 * excess
        value = excess * excess
    else:
        slope = tl.full([ROWS], 1.0, dtype=tl.float32)
        value = excess
    tl.store(row_loss + rows, surrogate * surrogate_scale + value * penalty_scale, mask=is_row)

    if GRADIENT:
        slope *= penalty_scale * inverse_norm(squared_length)
        for start in range(0, features, COLUMNS):
            columns = start + tl.arange(0, COLUMNS)
            g = load_rows(r0, penalty, is_row, columns, features)
            store_rows(r0, penalty, is_row, columns, features, g * slope[:, None])
        tl.debug_barrier()
        masked_product(
            r0, features, w1, features, 1, r1, mixture, r1, penalty, width1, penalty, is_row,
            ROWS, COLUMNS, INNER, PRECISION,
        )  # fmt: skip
        masked_product(
            r1, width1, w2, width1, 1, r2, mixture, r2, penalty, width2, penalty, is_row,
            ROWS, COLUMNS, INNER, PRECISION,
        )  # fmt: skip
        along1 = tl.zeros([ROWS], dtype=tl.float32)
        along2 = tl.zeros([ROWS], dtype=tl.float32)
        if CRITIC:
            for start in range(0, width3, COLUMNS):
                columns = start + tl.arange(0, COLUMNS)
                t = rows_times(
                    r2, width2, w3, width2, 1, penalty, is_row, columns, width3, ROWS, COLUMNS, INNER, PRECISION
                )
                f2 = load_rows(h, second, is_row, columns, width3)
                x = load_rows(h, mixture, is_row, columns, width3)
                along1 += tl.sum((x - f2) * t, 1) * i1
                along2 += tl.sum(x * t, 1) * i2
                store_rows(h, penalty, is_row, columns, width3, t)
            tl.debug_barrier()
        i_unseen_forget2 = inverse_norm(unseen_forget2) * surrogate_scale
        i_forget_forget2 = inverse_norm(forget_forget2) * surrogate_scale
        i_forget = inverse_norm(forget) * surrogate_scale
        i_unseen = inverse_norm(unseen) * surrogate_scale
        for start in range(0, width3, COLUMNS):
            columns = start + tl.arange(0, COLUMNS)
            u = load_rows(h, rows, is_row, columns, width3)
            f = load_rows(h, batch + rows, is_row, columns, width3)
            f2 = load_rows(h, second, is_row, columns, width3)
            x = load_rows(h, mixture, is_row, columns, width3)
            to_forget2 = (u - f2) * i_unseen_forget2[:, None]
            between = (f - f2) * i_forget_forget2[:, None]
            store_rows(p3, rows, is_row, columns, width3, to_forget2 - u * i_unseen[:, None])
            store_rows(p3, batch + rows, is_row, columns, width3, f * i_forget[:, None] - between)
            d_second = between - to_forget2
            d_mixture = tl.zeros([ROWS, COLUMNS], dtype=tl.float32)
            if CRITIC:
                t = load_rows(h, penalty, is_row, columns, width3)
                curved1 = (t - (x - f2) * (i1 * along1)[:, None]) * i1[:, None]
                curved2 = (t - x * (i2 * along2)[:, None]) * i2[:, None]
                d_second -= curved1
                d_mixture = curved1 - curved2
            store_rows(p3, second, is_row, columns, width3, d_second)
            store_rows(p3, mixture, is_row, columns, width3, d_mixture)
