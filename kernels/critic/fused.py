"""The fused operations of the adversarial steps: five launches for the critic's loss and all its gradients.

Launch 1 computes D of all rows, ẑ included. Launch 2 computes the surrogate and the penalty in closed form. Launch 3
goes back through the layers, launch 4 computes partial weight gradients, and launch 5 sums them and the loss. The
backward pass adds a sixth launch, which scales by the incoming gradient.
"""

# Annotations are not lazy here: torch reads an operation's schema from them, also through a type checker's wrapper.

import torch
import triton
from torch import Tensor

from ungan_dist.kernels.blocks import CRITIC_ROWS
from ungan_dist.kernels.critic.fused_launches import (
    constants,
    contiguous,
    launch_critic_rows,
    launch_descent,
    launch_partial_gradients,
    launch_sum,
    widths_of,
)
from ungan_dist.kernels.critic.fused_rows import backward_kernel, embed_kernel
from ungan_dist.kernels.critic.fused_terms import surrogate_kernel
from ungan_dist.kernels.critic.options import FusedOptions
from ungan_dist.kernels.gradients import scale_gradients, unflatten


@torch.library.custom_op("ungan_dist::critic_loss", mutates_args=())
def critic_loss(
    w1: Tensor,
    b1: Tensor,
    w2: Tensor,
    b2: Tensor,
    w3: Tensor,
    b3: Tensor,
    z_unseen: Tensor,
    z_forget: Tensor,
    z_forget2: Tensor,
    epsilon: Tensor,
    squared: bool,
    of_critic: bool,
    surrogate_weight: float,
    penalty_weight: float,
    mixed_columns: int,
    precision: str,
    gradient: bool,
) -> tuple[Tensor, Tensor]:
    """Compute ``surrogate_weight · L_sur + penalty_weight · penalty`` and its flat gradient by the weights."""
    weights, batches = contiguous(w1, b1, w2, b2, w3, b3), contiguous(z_unseen, z_forget, z_forget2, epsilon)
    stacked, row_loss = launch_critic_rows(
        weights,
        batches,
        FusedOptions(squared, of_critic, surrogate_weight, penalty_weight, mixed_columns, precision),
        gradient,
    )
    batch = len(z_forget)
    return launch_sum(
        launch_partial_gradients(stacked, 5 * batch, 4 * batch, precision) if gradient else None, row_loss
    )


@critic_loss.register_fake
def _(
    w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, w3: Tensor, b3: Tensor,
    z_unseen: Tensor, z_forget: Tensor, z_forget2: Tensor, epsilon: Tensor,
    squared: bool, of_critic: bool, surrogate_weight: float, penalty_weight: float, mixed_columns: int,
    precision: str, gradient: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    weights = (w1, b1, w2, b2, w3, b3)
    size = sum(weight.numel() for weight in weights) if gradient else 0
    return z_forget.new_empty((), dtype=torch.float32), z_forget.new_empty(size, dtype=torch.float32)


def _keep_weights(ctx: torch.autograd.function.FunctionCtx, inputs: tuple[object, ...], output: object) -> None:
    assert isinstance(output, tuple)
    ctx.save_for_backward(output[1], *(weight for weight in inputs[:6] if isinstance(weight, Tensor)))


def _critic_backward(
    ctx: torch.autograd.function.FunctionCtx, arriving: Tensor, _flat: Tensor | None
) -> tuple[Tensor | None, ...]:
    flat, *weights = ctx.saved_tensors  # pyright: ignore[reportAttributeAccessIssue]
    return (*unflatten(scale_gradients(arriving, flat, weights), weights), *(None,) * 11)


critic_loss.register_autograd(_critic_backward, setup_context=_keep_weights)


@torch.library.custom_op("ungan_dist::critic_sgd_step", mutates_args=("w1", "b1", "w2", "b2", "w3", "b3"))
def critic_sgd_step(
    w1: Tensor,
    b1: Tensor,
    w2: Tensor,
    b2: Tensor,
    w3: Tensor,
    b3: Tensor,
    z_unseen: Tensor,
    z_forget: Tensor,
    z_forget2: Tensor,
    epsilon: Tensor,
    squared: bool,
    of_critic: bool,
    surrogate_weight: float,
    penalty_weight: float,
    mixed_columns: int,
    precision: str,
    learning_rate: float,
    weight_decay: float,
) -> Tensor:
    """Update contiguous weights by an SGD step on the same loss, without storing the gradient."""
    weights, batches = [w1, b1, w2, b2, w3, b3], contiguous(z_unseen, z_forget, z_forget2, epsilon)
    stacked, row_loss = launch_critic_rows(
        weights,
        batches,
        FusedOptions(squared, of_critic, surrogate_weight, penalty_weight, mixed_columns, precision),
        True,
    )
    partial = launch_partial_gradients(stacked, 5 * len(z_forget), 4 * len(z_forget), precision)
    return launch_descent(partial, row_loss, weights, learning_rate, weight_decay)


@critic_sgd_step.register_fake
def _(
    w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, w3: Tensor, b3: Tensor,
    z_unseen: Tensor, z_forget: Tensor, z_forget2: Tensor, epsilon: Tensor,
    squared: bool, of_critic: bool, surrogate_weight: float, penalty_weight: float, mixed_columns: int,
    precision: str, learning_rate: float, weight_decay: float,
) -> Tensor:  # fmt: skip
    return z_forget.new_empty((), dtype=torch.float32)


@torch.library.custom_op("ungan_dist::generator_loss", mutates_args=())
def generator_loss(
    w1: Tensor,
    b1: Tensor,
    w2: Tensor,
    b2: Tensor,
    w3: Tensor,
    b3: Tensor,
    z_unseen: Tensor,
    z_forget: Tensor,
    z_forget2: Tensor,
    precision: str,
    input_gradient: bool,
    weight_gradient: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute eq. 6, its stacked gradients by the three inputs, and its flat gradient by the weights."""
    weights = contiguous(w1, b1, w2, b2, w3, b3)
    w1, b1, w2, b2, w3, b3 = weights
    z_unseen, z_forget, z_forget2 = contiguous(z_unseen, z_forget, z_forget2)
    batch, (features, *widths) = len(z_forget), widths_of(weights)
    blocks = constants(CRITIC_ROWS, precision, z_forget)
    tiles = triton.cdiv(batch, CRITIC_ROWS.rows)
    r0, r1, r2, p1, p2, p3 = (z_forget.new_empty(3 * batch, width) for width in (features, *widths[:2], *widths))
    h = z_forget.new_empty(3 * batch, widths[2], dtype=torch.float32)
    row_loss = h.new_empty(batch)
    gradients = h.new_empty(3 if input_gradient else 0, batch, features)
    embed_kernel[tiles, 3](
        z_unseen, z_forget, z_forget2, row_loss, *weights, r0, r1, r2, h, batch, features, *widths, 0, **blocks
    )
    surrogate_kernel[tiles,](
        *h.split(batch), row_loss, *p3.split(batch), batch, widths[2], 1 / batch,
        GENERATOR=True, ROWS=CRITIC_ROWS.rows, COLUMNS=CRITIC_ROWS.columns, num_warps=CRITIC_ROWS.num_warps,
    )  # fmt: skip
    if input_gradient or weight_gradient:
        backward_kernel[tiles, 3](
            w1, w2, w3, r1, r2, p1, p2, p3, gradients, batch, features, *widths,
            INPUT_GRADIENT=input_gradient, **blocks,
        )  # fmt: skip
    stacked = (r0, r1, r2, p1, p2, p3)
    loss, flat = launch_sum(
        launch_partial_gradients(stacked, 3 * batch, 3 * batch, precision) if weight_gradient else None, row_loss
    )
    return loss, gradients, flat


@generator_loss.register_fake
def _(
    w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, w3: Tensor, b3: Tensor,
    z_unseen: Tensor, z_forget: Tensor, z_forget2: Tensor,
    precision: str, input_gradient: bool, weight_gradient: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    size = sum(weight.numel() for weight in (w1, b1, w2, b2, w3, b3)) if weight_gradient else 0
    inputs = z_forget.new_empty((3 if input_gradient else 0, *z_forget.shape), dtype=torch.float32)
    return inputs.new_empty(()), inputs, inputs.new_empty(size)


def _keep_all(ctx: torch.autograd.function.FunctionCtx, inputs: tuple[object, ...], output: object) -> None:
    assert isinstance(output, tuple)
    ctx.save_for_backward(*output[1:], *(tensor for tensor in inputs[:9] if isinstance(tensor, Tensor)))


def _generator_backward(
    ctx: torch.autograd.function.FunctionCtx, arriving: Tensor, *_gradients: Tensor | None
) -> tuple[Tensor | None, ...]:
    stacked, flat, *inputs = ctx.saved_tensors  # pyright: ignore[reportAttributeAccessIssue]
    weights: list[Tensor | None] = [None] * 6
    if len(flat):
        weights = [*unflatten(scale_gradients(arriving, flat, inputs), inputs[:6])]
    rows: list[Tensor | None] = [None] * 3
    if len(stacked):
        rows = [*scale_gradients(arriving, stacked, inputs).unbind()]
    return (*weights, *rows, None, None, None)


generator_loss.register_autograd(_generator_backward, setup_context=_keep_all)


@torch.library.custom_op("ungan_dist::cramer_surrogate", mutates_args=())
def cramer_surrogate(h_unseen: Tensor, h_forget: Tensor, h_forget2: Tensor) -> tuple[Tensor, Tensor]:
    """Compute eq. 8 and its stacked gradients with respect to the three embeddings."""
    h_unseen, h_forget, h_forget2 = contiguous(h_unseen, h_forget, h_forget2)
    batch, width = h_forget.shape
    blocks = CRITIC_ROWS
    gradients = h_forget.new_empty(3, batch, width, dtype=torch.float32)
    row_loss = gradients.new_empty(batch)
    surrogate_kernel[triton.cdiv(batch, blocks.rows),](
        h_unseen, h_forget, h_forget2, row_loss, *gradients.unbind(), batch, width, 1 / batch,
        GENERATOR=False, ROWS=blocks.rows, COLUMNS=blocks.columns, num_warps=blocks.num_warps,
    )  # fmt: skip
    return launch_sum(None, row_loss)[0], gradients


@cramer_surrogate.register_fake
def _(h_unseen: Tensor, h_forget: Tensor, h_forget2: Tensor) -> tuple[Tensor, Tensor]:
    gradients = h_forget.new_empty((3, *h_forget.shape), dtype=torch.float32)
    return gradients.new_empty(()), gradients


def _keep_embeddings(ctx: torch.autograd.function.FunctionCtx, inputs: tuple[object, ...], output: object) -> None:
    assert isinstance(output, tuple)
    ctx.save_for_backward(output[1], *(tensor for tensor in inputs if isinstance(tensor, Tensor)))


def _surrogate_backward(
    ctx: torch.autograd.function.FunctionCtx, arriving: Tensor, _gradients: Tensor | None
) -> tuple[Tensor, ...]:
    gradients, *inputs = ctx.saved_tensors  # pyright: ignore[reportAttributeAccessIssue]
    return scale_gradients(arriving, gradients, inputs).unbind()


cramer_surrogate.register_autograd(_surrogate_backward, setup_context=_keep_embeddings)
