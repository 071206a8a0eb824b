"""Kernel launches of the fused adversarial losses, in their order."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
from torch import Tensor

from ungan_dist.kernels.blocks import CRITIC_REDUCE, CRITIC_ROWS, CRITIC_SPLIT_ROWS, Blocks, select_weight_blocks
from ungan_dist.kernels.critic.fused_rows import backward_kernel, embed_kernel
from ungan_dist.kernels.critic.fused_terms import critic_kernel
from ungan_dist.kernels.critic.fused_weights import descend_kernel, reduce_kernel, weights_kernel
from ungan_dist.kernels.critic.options import FusedOptions


def launch_critic_rows(
    weights: Sequence[Tensor],
    batches: Sequence[Tensor],
    options: FusedOptions,
    gradient: bool,
) -> tuple[tuple[Tensor, ...], Tensor]:
    """Run launches 1 to 3. Return five stacked batches of factors of the weight gradients, and each row's loss."""
    w1, _, w2, _, w3, _ = weights
    z_forget = batches[1]
    batch, (features, *widths) = len(z_forget), widths_of(weights)
    blocks = constants(CRITIC_ROWS, options.precision, z_forget)
    tiles = triton.cdiv(batch, CRITIC_ROWS.rows)
    r0, r1, r2, p1, p2, p3 = (z_forget.new_empty(5 * batch, width) for width in (features, *widths[:2], *widths))
    h = z_forget.new_empty(5 * batch, widths[2], dtype=torch.float32)
    row_loss = h.new_empty(batch)
    embed_kernel[tiles, 4](*batches, *weights, r0, r1, r2, h, batch, features, *widths, options.mixed_columns, **blocks)
    critic_kernel[tiles,](
        w1, w2, w3, r0, r1, r2, h, p1, p2, p3, row_loss, batch, features, *widths,
        options.surrogate_weight / batch, options.penalty_weight / batch,
        CRITIC=options.of_critic, SQUARED=options.squared, GRADIENT=gradient, **blocks,
    )  # fmt: skip
    if gradient:
        backward_kernel[tiles, 4](
            w1, w2, w3, r1, r2, p1, p2, p3, p3, batch, features, *widths, INPUT_GRADIENT=False, **blocks
        )
    return (r0, r1, r2, p1, p2, p3), row_loss


def launch_partial_gradients(stacked: Sequence[Tensor], num_rows: int, num_bias_rows: int, precision: str) -> Tensor:
    """Run launch 4. Return the flat weight gradient of each span of rows."""
    features, *widths = (part.shape[1] for part in (stacked[0], *stacked[3:]))
    layers = list(zip((features, *widths), widths, strict=False))
    num_splits = triton.cdiv(num_rows, CRITIC_SPLIT_ROWS)
    partial = stacked[0].new_empty(
        num_splits, sum(outputs * (inputs + 1) for inputs, outputs in layers), dtype=torch.float32
    )
    blocks = select_weight_blocks(max(features, *widths))
    tiles = sum(triton.cdiv(outputs, blocks.rows) * triton.cdiv(inputs, blocks.columns) for inputs, outputs in layers)
    weights_kernel[tiles, num_splits](
        *stacked, partial, num_rows, num_bias_rows, features, *widths,
        SPLIT=CRITIC_SPLIT_ROWS, **constants(blocks, precision, stacked[0]),
    )  # fmt: skip
    return partial


def launch_sum(partial: Tensor | None, row_loss: Tensor) -> tuple[Tensor, Tensor]:
    """Run launch 5. Return the loss and the flat gradient, which is empty if ``partial`` is None."""
    loss = row_loss.new_empty(())
    num_splits, size = (0, 0) if partial is None else partial.shape
    flat = row_loss.new_empty(size)
    reduce_kernel[triton.cdiv(size, CRITIC_REDUCE) + 1,](
        row_loss if partial is None else partial, num_splits, size, flat, row_loss, len(row_loss), loss,
        BLOCK=CRITIC_REDUCE,
    )  # fmt: skip
    return loss, flat


def launch_descent(
    partial: Tensor, row_loss: Tensor, weights: Sequence[Tensor], learning_rate: float, weight_decay: float
) -> Tensor:
    """Run launch 5 as an SGD step. Update the weights without storing the summed gradient, and return the loss."""
    loss = row_loss.new_empty(())
    num_splits, size = partial.shape
    descend_kernel[triton.cdiv(size, CRITIC_REDUCE) + 1,](
        partial, num_splits, size, *weights, *widths_of(weights), row_loss, len(row_loss), loss,
        learning_rate, weight_decay, BLOCK=CRITIC_REDUCE,
    )  # fmt: skip
    return loss


def contiguous(*tensors: Tensor) -> list[Tensor]:
    return [tensor.contiguous() for tensor in tensors]


def widths_of(weights: Sequence[Tensor]) -> list[int]:
    return [weights[0].shape[1], *(len(weight) for weight in weights[::2])]


def constants(blocks: Blocks, precision: str, operand: Tensor) -> dict[str, int | str | None]:
    return {
        "ROWS": blocks.rows,
        "COLUMNS": blocks.columns,
        "INNER": blocks.inner,
        "PRECISION": precision if operand.dtype == torch.float32 else "tf32",
        "num_warps": blocks.num_warps,
        "num_stages": blocks.num_stages,
        "maxnreg": blocks.max_registers,
    }
