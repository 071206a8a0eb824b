"""What the fused losses cannot do, in words: an error where ``fused`` was asked for, else why it is the reference."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ungan_dist.kernels.blocks import MAX_CRITIC_WIDTH
from ungan_dist.kernels.critic.reference import Estimator, PenaltyOf, Surrogate


def obstacle_of_options(
    *, estimator: Estimator = "paired", surrogate: Surrogate = "cramer", penalty_of: PenaltyOf = "critic"
) -> str | None:
    """Why these options have no fused critic's loss, or none."""
    if estimator != "paired":
        return f"it has estimator='paired' alone, got {estimator!r}"
    if surrogate != "cramer":
        return f"it has surrogate='cramer' alone, got {surrogate!r}"
    if penalty_of not in ("critic", "embedding_sum"):
        return f"it has penalty_of 'critic' and 'embedding_sum', got {penalty_of!r}"
    return None


def obstacle_of_tensors(*tensors: Tensor) -> str | None:
    """Why these tensors together are no operands, or none."""
    kinds = {(tensor.dtype, tensor.device) for tensor in tensors}
    if len(kinds) > 1 or tensors[0].dtype not in (torch.float32, torch.bfloat16):
        found = sorted(f"{dtype} on {device}" for dtype, device in kinds)
        return f"it takes float32 or bfloat16, one of them on one device, got {', '.join(found)}"
    return None


def obstacle_of_critic(weights: Sequence[Tensor], *batches: Tensor) -> str | None:
    """Why this critic and its rows are none for it, or none."""
    width = max(max(weight.shape) for weight in weights)
    if width > MAX_CRITIC_WIDTH:
        return f"it takes widths up to {MAX_CRITIC_WIDTH}, got {width}"
    return obstacle_of_tensors(*weights, *batches)


def obstacle_of_recording(*batches: Tensor) -> str | None:
    """Why these rows cannot be differentiated through, or none."""
    if torch.is_grad_enabled() and any(z.requires_grad for z in batches):
        return "it differentiates with respect to the weights alone: detach z and epsilon"
    return None


def obstacle_of_places(weights: Sequence[Tensor]) -> str | None:
    """Why these weights cannot be changed where they lie, or none."""
    if not all(weight.is_contiguous() for weight in weights):
        return "it changes the weights where they lie, which must be contiguous"
    return None
